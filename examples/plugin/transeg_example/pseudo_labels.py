"""A strategy of two stages: a teacher learns from the source, a student from the teacher's labels, too."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from transeg.core.interfaces import IGNORE, Stage, Strategy

if TYPE_CHECKING:
    from transeg.core.interfaces import Sample


class PseudoLabels(Strategy):
    """Trains a segmenter on the source, lets it label the target images, and goes on with both.

    Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks", ICML 2013
    workshop on challenges in representation learning.

    Args:
        certain: pixels whose most probable class is less probable than this stay without a label.
    """

    def __init__(self, *, certain: Annotated[float, Field(ge=0, le=1)] = 0.8) -> None:
        self._certain = certain

    def stages(self, experiment):
        teacher = Stage("teacher", ("segmenter",), changes={"data": {"target": None}})
        student = Stage("student", ("segmenter",), begins={"segmenter": ("teacher", "segmenter")}, uses=("teacher",))
        return [teacher, student]

    def result(self, experiment):
        return {"segmenter": "student"}

    def summary(self, experiment):
        data = experiment.data
        return f"The segmenter learned from {data.source.short}, then from its own labels of {data.target.short}, too"

    def data(self, stage, parts, products):
        if stage.name == "teacher":
            return parts
        teacher = products.trained("teacher")
        made = products.rewrite(
            "pseudo-labelled",
            {"train": parts.target},
            lambda sample: self._labelled(sample, teacher),
            stage="teacher",
            doing="labelling",
            classes=parts.source.classes,
            channels=parts.target.channels,
        )
        return replace(parts, target=None, synthetic=made["train"])  # the two are mixed by data.synthetic_share

    def task(self, stage, parts, build):
        from transeg.core.training.tasks import SegmentationTask

        segmenter, loss = build.segmenter(), build.loss()
        return SegmentationTask(segmenter, loss, build.optimization(segmenter, loss))

    def _labelled(self, sample: Sample, teacher) -> Sample:
        """The sample with the teacher's labels, at its own size."""
        from torch.nn.functional import interpolate

        inference = teacher.inference()
        logits = inference.run(teacher.segment, inference.prepare(sample.image), teacher.device)[None]
        logits = interpolate(logits, size=sample.size, mode="bilinear", align_corners=False)[0]
        if len(logits) == 1:
            foreground = logits[0].sigmoid()
            mask, certainty = (foreground > 0.5).byte(), foreground.maximum(1 - foreground)
        else:
            certainty, mask = logits.softmax(0).max(0)
        mask = mask.numpy().astype("uint8")
        mask[certainty.numpy() < self._certain] = IGNORE
        return replace(sample, mask=mask, instances=None)
