"""The hooks that look at target images while a segmenter is trained: to choose its checkpoint, or to measure rules."""

from __future__ import annotations

import numpy as np
from mmengine.hooks import Hook

from transeg.core.distributed.collectives import rank_and_world_size
from transeg.core.evaluation.evaluation_items import EvaluationSet
from transeg.core.experiment.schema import Experiment
from transeg.core.inference.trained_model import BESIDE
from transeg.core.models.ema import EMA, shorten_decay
from transeg.core.training.hooks.average_agreement import AgreementHook
from transeg.core.training.hooks.ema import EMAHook
from transeg.core.training.hooks.watch import WatchHook
from transeg.core.training.parts import Parts
from transeg.core.training.tasks.segmentation_task import SegmentationTask
from transeg.core.training.tasks.task import Task

LOOKED_AT = 16
"""Target images, evenly among all, that agreement is measured on."""
DECAY = 0.999
"""Of the average that is kept where the training has none; short trainings shorten it."""


def target_hooks(experiment: Experiment, task: Task, parts: Parts, averages: EMA) -> list[Hook]:
    """The hooks of a training.

    Args:
        experiment: of the stage.
        task: what is trained.
        parts: its data sets.
        averages: what the training averages.
    """
    tests = next(iter(parts.tests.values()), None)
    watches = experiment.train.watch_tests > 0 and tests is not None and rank_and_world_size()[0] == 0
    agrees = selects_by_agreement(experiment, parts)
    if not isinstance(task, SegmentationTask) or not (watches or agrees):
        return []
    hooks: list[Hook] = []
    average, validated = averages, "segmenter" in averages
    if not validated:
        average = EMA(task, {"segmenter": shorten_decay(DECAY, experiment.train.iterations)})
        hooks.append(EMAHook(average, BESIDE, validated=False))
    classes = max(2, len(parts.domains.class_names))
    if agrees:
        assert parts.target is not None
        drawn = np.linspace(0, len(parts.target) - 1, min(LOOKED_AT, len(parts.target))).round().astype(int)
        images = [task.inference.prepare(parts.target[int(index)].image) for index in drawn]
        hooks.append(AgreementHook(task, average, images, classes))
    if watches:
        assert tests is not None
        items, count = EvaluationSet(tests, task.inference), min(experiment.train.watch_tests, len(tests))
        hooks.append(WatchHook(task, average, items, count, classes, validates_average=validated))
    return hooks


def selects_by_agreement(experiment: Experiment, parts: Parts) -> bool:
    """Whether agreement chooses the checkpoint; a stage that sees no target, such as a baseline, goes by Dice."""
    return experiment.train.selection == "agreement" and parts.target is not None and parts.val is not None
