"""Trains the cells of a sweep in jobs of a scheduler: each is a worker that takes cells for as long as there are any.

Workers meet in the sweep's folder alone, which all machines must see: a cell is claimed by its lock, as by any process
of `toolkit sweep`, and what was interrupted goes on from its checkpoint.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from transeg.core.errors import TransegError
from transeg.core.evaluation.numbers import pluralise
from transeg.core.registry import Registry
from transeg.tools.common.scheduler import Cluster, are_alive, array_number, how_to_stop, reason_of_end, submit
from transeg.tools.sweep.live import LiveTable
from transeg.tools.sweep.sweep_folder import Sweep, read_sweep
from transeg.tools.sweep.work import Child, run_cells, stop_children

if TYPE_CHECKING:
    import submitit

POLL_SECONDS = 5.0


@dataclass
class SweepWorker:
    """What a job does.

    Attributes:
        sweep: path of its folder.
        files: manifests that were named.
        device: that it trains on.
        running: its trainings, in the job.
    """

    sweep: Path
    files: list[Path]
    device: str
    running: list[Child] = field(default_factory=list)

    def __call__(self) -> None:
        sweep, devices = read_sweep(self.sweep), [self.device]
        run_cells(sweep, Registry(self.files), Console(), devices=devices, retry=False, running=self.running)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Called by submitit in a handler of the signal that says that the time of a job is almost up: what is queued
        again is a worker like this. Nothing of the job outlives that, so its trainings must have stopped before.
        """
        import submitit

        stop_children(self.running)
        return submitit.helpers.DelayedSubmission(SweepWorker(self.sweep, self.files, self.device))


def run_on_cluster(
    sweep: Sweep, registry: Registry, console: Console, cluster: Cluster, *, device: str, workers: int, retry: bool
) -> None:
    """Submit workers, and watch until they have ended or nothing is left.

    Args:
        sweep: whose cells have their definitions.
        registry: where components come from.
        console: for the table, or lines on a pipe.
        cluster: where to.
        device: that each worker trains on.
        workers: how many there are at most.
        retry: whether cells that have failed are begun once more.

    Raises:
        TransegError: Ctrl-C ended the watching, or jobs have ended before everything was trained.
    """
    for cell in sweep.cells if retry else ():
        cell.failure.unlink(missing_ok=True)
    jobs: list[submitit.Job[Any]] = []
    waiting = sum(cell.state() == "waiting" for cell in sweep.cells)
    if waiting:
        jobs = _submit(sweep, registry, cluster, device, min(workers, waiting))
        submitted = f"{pluralise(len(jobs), 'job')} of {cluster.name}: {array_number(jobs)}"
        console.print(f"{submitted}; what they say is in {_logs(sweep)}", highlight=False)
    try:
        with LiveTable(sweep, console) as board:
            while _left(sweep) and (_are_trained(sweep) or are_alive(jobs, cluster)):
                board.update()
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        raise TransegError(
            f"Jobs go on without this process; the same command watches the sweep again.{how_to_stop(jobs, cluster)}"
        ) from None
    if count := _left(sweep):
        raise TransegError(
            f"No job of this command is left, but {pluralise(count, 'cell')} of the sweep must be trained "
            f"yet{reason_of_end(jobs)}. What jobs said is in {_logs(sweep)}; the same command goes on."
        )


def _are_trained(sweep: Sweep) -> bool:
    """Whether any job or process trains a cell now, those of earlier commands included."""
    return any(cell.state() == "running" for cell in sweep.cells)


def _left(sweep: Sweep) -> int:
    """How many cells are not trained yet."""
    return sum(cell.state() in ("waiting", "running") for cell in sweep.cells)


def _logs(sweep: Sweep) -> Path:
    return sweep.path / "jobs"


def _submit(sweep: Sweep, registry: Registry, cluster: Cluster, device: str, count: int) -> list[submitit.Job[Any]]:
    worker = SweepWorker(sweep.path.resolve(), [Path(file).resolve() for file in registry.files], device)
    return submit(cluster, worker, count, _logs(sweep))
