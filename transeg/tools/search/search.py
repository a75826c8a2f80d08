"""A search from its plan to what it has found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from rich.console import Console

from transeg.core.api.evaluating import evaluate_run
from transeg.core.errors import UsageError
from transeg.core.experiment.schema import Experiment, QualityOptions
from transeg.core.experiment.settings import Settings, read_settings
from transeg.core.experiment.validation import read_experiment
from transeg.core.files import write_text
from transeg.core.registry import Registry
from transeg.tools.search.jobs import Jobs, run_jobs
from transeg.tools.search.plan import Plan, SearchFolder, full_experiment, trial_experiment, trial_parts
from transeg.tools.search.space import Space
from transeg.tools.search.storage import database_errors, open_storage, storage_url
from transeg.tools.search.study import join_study, load_study
from transeg.tools.search.summary import write_summary
from transeg.tools.search.worker import Worker


def run_search(
    plan: Plan, registry: Registry, console: Console, *, timeout: float | None, jobs: Jobs | None = None
) -> dict[str, Any]:
    """Work on a search until it has its trials, and say what it has found.

    Args:
        plan: of the search.
        registry: where components come from.
        console: for progress.
        timeout: seconds after which no trial is begun; None for ever.
        jobs: of a scheduler that train; None for this process.

    Returns:
        See :func:`transeg.tools.search.summary.write_summary`; and whether a signal ``interrupted`` the work.

    Raises:
        UsageError: no trial can begin, or the study searches something else.
        TransegError: the database cannot be used, or every trial fails.
    """
    base = plan.base(registry)
    parts, _ = trial_parts(trial_experiment(base), registry)
    datasets = {"source": parts.source, "target": parts.target, "synthetic": parts.synthetic, "val": parts.val}
    images = {role: len(dataset) for role, dataset in datasets.items() if dataset is not None}
    plan.folder.check_foreign()
    plan.folder.create()
    storage = open_storage(plan.storage)
    with database_errors(plan.storage):
        if plan.folder.trials.exists() and plan.study.name not in optuna.get_all_study_names(storage):
            raise UsageError(
                f"{plan.folder.trials} has trials of which no study {plan.study.name} is known; choose another "
                f"--search-dir, or say the --storage and --study that they belong to."
            )
        study = join_study(storage, plan, base, images, registry)
        plan.write()
        if jobs is None:
            worker = Worker(plan, storage, study, registry, console, timeout)
            worker.work()
            interrupted = worker.interrupted
        else:
            run_jobs(plan, study, jobs, registry, console)
            interrupted = False
        found = write_summary(
            study, plan.space, plan.study.metric, plan.folder, _making(plan.settings, plan.space, registry)
        )
    return {**found, "interrupted": interrupted}


def show_search(folder: Path, registry: Registry, *, storage: str, name: str | None) -> dict[str, Any]:
    """Say what a search has found so far, and write that anew.

    Args:
        folder: of the search; of one in a database, where files go.
        registry: where components come from.
        storage: address of the database; '' for that with which the search was begun.
        name: of the study; None for that with which the search was begun.

    Raises:
        UsageError: there is no such search.
    """
    place = SearchFolder(folder)
    own = read_settings(place.search) if place.search.exists() else {}
    study_table = own.pop("search", {}).get("study", {})
    url = storage_url(storage or study_table.get("storage", ""), folder)
    if url.drivername == "sqlite" and not Path(url.database or "").exists():
        raise UsageError(f"There is no search in {folder}: it has no {Path(url.database or '').name}.")
    database = open_storage(url)
    with database_errors(url):
        study, settings, space, metric = load_study(database, name or study_table.get("name") or folder.resolve().name)
        return write_summary(study, space, metric, place, _making(own or settings, space, registry))


def test_best(found: Mapping[str, Any], registry: Registry, console: Console) -> dict[str, Any]:
    """Measure the best trial's network on the test sets of the experiment, and leave that in its run folder.

    Args:
        found: what :func:`run_search` or :func:`show_search` returned.
        registry: where components come from.
        console: for progress.

    Returns:
        The table of each test set by name.

    Raises:
        UsageError: there are no test sets, or the trial was trained on another machine.
    """
    place = SearchFolder(Path(found["search_dir"]))
    if found["best"] is None:
        raise UsageError("No trial was trained to the end, so there is none to test.")
    folder = place.trial(found["best"]["number"])
    if not folder.best.exists():
        raise UsageError(f"The best trial is not here but in {found['best']['place']}; test it there.")
    experiment = read_experiment(place.best, registry).model_copy(update={"baseline": "none"})
    if not experiment.data.test:
        raise UsageError("The experiment has no test set; say which with --test NAME:FOLDER.")
    write_text(folder.experiment, experiment.to_toml())
    chosen: dict[str, Any] = {"tests": (), "split": None, "window": None, "flips": False, "device": None, "out": None}
    scores, _, _ = evaluate_run(folder.path, registry, console, quality=QualityOptions(), **chosen)
    return scores


def _making(settings: Settings, space: Space, registry: Registry) -> Callable[[Mapping[str, Any]], Experiment]:
    return lambda chosen: full_experiment(chosen, settings, space, registry)
