"""Which checkpoint of a training is the best."""

from __future__ import annotations

from transeg.core.experiment.planned_stages import build_strategy
from transeg.core.experiment.schema import Experiment
from transeg.core.registry import Registry
from transeg.core.training.parts import Parts


def describe_selection(experiment: Experiment, parts: Parts, registry: Registry) -> str:
    """How the best checkpoint was chosen, in words."""
    if experiment.train.selection == "agreement":
        return "highest agreement of the segmenter and its moving average about target images"
    if experiment.folds is not None:
        which = "each fold" if experiment.fold is None else f"fold {experiment.fold} of {experiment.folds}"
        return f"highest Dice on the images that {which} holds out"
    if experiment.segmenter is None or parts.val is None:
        return "the last iteration"
    if experiment.data.val is not None:
        return f"highest Dice on the labelled validation images of {experiment.data.val.name}"
    return f"highest Dice on {build_strategy(experiment.strategy, registry).selection(experiment)}"
