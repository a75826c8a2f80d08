"""Processes that wait for commands: a run on two ranks costs no start of two interpreters."""

import json
import os
import subprocess
import sys

from torch.distributed import TCPStore

SERVE = """
import json, os, sys
from click.testing import CliRunner
from transeg.cli import main
from transeg.core.distributed.collectives import leave_ranks

for line in sys.stdin:
    port, arguments = json.loads(line)
    os.environ["MASTER_PORT"] = str(port)
    result = CliRunner().invoke(main, arguments)
    leave_ranks()
    print(json.dumps([result.exit_code, result.stdout, result.stderr]), flush=True)
"""


class Ranks:
    """As many processes as ranks; each command is run by all of them together."""

    def __init__(self, count: int) -> None:
        common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-c", SERVE],
                env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(count)
        ]

    def __call__(self, *arguments, code=0):
        """What each rank has said: (standard output, standard error)."""
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        for process in self._processes:
            process.stdin.write(json.dumps([store.port, [str(argument) for argument in arguments]]) + "\n")
            process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for process in self._processes]
        assert [answer[0] for answer in answers] == [code] * len(answers), answers
        return [tuple(answer[1:]) for answer in answers]

    def close(self):
        for process in self._processes:
            process.kill()
            process.wait()
