"""Strategy `self-training`: a segmenter also learns from its own labels of target images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from transeg.core.interfaces import NetworkKind, Stage, Strategy
from transeg.plugins.strategies.baseline import source_only_baseline

if TYPE_CHECKING:
    from transeg.core.experiment.schema import Experiment
    from transeg.core.training.build import Build
    from transeg.core.training.parts import Parts
    from transeg.core.training.tasks import Task

STAGE = "self-training"


class SelfTraining(Strategy):
    """Trains a segmenter on labelled source images and, with labels of its own, on target images.

    The labels come from the moving average of the segmenter's weights, the mean teacher, and count by how sure it is,
    as in DAFormer (Hoyer, Dai and Van Gool, CVPR 2022, arXiv:2111.14887). The average is what is validated, selected
    and used; `train.ema` sets how far it reaches back, 0.999 where it does not, which short trainings shorten.

    Args:
        threshold: how probable the teacher must think a pixel's class to be sure of it.
        weighting: what a pixel counts: `share`, the share of its image in which the teacher is sure; `pixels`, one
            where the teacher is sure of it and nothing elsewhere.
        target_weight: of the loss on target images.
    """

    def __init__(
        self,
        *,
        threshold: Annotated[float, Field(ge=0, lt=1)] = 0.968,
        weighting: Literal["share", "pixels"] = "share",
        target_weight: Annotated[float, Field(ge=0)] = 1.0,
    ) -> None:
        self._threshold = threshold
        self._weighting: Literal["share", "pixels"] = weighting
        self._target_weight = target_weight

    def stages(self, experiment: Experiment) -> list[Stage]:
        return [Stage(STAGE, ("segmenter",), folds=True), *source_only_baseline(experiment)]

    def result(self, experiment: Experiment) -> dict[NetworkKind, str]:
        return {"segmenter": STAGE}

    def summary(self, experiment: Experiment) -> str:
        assert experiment.segmenter is not None
        assert experiment.data.source is not None
        assert experiment.data.target is not None
        learned = f"learned from {experiment.data.source.short} and its own labels of {experiment.data.target.short}"
        return f"The segmenter {experiment.segmenter.name} {learned}"

    def trained_on(self, experiment: Experiment) -> tuple[str, str]:
        return "self-trained", "source only"

    def task(self, stage: Stage, parts: Parts, build: Build) -> Task:
        from transeg.core.training.tasks import MeanTeacher
        from transeg.plugins.strategies.supervised import Supervised

        on_target = MeanTeacher(threshold=self._threshold, weighting=self._weighting, weight=self._target_weight)
        return Supervised().task(stage, parts, build, on_target)
