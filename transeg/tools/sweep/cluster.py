"""Trains the cells of a sweep in jobs of a scheduler: each is a worker that takes cells for as long as there are any.

Workers meet in the sweep's folder alone, which all machines must see: a cell is claimed by its lock, as by any process
of `toolkit sweep`, and what was interrupted goes on from its checkpoint.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from transeg.core.errors import TransegError, UsageError, did_you_mean
from transeg.core.evaluation.numbers import pluralise
from transeg.core.optional_packages import require
from transeg.core.registry import Registry
from transeg.tools.sweep.live import LiveTable
from transeg.tools.sweep.sweep_folder import Sweep, read_sweep
from transeg.tools.sweep.work import Child, run_cells, stop_children

if TYPE_CHECKING:
    import submitit

POLL_SECONDS = 5.0
LONG = 24 * 60
"""Minutes that a job may take where nothing is said; it is queued again until everything is done."""
QUEUED_AGAIN = 1000
"""Times at most."""
NOTICE = 120
"""Seconds before that at which it is told, so that trainings write a checkpoint."""


@dataclass(frozen=True)
class Cluster:
    """A scheduler, and what it is asked for each job.

    Attributes:
        name: ``slurm``, or ``local`` for processes of this machine.
        options: of `sbatch`, by the names that submitit has for them: ``partition``, ``time`` in minutes,
            ``gpus_per_node``, ``cpus_per_task``, ``mem``, ``account``, ...
    """

    name: str
    options: Mapping[str, str]

    @property
    def device(self) -> str:
        """What jobs compute on where nobody says it: a GPU where one is asked for."""
        return "cuda" if any("gpu" in name or name == "gres" for name in self.options) else "cpu"


def cluster_from_options(name: str | None, options: Sequence[str]) -> Cluster | None:
    """A scheduler as on the command line; None for this process.

    Raises:
        UsageError: its options are without it, or none, or submitit is missing.
    """
    if name is None:
        if options:
            raise UsageError(f"--cluster-option {options[0]} is for a scheduler; say --cluster slurm, too.")
        return None
    require("submitit", "cluster", f"--cluster {name}")
    import submitit

    known = submitit.SlurmExecutor._valid_parameters()
    found = {}
    for text in options:
        option, sign, value = text.partition("=")
        if not sign or not value:
            raise UsageError(f"--cluster-option {text!r} is not of the form NAME=VALUE, as in partition=gpu.")
        if option not in known:
            raise UsageError(f"--cluster-option {option}: no such option of a job.{did_you_mean(option, known)}")
        found[option] = value
    if not found.get("time", "1").isdigit():
        raise UsageError(f"--cluster-option time={found['time']} must be a number of minutes, as in time=240.")
    return Cluster(name, found)


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
        submitted = f"{pluralise(len(jobs), 'job')} of {cluster.name}: {_number(jobs)}"
        console.print(f"{submitted}; what they say is in {_logs(sweep)}", highlight=False)
    try:
        with LiveTable(sweep, console) as board:
            while _left(sweep) and (_are_trained(sweep) or _are_alive(jobs, cluster)):
                board.update()
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        stop = f" To stop them: scancel {_number(jobs)}" if jobs and cluster.name == "slurm" else ""
        raise TransegError(
            f"Jobs go on without this process; the same command watches the sweep again.{stop}"
        ) from None
    if count := _left(sweep):
        said = [str(job.exception()) for job in jobs if job.paths.result_pickle.exists() and job.exception()]
        why = f": {said[0].strip().splitlines()[-1]}" if said else ""
        raise TransegError(
            f"No job of this command is left, but {pluralise(count, 'cell')} of the sweep must be trained yet{why}. "
            f"What jobs said is in {_logs(sweep)}; the same command goes on."
        )


def _number(jobs: Sequence[submitit.Job[Any]]) -> str:
    """Of the array."""
    return str(jobs[0].job_id.partition("_")[0])


def _are_trained(sweep: Sweep) -> bool:
    """Whether any job or process trains a cell now, those of earlier commands included."""
    return any(cell.state() == "running" for cell in sweep.cells)


def _left(sweep: Sweep) -> int:
    """How many cells are not trained yet."""
    return sum(cell.state() in ("waiting", "running") for cell in sweep.cells)


def _are_alive(jobs: Sequence[submitit.Job[Any]], cluster: Cluster) -> bool:
    """Whether any job is queued or runs. Slurm's queue is asked, since not every cluster keeps accounts."""
    if cluster.name == "local":
        return not all(job.done() for job in jobs)
    if not jobs:
        return False
    command = ["squeue", "--noheader", "--jobs", _number(jobs)]
    return bool(subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip())


def _logs(sweep: Sweep) -> Path:
    return sweep.path / "jobs"


def _submit(sweep: Sweep, registry: Registry, cluster: Cluster, device: str, count: int) -> list[submitit.Job[Any]]:
    """An array of workers.

    Raises:
        TransegError: the scheduler refuses it.
    """
    import submitit

    worker = SweepWorker(sweep.path.resolve(), [Path(file).resolve() for file in registry.files], device)
    try:
        executor = submitit.AutoExecutor(_logs(sweep), cluster=cluster.name, slurm_max_num_timeout=QUEUED_AGAIN)
        own = {f"slurm_{name}": int(text) if text.isdigit() else text for name, text in cluster.options.items()}
        minutes = own.pop("slurm_time", LONG)
        executor.update_parameters(name="transeg", timeout_min=minutes, slurm_signal_delay_s=NOTICE, **own)
        with executor.batch():
            return [executor.submit(worker) for _ in range(count)]
    except (OSError, RuntimeError, submitit.core.utils.FailedJobError) as error:
        raise TransegError(f"The scheduler {cluster.name} takes no jobs: {str(error).strip()}.") from error
