"""A scheduler whose jobs train: workers that take what there is to do for as long as there is any."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transeg.core.errors import TransegError, UsageError, did_you_mean
from transeg.core.optional_packages import require

if TYPE_CHECKING:
    import submitit

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


def submit(cluster: Cluster, worker: Callable[[], None], count: int, logs: Path) -> list[submitit.Job[Any]]:
    """An array of jobs that do the same.

    Args:
        cluster: where to.
        worker: what each does; with a method ``checkpoint``, see submitit, also when its time is almost up.
        count: of jobs.
        logs: folder for what they say.

    Raises:
        TransegError: the scheduler refuses it.
    """
    import submitit

    try:
        executor = submitit.AutoExecutor(logs, cluster=cluster.name, slurm_max_num_timeout=QUEUED_AGAIN)
        own = {f"slurm_{name}": int(text) if text.isdigit() else text for name, text in cluster.options.items()}
        minutes = own.pop("slurm_time", LONG)
        executor.update_parameters(name="transeg", timeout_min=minutes, slurm_signal_delay_s=NOTICE, **own)
        with executor.batch():
            return [executor.submit(worker) for _ in range(count)]
    except (OSError, RuntimeError, submitit.core.utils.FailedJobError) as error:
        raise TransegError(f"The scheduler {cluster.name} takes no jobs: {str(error).strip()}.") from error


def are_alive(jobs: Sequence[submitit.Job[Any]], cluster: Cluster) -> bool:
    """Whether any job is queued or runs. Slurm's queue is asked, since not every cluster keeps accounts."""
    if cluster.name == "local":
        return not all(job.done() for job in jobs)
    if not jobs:
        return False
    command = ["squeue", "--noheader", "--jobs", array_number(jobs)]
    return bool(subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip())


def array_number(jobs: Sequence[submitit.Job[Any]]) -> str:
    """By which the scheduler knows all of them."""
    return str(jobs[0].job_id.partition("_")[0])


def reason_of_end(jobs: Sequence[submitit.Job[Any]]) -> str:
    """Why the first of those failed that have, behind a colon; '' where none has said."""
    said = [str(job.exception()) for job in jobs if job.paths.result_pickle.exists() and job.exception()]
    return f": {said[0].strip().splitlines()[-1]}" if said else ""


def how_to_stop(jobs: Sequence[submitit.Job[Any]], cluster: Cluster) -> str:
    """What to type where jobs are not to go on, as a sentence; '' where there is nothing to stop."""
    return f" To stop them: scancel {array_number(jobs)}" if jobs and cluster.name == "slurm" else ""
