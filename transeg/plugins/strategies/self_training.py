"""Strategy `self-training`: a segmenter also learns from its own labels of target images."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from transeg.core.errors import UsageError
from transeg.core.interfaces import NetworkKind, Stage, Strategy
from transeg.plugins.strategies.baseline import source_only_baseline
from transeg.plugins.strategies.joint import Joint
from transeg.plugins.strategies.supervised import Supervised

if TYPE_CHECKING:
    from transeg.core.experiment.schema import Experiment
    from transeg.core.training.build import Build
    from transeg.core.training.parts import Parts
    from transeg.core.training.tasks import TargetLearning, Task

STAGE = "self-training"
OF_TEACHER = ("threshold", "weighting", "target_weight", "mixing", "strong_view", "masking")
OF_MASKING = ("masking_ratio", "masking_block")
OF_EPOCH = ("share",)
OF_GENERATOR = ("weight", "schedule", "start")
"""Options that count under a condition alone."""


class SelfTraining(Strategy):
    """Trains a segmenter on labelled source images and, with labels of its own, on target images.

    The labels come from the moving average of the segmenter's weights, the mean teacher, and count by how sure it is,
    as in DAFormer (Hoyer, Dai and Van Gool, CVPR 2022, arXiv:2111.14887). The average is what is validated, selected
    and used; `train.ema` sets how far it reaches back, 0.999 where it does not, which short trainings shorten. With a
    generator it is joint training, whose segmenter learns from translated source images and from target images.

    Without a source, whose images may not leave the place where they were made, it begins with the segmenter of a run,
    `--from RUN`, and learns from target images alone.

    Args:
        threshold: how probable the teacher must think a pixel's class to be sure of it.
        weighting: what a pixel counts: `share`, the share of its image in which the teacher is sure; `pixels`, one
            where the teacher is sure of it and nothing elsewhere.
        target_weight: of the loss on target images.
        mixing: what of labelled images, where there are any, is pasted onto the target images that the segmenter sees:
            `classmix`, half of the classes that they show; `cutmix`, a box of half of the image; `off`, nothing.
        strong_view: change the appearance of the target images that the segmenter sees, and not of those that the
            teacher sees: by the experiment's own changes of appearance, or those of the preset `strong`.
        masking: learn from target images once more with blocks of them hidden, so that what surrounds a place must tell
            what it is (MIC, arXiv:2212.01322).
        masking_ratio: how likely a block is hidden.
        masking_block: its height and width in pixels.
        labels: `teacher`, those of the average at that moment; `epoch`, what the segmenter itself said when the epoch
            (of `data.samples_per_epoch`) began, of images as they are, each pixel counting alike, as in PL-CUT-Seg
            (arXiv:2307.12033). The options above are for `teacher`.
        share: for `epoch`, of target images in the segmentation loss: half; a share that grows from nothing to half; or
            half of it in the second half of the training.
        weight: as for `joint`, where a generator is trained, too; so are `schedule` and `start`.
        schedule: of that weight.
        start: of that schedule.
        begin: folder of a run whose segmenter it begins with, as `--from` says.
    """

    def __init__(
        self,
        *,
        threshold: Annotated[float, Field(ge=0, lt=1)] = 0.968,
        weighting: Literal["share", "pixels"] = "share",
        target_weight: Annotated[float, Field(ge=0)] = 1.0,
        mixing: Literal["off", "classmix", "cutmix"] = "classmix",
        strong_view: bool = True,
        masking: bool = False,
        masking_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.7,
        masking_block: Annotated[int, Field(gt=0)] = 32,
        labels: Literal["teacher", "epoch"] = "teacher",
        share: Literal["mean", "linear", "step"] = "mean",
        weight: Annotated[float, Field(ge=0)] = 1e-3,
        schedule: Literal["constant", "linear", "step"] = "constant",
        start: Annotated[float, Field(ge=0, le=1)] = 0.5,
        begin: Path | None = None,
    ) -> None:
        self._begin = begin
        self._threshold = threshold
        self._weighting: Literal["share", "pixels"] = weighting
        self._target_weight = target_weight
        self._mixing = mixing
        self._strong_view = strong_view
        self._masking = (masking_ratio, masking_block) if masking else None
        self._labels = labels
        self._share = share
        self._joint = Joint(weight=weight, schedule=schedule, start=start)

    def check(self, experiment: Experiment) -> None:
        taught, known = self._labels == "teacher", signature(type(self)).parameters
        for counts, names, where in (
            (taught, OF_TEACHER, "strategy.labels=teacher"),
            (taught and self._masking is not None, OF_MASKING, "strategy.masking=true"),
            (not taught, OF_EPOCH, "strategy.labels=epoch"),
            (experiment.generator is not None, OF_GENERATOR, "--generator NAME"),
        ):
            for name in () if counts else names:
                if experiment.strategy.options.get(name, known[name].default) != known[name].default:
                    raise UsageError(f"strategy.{name} counts for nothing without {where}; leave it out, or say that.")
        if experiment.data.source is None:
            self._check_without_source(experiment)

    def _check_without_source(self, experiment: Experiment) -> None:
        if self._begin is None:
            raise UsageError("Without a source, self-training begins with the segmenter of a run; say --from RUN.")
        for surplus, needs in (
            (experiment.generator is not None, "A generator translates source images"),
            (self._labels == "epoch", "strategy.labels=epoch shares the loss with source images"),
            (experiment.baseline != "none", "The source-only baseline learns from source images"),
            (experiment.folds is not None, "Folds are of source images"),
        ):
            if surplus:
                raise UsageError(f"{needs}, and there are none; leave it out, or say --source NAME:FOLDER.")

    def stages(self, experiment: Experiment) -> list[Stage]:
        begins: dict[NetworkKind, tuple[str | Path, NetworkKind]] = {}
        if self._begin is not None:
            begins["segmenter"] = (self._begin, "segmenter")
        if experiment.generator is None:
            own = Stage(STAGE, ("segmenter",), folds=experiment.data.source is not None, begins=begins)
        else:
            own = Stage(STAGE, ("generator", "segmenter"), begins=begins)
        return [own, *source_only_baseline(experiment)]

    def result(self, experiment: Experiment) -> dict[NetworkKind, str]:
        return {"segmenter": STAGE} if experiment.generator is None else {"generator": STAGE, "segmenter": STAGE}

    def summary(self, experiment: Experiment) -> str:
        assert experiment.data.target is not None
        if experiment.data.source is None:
            return f"The segmenter of a run went on learning from its own labels of {experiment.data.target.short}"
        learned = (Supervised() if experiment.generator is None else self._joint).summary(experiment)
        return f"{learned} and from its own labels of {experiment.data.target.short}"

    def trained_on(self, experiment: Experiment) -> tuple[str, str]:
        return "self-trained", "source only"

    def selection(self, experiment: Experiment) -> str:
        return super().selection(experiment) if experiment.generator is None else self._joint.selection(experiment)

    def task(self, stage: Stage, parts: Parts, build: Build) -> Task:
        on_target = self._teacher(build) if self._labels == "teacher" else self._renewed(build)
        beside = Supervised() if build.experiment.generator is None else self._joint
        return beside.task(stage, parts, build, on_target)

    def share_at(self, progress: float) -> float:
        """Share of target images in the segmentation loss, for labels of the epoch, by progress in [0, 1)."""
        if self._share == "linear":
            return 0.5 * progress
        return 0.5 if self._share == "mean" or progress >= 0.5 else 0.0

    def _teacher(self, build: Build) -> TargetLearning:
        from transeg.core.training.tasks import Masking, MeanTeacher, classmix, cutmix

        return MeanTeacher(
            threshold=self._threshold,
            weighting=self._weighting,
            weight=self._target_weight,
            mix={"off": None, "classmix": classmix, "cutmix": cutmix}[self._mixing],
            appearance=build.strong_view() if self._strong_view else None,
            masking=Masking(*self._masking) if self._masking else None,
        )

    def _renewed(self, build: Build) -> TargetLearning:
        from transeg.core.training.tasks import RenewedLabels

        epoch = max(1, build.experiment.data.samples_per_epoch // build.experiment.joint_batch)
        return RenewedLabels(build.segmenter(), share=self.share_at, epoch=epoch)
