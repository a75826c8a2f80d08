"""Several processes of one command on this machine: started, and watched until they end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, PContext, start_processes
from torch.distributed.elastic.multiprocessing.api import RunProcsResult, SignalException

from transeg.core.device import available_cores
from transeg.core.distributed.ranks import QUIET, WATCHED
from transeg.core.errors import TransegError, UsageError
from transeg.core.runs.run_folder import RunFolder

PERIOD = 0.2
"""Seconds between two looks at the processes."""


def check_gpus(count: int, device: str) -> None:
    """Whether there is a GPU for each process, where they are to train on GPUs.

    Raises:
        UsageError: there are too few.
    """
    there = torch.cuda.device_count()
    if device.startswith("cuda") and count > there:
        raise UsageError(
            f"--devices {count}: this machine has {there} GPU{'s' * (there != 1)}; say --devices {there}, or "
            "--device cpu."
        )


def run_processes(count: int, arguments: Sequence[str], folder: RunFolder) -> int:
    """Run the toolkit in several processes, as ranks 0, 1, ... of one run.

    The first signal goes on to all of them, once each, so that they stop after an iteration; another one ends them at
    once. When one of them fails or is killed, the others are ended.

    Args:
        count: how many.
        arguments: of the command line, the same for all.
        folder: of the run.

    Returns:
        The exit code of the process that failed first, 0 where none did; it has said itself what happened.

    Raises:
        TransegError: one of them was killed, or all of them were at once.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what it reports is said here
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with tempfile.TemporaryDirectory() as notes:
        context = start_processes(
            "transeg",
            sys.executable,
            args=dict.fromkeys(range(count), ("-m", "transeg", *arguments)),
            envs={rank: _environment(rank, count, store.port) for rank in range(count)},
            logs_specs=DefaultLogsSpecs(log_dir=notes),
        )
        result, stopped = _watched(context, folder)
    if not result.failures:
        return 0
    rank, code = _first(result)
    if code > 0:
        return code
    if stopped:
        raise TransegError(f"Stopped.{_way_on(folder)}")
    name = signal.Signals(-code).name
    memory = "; unless somebody did that, memory ran out" if -code == signal.SIGKILL else ""
    raise TransegError(f"Process {rank} of {count} (0 is the first) was killed with {name}{memory}.{_way_on(folder)}")


def _environment(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun says to a process; the cores are shared out."""
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, available_cores() // count)))
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "OMP_NUM_THREADS": threads,
        **QUIET,
        WATCHED: str(os.getpid()),
    }


def _watched(context: PContext, folder: RunFolder) -> tuple[RunProcsResult, bool]:
    """Wait for the end of all processes, or of one that fails; and say whether a signal asked them to stop."""
    stopping = False
    while True:
        try:
            result = context.wait(period=PERIOD)
            assert result is not None
            return result, stopping
        except SignalException as caught:
            if stopping:
                context.close(signal.SIGKILL)
                raise TransegError(f"Stopped at once.{_way_on(folder)}") from caught
            stopping = True
            for process in context.pids().values():  # these alone: loaders' workers end with them
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGTERM)


def _first(result: RunProcsResult) -> tuple[int, int]:
    """Rank and exit code of the process that others ended for: one that was killed, else the first that failed."""
    codes: Mapping[int, int] = {rank: failure.exitcode for rank, failure in result.failures.items()}
    began = min(failure.timestamp for failure in result.failures.values())
    at_first = [rank for rank, failure in result.failures.items() if failure.timestamp <= began + 1]  # later: by us
    killed = [rank for rank in at_first if codes[rank] < 0 and -codes[rank] != signal.SIGTERM]  # which ends the others
    rank = (killed or at_first)[0]
    return rank, codes[rank] if codes[rank] < 0 else max(codes.values())


def _way_on(folder: RunFolder) -> str:
    return f" The last checkpoint is whole. {folder.go_on}" if folder.has_checkpoint() else ""
