"""Strategy `sequential`: a generator first, then a segmenter on what it has made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from transeg.core.conventions import IGNORE
from transeg.core.errors import UsageError
from transeg.core.interfaces import NetworkKind, Stage, Strategy, stage_of
from transeg.core.interfaces.strategies import describe_translation
from transeg.plugins.strategies.baseline import source_only_baseline

if TYPE_CHECKING:
    from transeg.core.experiment.schema import Experiment
    from transeg.core.inference.trained_model import TrainedModel
    from transeg.core.pipeline.products import Products
    from transeg.core.training.build import Build
    from transeg.core.training.parts import Parts
    from transeg.core.training.tasks import Task

GENERATOR, SEGMENTER = "translation", "segmentation"
HOW = {"none": "label maps", "deform": "deformed label maps", "recombine": "recombined label maps"}


class Sequential(Strategy):
    """Trains a generator, lets it translate the labelled images, and trains a segmenter on these.

    A generator that is given label maps (``generator.condition=mask``) makes images of new ones instead, and the
    segmenter learns from these and the real ones.

    Args:
        count: how many images to make from label maps; by default as many as there are training images.
        masks: a folder of label maps that hold class numbers; by default those of the training images are used.
        variation: what is made of each label map first: `none`, `deform` (symmetries, affine and elastic deformation),
            or `recombine` (half of the single objects are exchanged for those of another map, then it is deformed).
        quarantine: share of the translated images that the segmenter does not learn from: those whose labels
            `quality.segmenter` finds again least well, or without it those that are shifted farthest against them.
    """

    def __init__(
        self,
        *,
        count: Annotated[int, Field(gt=0)] | None = None,
        masks: Path | None = None,
        variation: Literal["none", "deform", "recombine"] = "recombine",
        quarantine: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        self._count = count
        self._masks = masks
        self._variation = variation
        self._quarantine = quarantine

    def check(self, experiment: Experiment) -> None:
        if _by_mask(experiment):
            if experiment.folds is not None and experiment.fold is None:
                raise UsageError(
                    "Synthetic images are made from the label maps that the folds hold out, too; leave out folds."
                )
            if self._quarantine:
                raise UsageError("strategy.quarantine is for images that are translated, not made of label maps.")
        elif self._count is not None or self._masks is not None:
            option = "count" if self._count is not None else "masks"
            raise UsageError(
                f"strategy.{option} is for generators that are given label maps (generator.condition=mask)."
            )
        if self._masks is not None and not self._masks.is_dir():
            raise UsageError(f"There is no folder {self._masks} (strategy.masks).")

    def stages(self, experiment: Experiment) -> list[Stage]:
        first = stage_of(
            "translation",
            GENERATOR,
            ("generator",),
            changes={
                "segmenter": None,
                "loss": None,
                "distillation": None,
                "folds": None,
                "fold": None,
                "data": {"val": None, "test": {}},
            },
        )
        target_less = {} if _by_mask(experiment) else {"data": {"target": None}}
        sees_pairs = experiment.distillation is not None and experiment.distillation.sees == "source"
        paired = {"distillation": {"sees": "paired"}} if sees_pairs and not _by_mask(experiment) else {}
        second = Stage(
            SEGMENTER,
            ("segmenter",),
            uses=(GENERATOR,),
            folds=True,
            changes={"strategy": {"name": "supervised"}, "generator": None, **target_less, **paired},
        )
        return [first, second, *source_only_baseline(experiment)]

    def result(self, experiment: Experiment) -> dict[NetworkKind, str]:
        return {"generator": GENERATOR, "segmenter": SEGMENTER}

    def summary(self, experiment: Experiment) -> str:
        assert experiment.generator is not None
        assert experiment.segmenter is not None
        made = describe_translation(experiment)
        learned = f"then the segmenter {experiment.segmenter.name} learned from the result"
        return f"The generator {experiment.generator.name} {made}, {learned}"

    def selection(self, experiment: Experiment) -> str:
        translated = "" if _by_mask(experiment) else ", translated"
        return f"the validation images of the source{translated}"

    def synthesis(self, experiment: Experiment, images: int) -> str:
        if not _by_mask(experiment):
            return ""
        count = self._count or min(filter(None, (experiment.data.source_limit, images)))
        made_of = self._masks or f"{HOW[self._variation]} of the source"
        share = f"{experiment.data.synthetic_share:.0%} of what the segmenter learns from"
        return f"{count} {'image' if count == 1 else 'images'} from {made_of}, {share}"

    def data(self, stage: Stage, parts: Parts, products: Products) -> Parts:
        if stage.name != SEGMENTER:
            return parts
        trained = products.trained(GENERATOR)
        if trained.given.by_mask:
            return self._synthesized(parts, products, trained)
        return _translated(stage, parts, products, trained, self._quarantine)

    def task(self, stage: Stage, parts: Parts, build: Build) -> Task:
        from transeg.plugins.strategies.supervised import Supervised

        return Supervised().task(stage, parts, build)

    def _synthesized(self, parts: Parts, products: Products, trained: TrainedModel) -> Parts:
        """The real images, and images made of label maps."""
        from transeg.core.distributed.progress_bar import progress_bar
        from transeg.core.pipeline.label_maps import build_label_maps
        from transeg.core.pipeline.synthesis import synthesize

        assert parts.source is not None
        source, data, seed = parts.source, trained.experiment.data, trained.experiment.seed
        maps = build_label_maps(
            source, products.registry, masks=self._masks, variation=self._variation, limit=data.source_limit, seed=seed
        )
        count = self._count or len(maps)

        def make(folder: Path) -> None:
            with progress_bar(products.console, "synthesizing", count) as advance:
                synthesize(trained, maps, count, folder, trained.inference_for_training(), seed, advance)

        made = products.dataset(
            "synthetic",
            make,
            stage=GENERATOR,
            doing="synthesizing",
            split="all",
            classes=source.classes,
            channels=source.channels,
            ignore=IGNORE,
        )
        return replace(parts, synthetic=made["all"])


def _translated(stage: Stage, parts: Parts, products: Products, trained: TrainedModel, quarantine: float) -> Parts:
    """The source translated, and its validation images, unless target images validate."""
    from transeg.core.inference.translator import DatasetWithOriginals
    from transeg.core.pipeline.labelled_translation import translate_labelled

    assert parts.source is not None
    own_val = None if parts.validates_target else parts.val
    made = translate_labelled(
        trained,
        {"train": parts.source, **({} if own_val is None else {"val": own_val})},
        products,
        stage=GENERATOR,
        classes=parts.source.classes,
        channels=parts.domains.target_channels,
        quarantine=quarantine,
    )
    source, val = made["train"], parts.val if parts.validates_target else made.get("val")
    if "distillation" in stage.changes:  # teachers see the originals
        source = DatasetWithOriginals(source, parts.source)
        if own_val is not None and val is not None:
            val = DatasetWithOriginals(val, own_val)  # the folds learn from them, too
    return replace(parts, source=source, val=val)


def _by_mask(experiment: Experiment) -> bool:
    return experiment.generator is not None and experiment.generator.condition not in (None, "image")
