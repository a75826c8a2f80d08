"""Labelled images translated before a segmenter learns from them, and which of their labels no longer fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from transeg.core.builders.folds import Subset
from transeg.core.data.images import resize, unit_range
from transeg.core.distributed.collectives import broadcast_from_first
from transeg.core.evaluation.judge import Judge
from transeg.core.evaluation.label_survival import LabelSurvival
from transeg.core.evaluation.label_table import LabelTable, worst_labels
from transeg.core.experiment.schema import QualityOptions
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.inference.translator import Translator, resample_labels, to_pixels
from transeg.core.interfaces import Dataset, Sample
from transeg.core.pipeline.products import Products

FOLDER, LABELS = "translated", "labels.csv"
"""Of the run: the translated images, and among them the table of how their labels fit."""


def translate_labelled(
    trained: TrainedModel,
    datasets: Mapping[str, Dataset],
    products: Products,
    *,
    stage: str,
    classes: Sequence[str],
    channels: int,
    quarantine: float,
) -> dict[str, Dataset]:
    """Translate data sets at the size at which a generator sees them, their labels with them.

    Args:
        trained: has the generator; `quality.segmenter` of its experiment names the segmenter that looks for labels.
        datasets: ``train``, and ``val`` where there is one.
        products: of the run, which keeps them.
        stage: that has trained the generator.
        classes: of the labels.
        channels: of the translated images.
        quarantine: share of ``train`` that is left out, images whose labels fit worst; see
            :func:`~transeg.core.evaluation.label_table.worst_labels`.
    """
    labels = LabelTable(products.folder(FOLDER) / LABELS)
    broadcast_from_first(labels.begin)
    made = products.rewrite_splits(
        FOLDER,
        datasets,
        _translation(trained, products, labels),
        stage=stage,
        doing="translating",
        classes=classes,
        channels=channels,
    )
    broadcast_from_first(labels.finish)
    if quarantine:
        made["train"] = _without_worst(made["train"], labels, quarantine)
    return made


def _translation(trained: TrainedModel, products: Products, labels: LabelTable) -> Callable[[Sample, str], Sample]:
    """What translates a sample of a split, and notes how its label fits."""
    translator = Translator(trained, trained.inference_for_training())
    options = QualityOptions(segmenter=trained.experiment.quality.segmenter)  # what else there is need not be loaded
    judge = Judge.from_options(options, len(trained.domains.class_names), products.registry, trained.device).segmenter

    def translated(sample: Sample, split: str) -> Sample:
        made = to_pixels(translator.at_inference_size(sample.image, sample.name), sample.image.dtype)
        resampled = resample_labels(sample, made)
        before = resize(unit_range(sample.image), *made.shape[:2])
        labels.add(split, sample.name, LabelSurvival.of(before, made, resampled.mask, judge))
        return resampled

    return translated


def _without_worst(translated: Dataset, labels: LabelTable, share: float) -> Dataset:
    """The translated training images, whose names begin with their index, but that share of them."""
    lines = {name: line for name, line in labels.read().items() if line["split"] == "train"}
    left_out = {int(lines[name]["name"].partition("-")[0]) for name in worst_labels(lines, share)}
    return Subset([(translated, index) for index in range(len(translated)) if index not in left_out])
