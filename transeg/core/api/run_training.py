"""Trains an experiment."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from transeg.core.api.experiment import Experiment
from transeg.core.distributed.progress_bar import progress_console
from transeg.core.experiment.request import complete_request
from transeg.core.pipeline.launch import launch, prepare


def train(
    experiment: Experiment,
    run_dir: str | PathLike[str] | None = None,
    *,
    resume: bool = False,
    progress: bool = False,
) -> Path:
    """Train, test and compare, as `toolkit run` does.

    Args:
        experiment: what to train.
        run_dir: the folder of the run; by default a new one in ``runs/``.
        resume: go on from the last checkpoint in ``run_dir``.
        progress: print what `toolkit run` prints on its way; otherwise nothing.

    Returns:
        The folder of the run, for :func:`transeg.load` and :func:`transeg.evaluate`. What its tests gave is in
        ``metrics.json`` there.

    Raises:
        UsageError: the folder holds a run already, or something else keeps the run from beginning.
        TransegError: it failed, or was interrupted; the sentence says how it goes on.
    """
    registry = experiment.registry
    place = None if run_dir is None else Path(run_dir)
    request = complete_request(experiment.settings, registry, run_dir=place, resume=resume, dry_run=False)
    prepared = prepare(request, registry, dry_run=False)
    launch(prepared, registry, progress_console(progress))
    return prepared.folder.path
