"""Strategy `joint`: a segmenter learns on what a generator translates, and the generator learns from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from transeg.core.interfaces import NetworkKind, Stage, Strategy
from transeg.core.interfaces.strategies import describe_translation
from transeg.plugins.strategies.baseline import source_only_baseline

if TYPE_CHECKING:
    from transeg.core.experiment.schema import Experiment
    from transeg.core.training.build import Build
    from transeg.core.training.parts import Parts
    from transeg.core.training.tasks import TargetLearning, Task


class Joint(Strategy):
    """Trains generator and segmenter in one loop (CUT-seg).

    Moreu, Arazo, McGuinness and O'Connor, "Joint one-sided synthetic unpaired image translation and segmentation for
    colorectal cancer prevention", Expert Systems 2022, doi:10.1111/exsy.13137. With pseudo-labels it is the strategy
    `self-training`.

    Args:
        weight: share of the segmentation gradient that reaches the generator.
        schedule: the weight over the training: as it is, growing from zero, or zero before `start`.
        start: share of the training after which `step` switches the weight on.
    """

    def __init__(
        self,
        *,
        weight: Annotated[float, Field(ge=0)] = 1e-3,
        schedule: Literal["constant", "linear", "step"] = "constant",
        start: Annotated[float, Field(ge=0, le=1)] = 0.5,
    ) -> None:
        self._weight = weight
        self._schedule = schedule
        self._start = start

    def stages(self, experiment: Experiment) -> list[Stage]:
        return [Stage("joint", ("generator", "segmenter")), *source_only_baseline(experiment)]

    def result(self, experiment: Experiment) -> dict[NetworkKind, str]:
        return {"generator": "joint", "segmenter": "joint"}

    def summary(self, experiment: Experiment) -> str:
        assert experiment.generator is not None
        assert experiment.segmenter is not None
        made = describe_translation(experiment)
        learned = f"while the segmenter {experiment.segmenter.name} learned from the result"
        return f"The generator {experiment.generator.name} {made} {learned}"

    def selection(self, experiment: Experiment) -> str:
        assert experiment.generator is not None
        translated = ", translated" if experiment.generator.condition == "image" else ""
        return f"the validation images of the source{translated}"

    def task(self, stage: Stage, parts: Parts, build: Build, on_target: TargetLearning | None = None) -> Task:
        """As for every strategy.

        Args:
            stage: of the run.
            parts: its data sets.
            build: makes the networks and losses.
            on_target: how target images without labels are learned from, besides.
        """
        from transeg.core.training.tasks import JointTask

        generator, segmenter = build.generator(), build.segmenter()
        terms, loss = build.terms(segmenter), build.loss()
        return JointTask(
            generator,
            segmenter,
            loss,
            build.optimization(segmenter, loss, *terms),
            weight=self.weight_at,
            given=build.conditioning(),
            share=build.experiment.data.synthetic_share,
            appearance=build.appearance(),
            extra_terms=terms,
            on_target=on_target,
        )

    def weight_at(self, progress: float) -> float:
        """Share of the segmentation gradient that reaches the generator, by progress in [0, 1)."""
        if self._schedule == "linear":
            return self._weight * progress
        if self._schedule == "step" and progress < self._start:
            return 0.0
        return self._weight
