"""One stage without a source: entropy minimisation from another run's weights."""

from pathlib import Path

from transeg.core.interfaces import Phase, Stage, Strategy


class SourceFree(Strategy):
    """For tests.

    Args:
        begin: the run folder whose segmenter is adapted.
    """

    def __init__(self, *, begin: Path) -> None:
        self._begin = begin

    def stages(self, experiment):
        return [Stage("adaptation", ("segmenter",), begins={"segmenter": (self._begin, "segmenter")})]

    def result(self, experiment):
        return {"segmenter": "adaptation"}

    def summary(self, experiment):
        return "A segmenter was adapted"

    def task(self, stage, parts, build):
        from transeg.core.models.forward import segment
        from transeg.core.training.tasks import SegmentationTask

        class Adaptation(SegmentationTask):
            def phases(self, batch):
                foreground = segment(self.segmenter, batch.target)[0].sigmoid()
                yield Phase(("segmenter",), {"entropy": (foreground * (1 - foreground)).mean()})

        segmenter, loss = build.segmenter(), build.loss()
        return Adaptation(segmenter, loss, build.optimization(segmenter))
