"""How long a run will take, from a few steps and images of each of its trainings."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from rich.console import Console

from transeg.core.builders.folds import Subset
from transeg.core.device import keep_freed_memory
from transeg.core.evaluation.judge import uses_feature_networks
from transeg.core.experiment.planned_stages import PlannedStage, build_strategy, plan_stages
from transeg.core.experiment.schema import Experiment
from transeg.core.files import read_json
from transeg.core.interfaces import Dataset
from transeg.core.models.checkpoint import load_checkpoint
from transeg.core.pipeline.launch import Prepared
from transeg.core.registry import Registry
from transeg.core.runs.history import read_scalars
from transeg.core.runs.run_folder import RunFolder
from transeg.core.training.parts import Parts
from transeg.core.training.train import InterruptedRunError

STEPS, WARM = 8, 2
"""Steps of each training that are tried, and how many of them do not count: they are slower, since memory is taken and
kernels are chosen."""
SEEN = 4
"""Images of each set that are validated on, tested and translated; the time of all is scaled up from theirs."""
WORTH = 50
"""A run has at least so many times the steps that are timed, where they are timed unasked."""


@dataclass(frozen=True)
class StageEstimate:
    """How long a stage takes: what it has left to train, its validations, its tests, what is made with it, and what
    comes once however long it trains.

    Attributes:
        name: of the stage.
        title: what it is called.
        seconds: at the speed of the median of the steps that were timed.
        fastest: at that of the fastest of them.
        slowest: at that of the slowest.
    """

    name: str
    title: str
    seconds: float
    fastest: float
    slowest: float


def is_worth_timing(prepared: Prepared) -> bool:
    """Whether the steps that would be timed are few among those that the run has left. Of several processes none can
    do so alone, and `torch.compile` takes minutes before the first step.
    """
    experiment = prepared.experiment
    if experiment.devices > 1 or experiment.train.compile:
        return False
    left = sum(sum(_left(each, prepared.folder, prepared.resume)) for each in prepared.stages)
    return left >= WORTH * STEPS * len(prepared.stages)


def estimate_times(prepared: Prepared, registry: Registry) -> list[StageEstimate] | None:
    """Do the whole run in small, in a folder that is thrown away, and scale up what each part of it takes.

    Each stage trains a few steps on what the run trains on, and sees a few images of every other set. Stages that need
    what earlier ones make get it from those: that of so short a training takes as long. One fold stands for all.

    Args:
        prepared: the run, whose networks are left as they are; in one process.
        registry: where components come from.

    Returns:
        Of each stage, in their order; None where it cannot be said: something fails, which the run itself will say,
        or as many images are made as the strategy wants, not as there are.

    Raises:
        InterruptedRunError: a signal came.
    """
    from transeg.core.pipeline.run import Run

    experiment, parts = prepared.experiment, prepared.parts
    images = 0 if parts.source is None else len(parts.source)
    if build_strategy(experiment.strategy, registry).synthesis(experiment, images):
        return None
    if torch.device(experiment.device).type == "cpu":
        keep_freed_memory()
    short, few = _short(experiment), _few(prepared)
    networks = replace(
        prepared.networks,
        generator=deepcopy(prepared.networks.generator),
        segmenter=deepcopy(prepared.networks.segmenter),
        judge=None if uses_feature_networks(experiment.quality) else prepared.networks.judge,
    )
    with TemporaryDirectory() as scratch:
        folder = RunFolder(Path(scratch))
        try:
            stages = plan_stages(short, registry)
            if any(each.experiment.train.iterations > STEPS for each in stages):
                return None
            begin = time.perf_counter()
            Run(folder, short, few, networks, registry, Console(quiet=True), False, lambda _: ())()
            took = time.perf_counter() - begin
        except InterruptedRunError as error:
            raise InterruptedRunError("Stopped while steps were timed; nothing has been trained.") from error
        except Exception:  # whatever it is, it must not keep a run from beginning that might not even have it
            return None
        spent = read_json(folder.times)
        once = max(0.0, took - sum(sum(each.values()) for each in spent.values())) / len(stages)
        return [_scaled(each, prepared, few, folder, spent, once) for each in prepared.stages]


def _short(experiment: Experiment) -> Experiment:
    """A few steps, with one validation at their end."""
    train = {
        **dict.fromkeys(("iterations", "val_interval", "checkpoint_interval"), STEPS),
        "checkpoint_minutes": None,
        "log_interval": 1,
    }
    return experiment.model_copy(
        update={
            "train": experiment.train.model_copy(update=train),
            "tracking": experiment.tracking.model_copy(update={"trackers": ()}),
            "fold": 1 if experiment.members else experiment.fold,
        }
    )


def _few(prepared: Prepared) -> Parts:
    """A few images of each set, but all that are trained on, unless something is made of them first."""
    parts = _fold(prepared)
    makes = any(each.stage.uses for each in prepared.stages)
    return replace(
        parts,
        source=_first(parts.source) if makes and parts.source is not None else parts.source,
        val=None if parts.val is None else _first(parts.val),
        tests={label: _first(dataset) for label, dataset in parts.tests.items()},
    )


def _fold(prepared: Prepared) -> Parts:
    """The data sets of a training: with folds, of the first of them."""
    folds = prepared.experiment.members
    return replace(prepared.parts.fold(0), held=None) if folds else prepared.parts


def _first(dataset: Dataset) -> Dataset:
    return Subset([(dataset, index) for index in range(min(SEEN, len(dataset)))])


def _left(planned: PlannedStage, run: RunFolder, resume: bool) -> list[int]:
    """Iterations that each training of a stage has left."""
    folders = [run.part(name) for name in planned.trainings()]
    done = [load_checkpoint(each.last)["iteration"] if resume and each.last.exists() else 0 for each in folders]
    return [planned.experiment.train.iterations - iterations for iterations in done]


def _scaled(
    planned: PlannedStage,
    prepared: Prepared,
    few: Parts,
    folder: RunFolder,
    times: Mapping[str, Mapping[str, float]],
    once: float,
) -> StageEstimate:
    """What a stage takes, from what it took in small.

    Args:
        planned: the stage.
        prepared: the whole run.
        few: the data sets of the small one.
        folder: of the small run.
        times: what its trainings have spent on what; see :mod:`transeg.core.runs.timings`.
        once: seconds of a training that are spent on nothing of that, such as building and saving.
    """
    whole, part, spent = _fold(prepared), folder.part(planned.folder), dict(times.get(planned.folder, {}))
    steps = [line["seconds_per_iteration"] for line in read_scalars(part.scalars) if "seconds_per_iteration" in line]
    left = _left(planned, prepared.folder, prepared.resume)
    limit = planned.experiment.data.val_limit
    validation = spent.pop("validation", 0.0) * _ratio([whole.val], [few.val], limit)
    picture = spent.pop("pictures", 0.0) / max(1, len(list(part.previews.glob("*.png"))))
    beside = sum(ceil(each / planned.experiment.train.val_interval) for each in left) * (validation + picture)
    beside += spent.pop("testing", 0.0) * _tested(planned, prepared, whole, few)
    beside += spent.pop("judging translations", 0.0) * _ratio(_judged(whole), _judged(few))
    for what in ("training", "waiting for data"):  # they are in the steps
        spent.pop(what, None)
    if any(left):  # what a stage makes when it is done, a resumed run has, or most of it
        beside += sum(spent.values()) * _ratio([whole.source, whole.val], [few.source, few.val])
    beside += once * len(left)
    timed = steps[WARM:] or [0.0]  # a training-free stage has none
    usual, fastest, slowest = (sum(left) * each + beside for each in (median(timed), min(timed), max(timed)))
    return StageEstimate(planned.stage.name, planned.stage.title or planned.stage.name, usual, fastest, slowest)


def _tested(planned: PlannedStage, prepared: Prepared, whole: Parts, few: Parts) -> float:
    """How many times as many images are tested. Each fold is tested with what it holds out, and all of them together
    once more; of one fold, or of the first in small, the run's result alone sees what it holds out.
    """
    tests, seen = (_count(list(each.tests.values())) for each in (whole, few))
    if prepared.experiment.folds is None or not planned.stage.folds:
        return tests / max(1, seen)
    held, own = _count([whole.val]), planned.folder == "."
    images = planned.folds * (2 * tests + held) if planned.folds else tests + own * held
    return images / max(1, seen + own * _count([few.val]))


def _judged(parts: Parts) -> list[Dataset | None]:
    """What a generator's images are judged on."""
    return list(parts.tests.values()) or [parts.val]


def _ratio(whole: Sequence[Dataset | None], few: Sequence[Dataset | None], limit: int = 0) -> float:
    """How many times as many images; where no more than some of a set count, of those."""
    return _count(whole, limit) / max(1, _count(few, limit))


def _count(datasets: Sequence[Dataset | None], limit: int = 0) -> int:
    sizes = [len(dataset) for dataset in datasets if dataset is not None]
    return sum(min(size, limit) if limit else size for size in sizes)
