"""Trains the trials of a search in jobs of a scheduler: each is a worker of the study, as started beside the others."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from rich.console import Console

from transeg.core.device import check_device_name
from transeg.core.errors import TransegError, UsageError
from transeg.core.evaluation.numbers import pluralise
from transeg.core.registry import Registry
from transeg.tools.common.scheduler import (
    Cluster,
    are_alive,
    array_number,
    cluster_from_options,
    how_to_stop,
    reason_of_end,
    submit,
)
from transeg.tools.search.display import Display
from transeg.tools.search.job import SearchWorker
from transeg.tools.search.plan import Plan
from transeg.tools.search.worker import (
    check_hopeless,
    describe_trial,
    ended_trials,
    free_stale,
    is_any_running,
    note_on_best,
)

if TYPE_CHECKING:
    import submitit

POLL_SECONDS = 5.0
STORAGE = "TRANSEG_STORAGE"
"""The variable by which jobs learn of the database: they inherit it, and so a password is written into none of their
files."""


@dataclass(frozen=True)
class Jobs:
    """Jobs that work on a search.

    Attributes:
        cluster: where they are.
        count: how many at most.
        device: that each trains on.
        timeout: seconds after which each begins no trial; None for ever.
    """

    cluster: Cluster
    count: int
    device: str
    timeout: float | None

    def fitted(self, plan: Plan) -> Plan:
        """A plan for jobs, which say what they compute on themselves.

        Raises:
            UsageError: not all of them could reach its database.
        """
        if self.cluster.name == "slurm" and not plan.study.storage:
            raise UsageError(
                "--cluster slurm needs a database that all its machines reach, since the locks of SQLite hold on one "
                "machine alone; say --storage postgresql://USER@HOST/DATABASE or mysql://..."
            )
        return replace(plan, settings={name: value for name, value in plan.settings.items() if name != "device"})


def jobs_from_options(
    name: str | None, options: Sequence[str], count: int | None, *, device: str | None, timeout: float | None
) -> Jobs | None:
    """The jobs of a command line; None where this process trains.

    Args:
        name: of the scheduler.
        options: what each job asks for.
        count: of jobs at most; None for one.
        device: that each trains on; None for what follows from the options.
        timeout: see :class:`Jobs`.

    Raises:
        UsageError: they do not go together.
    """
    cluster = cluster_from_options(name, options)
    if cluster is None:
        if count is not None:
            raise UsageError("--jobs is for a scheduler; say --cluster slurm, too.")
        return None
    if device is not None:
        check_device_name(device)
    return Jobs(cluster, count or 1, device or cluster.device, timeout)


def run_jobs(plan: Plan, study: optuna.Study, jobs: Jobs, registry: Registry, console: Console) -> None:
    """Submit workers, and watch until they have ended or there are enough trials.

    Args:
        plan: of the search, whose folder is written.
        study: that the jobs work on.
        jobs: what works.
        registry: where components come from.
        console: for the bar, or lines on a pipe.

    Raises:
        TransegError: Ctrl-C ended the watching, every trial fails, or jobs have ended before there were enough.
    """
    wanted, logs = plan.study.trials, plan.folder.path / "jobs"
    submitted: list[submitit.Job[Any]] = []
    if left := wanted - len(ended_trials(study)):
        if plan.study.storage:
            os.environ[STORAGE] = plan.storage.render_as_string(hide_password=False)
        files = [Path(file).resolve() for file in registry.files]
        worker = SearchWorker(plan.folder.path.resolve(), files, jobs.device, jobs.timeout)
        submitted = submit(jobs.cluster, worker, min(jobs.count, left), logs)
        about = f"{pluralise(len(submitted), 'job')} of {jobs.cluster.name}: {array_number(submitted)}"
        console.print(f"{about}; what they say is in {logs}", highlight=False)
    known = {trial.number for trial in ended_trials(study)}
    enough = 0  # looks: a trial that was interrupted has ended for a moment, before it is queued again
    try:
        with Display(console, wanted) as display:
            while enough < 2 and (are_alive(submitted, jobs.cluster) or is_any_running(study)):
                time.sleep(POLL_SECONDS)
                free_stale(study)
                ended = ended_trials(study)
                for trial in ended:
                    if trial.number not in known:
                        display.say(describe_trial(trial, plan.study.metric))
                known |= {trial.number for trial in ended}
                enough = enough + 1 if len(ended) >= wanted else 0
                display.trials(len(ended), note_on_best(study))
    except KeyboardInterrupt:
        stop = how_to_stop(submitted, jobs.cluster)
        raise TransegError(
            f"Jobs go on without this process; the same command watches the search again.{stop}"
        ) from None
    check_hopeless(study, wanted)
    left = wanted - len(ended_trials(study))
    if left and jobs.timeout is None:
        raise TransegError(
            f"No job of this command is left, but {pluralise(left, 'trial')} of the search must be trained "
            f"yet{reason_of_end(submitted)}. What jobs said is in {logs}; the same command goes on."
        )
