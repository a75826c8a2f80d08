"""Strategy `translation`: a generator alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transeg.core.interfaces import NetworkKind, Stage, Strategy
from transeg.core.interfaces.strategies import describe_translation

if TYPE_CHECKING:
    from transeg.core.experiment.schema import Experiment
    from transeg.core.training.build import Build
    from transeg.core.training.parts import Parts
    from transeg.core.training.tasks import Task


class Translation(Strategy):
    """Trains a generator.

    Where something can judge its images (pairs, or the networks of ``[quality]``), they are measured on the way; the
    last iteration is the result. Its published sizes are CUT's.
    """

    def stages(self, experiment: Experiment) -> list[Stage]:
        return [Stage("translation", ("generator",))]

    def result(self, experiment: Experiment) -> dict[NetworkKind, str]:
        return {"generator": "translation"}

    def summary(self, experiment: Experiment) -> str:
        assert experiment.generator is not None
        return f"The generator {experiment.generator.name} {describe_translation(experiment)}"

    def task(self, stage: Stage, parts: Parts, build: Build) -> Task:
        from transeg.core.training.tasks import TranslationTask

        return TranslationTask(build.generator(), build.conditioning())
