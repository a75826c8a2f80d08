"""Processes that need not import what trainings import: they are forked from one that has.

To import it all costs several times the CPU seconds of a tiny training. What a start itself does is for tests that use
the fixture `process`.
"""

import atexit
import gc
import os
import subprocess
import sys
import tempfile
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from torch.distributed import TCPStore

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "click.testing",
        "torch._dynamo",
        "torch.utils.tensorboard",
        "scipy.ndimage",
        "transeg.core.data.augmentation",
        "albumentations",
        "transeg.core.pipeline.launch",
        "transeg.core.pipeline.run",
        "transeg.tools.run.command",
    ]
)


class Fork:
    """The command line, in a process of its own; used as a `subprocess.Popen` is.

    Args:
        arguments: of the command.
    """

    def __init__(self, *arguments) -> None:
        self._said = [tempfile.NamedTemporaryFile("r") for _ in range(2)]  # noqa: SIM115  # read when it has ended
        names = [file.name for file in self._said]
        words = [str(argument) for argument in arguments]
        self._process = FORKS.Process(target=_command, args=(words, names, Path.cwd(), {**os.environ}))
        self._process.start()
        self.pid = self._process.pid

    def poll(self):
        return self._process.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def communicate(self, timeout=None):
        """Wait for its end; what it has said: (standard output, standard error)."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.pid, timeout)
        return tuple(file.read() for file in self._said)

    @property
    def returncode(self):
        return self._process.exitcode


def forked(*arguments):
    """What `subprocess.run` gives, of a fork."""
    fork = Fork(*arguments)
    output, error = fork.communicate()
    return subprocess.CompletedProcess(arguments, fork.returncode, output, error)


def _command(arguments, names, folder, environment):
    import numpy

    from transeg.cli import main

    gc.freeze()  # what is imported: collections would copy the pages of all of it
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["toolkit", *arguments]
    numpy.random.seed()  # else all forks draw the same, and none says so
    for number, name in enumerate(names, start=1):
        output = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.dup2(output, number)
        os.close(output)
    try:
        main(prog_name="toolkit")
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out


class Ranks:
    """As many processes as ranks; each command is run by all of them together."""

    def __init__(self, count: int) -> None:
        common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
        self._connections, self._processes = [], []
        for rank in range(count):
            ours, theirs = FORKS.Pipe()
            variables = {**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
            process = FORKS.Process(target=_serve, args=(theirs, variables))
            process.start()
            theirs.close()
            self._connections.append(ours)
            self._processes.append(process)

    def __call__(self, *arguments, code=0):
        """What each rank has said: (standard output, standard error)."""
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        for connection in self._connections:
            connection.send((store.port, [str(argument) for argument in arguments]))
        answers = [connection.recv() for connection in self._connections]
        assert [answer[0] for answer in answers] == [code] * len(answers), answers
        return [answer[1:] for answer in answers]

    def close(self):
        for process in self._processes:
            process.kill()
            process.join()


def _serve(connection: Connection, environment):
    from click.testing import CliRunner

    from transeg.cli import main
    from transeg.core.distributed.collectives import leave_ranks

    gc.freeze()
    os.environ.clear()
    os.environ.update(environment)
    while True:
        port, arguments = connection.recv()
        os.environ["MASTER_PORT"] = str(port)
        result = CliRunner().invoke(main, arguments)
        leave_ranks()
        connection.send((result.exit_code, result.stdout, result.stderr))
