"""Strategy `supervised`: a segmenter alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transeg.core.interfaces import NetworkKind, Stage, Strategy

if TYPE_CHECKING:
    from transeg.core.experiment.schema import Experiment
    from transeg.core.training.build import Build
    from transeg.core.training.parts import Parts
    from transeg.core.training.tasks import TargetLearning, Task


class Supervised(Strategy):
    """Trains a segmenter on labelled source images, as they are.

    With ``--folds``, one for each of them; the result is their ensemble. Its published sizes are HarDNet-MSEG's.
    """

    def stages(self, experiment: Experiment) -> list[Stage]:
        return [Stage("segmentation", ("segmenter",), folds=True)]

    def result(self, experiment: Experiment) -> dict[NetworkKind, str]:
        return {"segmenter": "segmentation"}

    def summary(self, experiment: Experiment) -> str:
        assert experiment.segmenter is not None
        assert experiment.data.source is not None
        return f"The segmenter {experiment.segmenter.name} learned from {experiment.data.source.short}"

    def task(self, stage: Stage, parts: Parts, build: Build, on_target: TargetLearning | None = None) -> Task:
        """As for every strategy.

        Args:
            stage: of the run.
            parts: its data sets.
            build: makes the networks and losses.
            on_target: how target images without labels are learned from, besides.
        """
        from transeg.core.training.tasks import SegmentationTask

        segmenter = build.segmenter()
        terms, loss = build.terms(segmenter), build.loss()
        return SegmentationTask(segmenter, loss, build.optimization(segmenter, loss, *terms), terms, on_target)
