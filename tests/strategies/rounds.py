"""Two stages: a teacher, and a student that begins where the teacher ended and uses what it labels."""

from dataclasses import replace
from itertools import pairwise

from transeg.core.interfaces import Stage, Strategy, Validation


class Rounds(Strategy):
    """For tests.

    Args:
        rounds: how often students follow each other.
    """

    def __init__(self, *, rounds: int = 1) -> None:
        self._rounds = rounds

    def stages(self, experiment):
        names = ["teacher", *(f"student-{number}" for number in range(1, self._rounds + 1))]
        first = Stage(names[0], ("segmenter",), changes={"data": {"target": None}})
        later = [
            Stage(name, ("segmenter",), begins={"segmenter": (before, "segmenter")}, uses=(before,))
            for before, name in pairwise(names)
        ]
        return [first, *later]

    def result(self, experiment):
        return {"segmenter": f"student-{self._rounds}"}

    def summary(self, experiment):
        return f"The segmenter {experiment.segmenter.name} taught itself"

    def data(self, stage, parts, products):
        if not stage.uses:
            return parts
        teacher = products.trained(stage.uses[0])
        inference = teacher.inference()

        def labelled(sample):
            logits = inference.run(teacher.segment, inference.prepare(sample.image), teacher.device)
            return replace(sample, mask=(logits[0] > 0).byte().numpy(), instances=None)

        made = products.rewrite(
            f"labelled-for-{stage.name}",
            {"train": parts.target},
            labelled,
            stage=stage.uses[0],
            doing="labelling",
            classes=parts.source.classes,
            channels=parts.target.channels,
        )
        return replace(parts, target=None, synthetic=made["train"])

    def validation(self, stage, parts, products):
        return [
            Validation("val", parts.val, "source"),
            Validation("on-tests", next(iter(parts.tests.values())), "target"),
            Validation("again", parts.val, "target"),
        ]

    def task(self, stage, parts, build):
        from transeg.core.training.tasks import SegmentationTask

        segmenter, loss = build.segmenter(), build.loss()
        return SegmentationTask(segmenter, loss, build.optimization(segmenter, loss))
