"""Trains the cells of a sweep, each in a process of its own, so that none takes another down with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import torch
from filelock import FileLock, Timeout
from rich.console import Console

from transeg.core.errors import describe_exit_code
from transeg.core.files import write_json
from transeg.core.registry import Registry
from transeg.tools.common.child import bound_to_this_process
from transeg.tools.sweep.live import LiveTable
from transeg.tools.sweep.sweep_folder import Cell, Sweep

POLL_SECONDS = 0.5


@dataclass
class Child:
    """The process that trains a cell.

    Attributes:
        cell: the cell.
        process: its process.
        claim: keeps other sweeping processes from the cell.
        device: that it trains on.
        begin: where its output begins in the cell's log.
    """

    cell: Cell
    process: subprocess.Popen[bytes]
    claim: FileLock
    device: str
    begin: int

    def conclude(self, interrupted: bool) -> None:
        """Note why it failed, unless it was told to stop, and let go of the cell."""
        if not interrupted and not self.cell.folder.metrics.exists():
            write_json(self.cell.failure, {"reason": self._reason(), "exit_code": self.process.returncode})
        self.claim.release()

    def _reason(self) -> str:
        code = self.process.returncode
        said = self.cell.log.read_bytes()[self.begin :].decode("utf-8", errors="replace")
        _, error, sentence = said.rpartition("\nError: ")
        if code > 0 and error:
            return " ".join(sentence.split())
        return f"{describe_exit_code(code)[0].upper()}{describe_exit_code(code)[1:]}; see {self.cell.log}."


def run_cells(
    sweep: Sweep,
    registry: Registry,
    console: Console,
    *,
    devices: Sequence[str],
    retry: bool,
    running: list[Child] | None = None,
) -> bool:
    """Train what is waiting until there is nothing left that this process could begin.

    Cells that other sweeping processes train are left to them; orphans, which stop soon, are waited for. The first
    Ctrl-C, or SIGTERM, lets all children write a checkpoint and stop, a second one stops them at once.

    Args:
        sweep: whose cells have their definitions.
        registry: where components come from.
        console: for the table, or lines on a pipe.
        devices: one for each cell that is trained at a time; the same one may recur.
        retry: whether cells that have failed are begun once more.
        running: the trainings of this moment, for a caller whose own signals end it; see :func:`stop_children`.

    Returns:
        Whether a signal ended it.
    """
    running = [] if running is None else running
    told = 0
    free = list(devices)
    threads = max(1, torch.get_num_threads() // devices.count("cpu")) if "cpu" in devices else None
    untried = [cell for cell in sweep.cells if cell.state() != "failed" or retry]
    with _signals() as signals, LiveTable(sweep, console) as board:
        while True:
            for child in [child for child in running if child.process.poll() is not None]:
                running.remove(child)
                free.append(child.device)
                child.conclude(interrupted=bool(signals))
                board.ended(child.cell)
            while free and not signals and (claimed := _claimed(untried, retry)):
                running.append(_start(*claimed, free.pop(0), threads, registry))
                board.begun(running[-1].cell)
            if len(signals) > told:
                told += 1
                board.stopping()
                for child in running:
                    child.process.terminate()
            if not running and (signals or not any(_is_open(cell, retry) or cell.orphaned() for cell in untried)):
                return bool(signals)
            board.update()
            time.sleep(POLL_SECONDS)


def stop_children(running: list[Child]) -> None:
    """Let trainings write a checkpoint and stop, and wait for that."""
    for child in running:
        child.process.terminate()
    while running:
        child = running.pop()
        child.process.wait()
        child.claim.release()


def _is_open(cell: Cell, retry: bool) -> bool:
    """Whether a process may begin a cell; what has failed meanwhile in another one waits for a retry, too."""
    state = cell.state()
    return state == "waiting" or (retry and state == "failed")


def _claimed(untried: list[Cell], retry: bool) -> tuple[Cell, FileLock] | None:
    """The first cell that nobody has, now this process's; it is taken from the list."""
    for cell in untried:
        if not _is_open(cell, retry):
            continue
        claim = FileLock(cell.claim)
        try:
            claim.acquire(timeout=0)
        except Timeout:  # perhaps by one that only asks for its state
            continue
        if cell.folder.metrics.exists() or (cell.failure.exists() and not retry):  # another process was just at it
            claim.release()
            continue
        untried.remove(cell)
        return cell, claim
    return None


def cell_command(cell: Cell, device: str, registry: Registry) -> list[str]:
    """What trains a cell, from its beginning or from its checkpoint on."""
    files = [text for file in registry.files for text in ("--registry", str(file))]
    where = ["--config", str(cell.definition), "--run-dir", str(cell.folder.path)]
    where += ["--shared", str(cell.shared)]
    return [sys.executable, "-m", "transeg", "run", "--resume", "--device", device, *where, *files]


def _start(cell: Cell, claim: FileLock, device: str, threads: int | None, registry: Registry) -> Child:
    cell.failure.unlink(missing_ok=True)
    command = bound_to_this_process(cell_command(cell, device, registry))
    environment = os.environ if threads is None else {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with cell.log.open("ab") as log:
        # a session of its own: Ctrl-C is for this process, which passes it on once
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        return Child(cell, process, claim, device, log.tell())


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect signals to stop in place of ending by them."""
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
