"""Which images a report shows, and what the networks make of them now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from transeg.core.builders.datasets import build_nonempty, normalise_stain, validation_split
from transeg.core.data.images import resize, unit_range
from transeg.core.data.stream import to_tensor
from transeg.core.errors import UsageError
from transeg.core.evaluation.evaluation_items import EvaluationItem
from transeg.core.evaluation.scores import score
from transeg.core.experiment.schema import Experiment
from transeg.core.inference.masks import class_map
from transeg.core.inference.sliding_window import resize_result
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.inference.translator import translation_seed
from transeg.core.inference.visualization import to_picture
from transeg.core.interfaces import Dataset, Sample
from transeg.core.models.forward import to_signed_unit
from transeg.core.registry import Registry
from transeg.tools.report.pictures import Picture, encode_picture, paint_classes, paint_errors
from transeg.tools.report.record import Scores

EACH = 2
"""How many of the best and of the worst images are shown, beside the median."""
LOOKED_AT = 12
"""Among this many source images, evenly spaced, the best, median and worst translations are found."""


@dataclass(frozen=True)
class ReportCase:
    """One image.

    Attributes:
        rank: ``best``, ``median`` or ``worst``; ``""`` where there is nothing to rank.
        name: of the sample.
        size: height and width of the image.
        dice: what was measured on it, or None.
        plain: pictures by title.
        compared: two pictures of one size by title, to be laid over each other; None for none.
    """

    rank: str
    name: str
    size: tuple[int, int]
    dice: float | None
    plain: dict[str, Picture]
    compared: dict[str, Picture] | None


def rank_cases(dice: np.ndarray, names: Sequence[str], each: int = EACH) -> list[tuple[str, int]]:
    """The worst, the median and the best images: rank and index, none of them twice.

    Args:
        dice: ``(images,)``; images where it is NaN are left out.
        names: decide between equal values, so that the same images are shown each time.
        each: how many of each rank, where there are enough.
    """
    order = sorted(
        (index for index in range(len(dice)) if not np.isnan(dice[index])), key=lambda i: (dice[i], names[i])
    )
    if len(order) == 1:
        return [("", order[0])]
    each = min(each, max(1, len(order) // 3))
    middle = (len(order) - each) // 2
    parts = {"worst": order[:each], "median": order[middle : middle + each], "best": order[len(order) - each :][::-1]}
    found: dict[int, str] = {}
    for rank, indices in parts.items():
        for index in indices:
            found.setdefault(index, rank)
    return [(rank, index) for index, rank in found.items()]


def test_cases(
    trained: TrainedModel, dataset: Dataset, scores: Scores, advance: Callable[[], None]
) -> list[ReportCase]:
    """The worst, median and best images of a test set, segmented again.

    Args:
        trained: has a segmenter.
        dataset: the test set.
        scores: what was measured on it.
        advance: called after each image.

    Raises:
        UsageError: the test set has other images by now.
        DataError: an image cannot be read.
    """
    shown = []
    for rank, index in rank_cases(scores.values["dice"], scores.names):
        name = scores.names[index]
        sample = dataset[index] if index < len(dataset) else None
        if sample is None or sample.name != name or sample.mask is None:
            raise UsageError(f"the test set no longer has its image {name} where it was measured")
        shown.append(_segmented(rank, sample, float(scores.values["dice"][index]), segment_sample(trained, sample)))
        advance()
    return shown


def segment_sample(trained: TrainedModel, sample: Sample) -> np.ndarray:
    """``(H, W)`` classes, at the image's own size."""
    inference = trained.inference()
    logits = inference.run(trained.segment, inference.prepare(sample.image), trained.device)
    return class_map(resize_result(logits, *sample.size))


def translate_sample(trained: TrainedModel, sample: Sample) -> Tensor:
    """What the generator makes of a source image, ``(C', h, w)`` in [-1, 1]."""
    inference = trained.inference()
    there = partial(trained.translate, seed=translation_seed(sample.name))
    return inference.run(there, trained.given.sample(sample, inference), trained.device)


def source_images(experiment: Experiment, registry: Registry) -> Dataset:
    """Source images that were held out, where there are any.

    Raises:
        UsageError: there are none at all.
    """
    source = experiment.data.source
    assert source is not None
    held_out = validation_split(source, registry)
    return normalise_stain(
        held_out if held_out is not None else build_nonempty(source, "source", registry), experiment.data
    )


def _segmented(rank: str, sample: Sample, dice: float, found: np.ndarray) -> ReportCase:
    assert sample.mask is not None
    pixels, name = shown_pixels(sample.image), sample.name
    compared = {
        "truth": encode_picture(paint_classes(pixels, sample.mask), f"{name} with the true outlines"),
        "prediction": encode_picture(paint_classes(pixels, found), f"{name} with the predicted outlines"),
    }
    plain = {
        "image": encode_picture(pixels, f"{name}, the image"),
        "errors": encode_picture(
            paint_errors(pixels, found, sample.mask), f"{name}, where prediction and truth differ"
        ),
    }
    return ReportCase(rank, name, sample.size, dice, plain, compared)


def translated_cases(trained: TrainedModel, dataset: Dataset, advance: Callable[[], None]) -> list[ReportCase]:
    """Source images and what the generator makes of them; with a segmenter that looks at these, the worst first.

    Args:
        trained: has a generator.
        dataset: source images, held out if possible.
        advance: called after each image, :data:`LOOKED_AT` or as many as there are.

    Raises:
        DataError: an image cannot be read.
    """
    count = min(LOOKED_AT, len(dataset))
    made = []
    for index in range(count):
        made.append(_Translated.of(trained, dataset[index * len(dataset) // count]))
        advance()
    dice = np.array([each.dice for each in made])
    if np.isnan(dice).all():
        chosen = [("", index * count // 3) for index in range(min(3, count))]
    else:
        chosen = rank_cases(dice, [each.sample.name for each in made], 1)
    return [made[index].case(rank, trained.given.by_mask) for rank, index in chosen]


@dataclass(frozen=True)
class _Translated:
    """What becomes of a source image.

    Attributes:
        sample: the image.
        result: of the generator, ``(C', h, w)`` in [-1, 1].
        found: what the segmenter finds in it, ``(H, W)`` at the image's own size; None without one that looks at it.
        dice: of that; NaN where it is undefined.
    """

    sample: Sample
    result: Tensor
    found: np.ndarray | None
    dice: float

    @classmethod
    def of(cls, trained: TrainedModel, sample: Sample) -> _Translated:
        """Translate, segment, measure."""
        inference, result = trained.inference(), translate_sample(trained, sample)
        if trained.segmenter is None or trained.given.by_mask:
            return cls(sample, result, None, np.nan)
        logits = inference.run(trained.segment, result, trained.device)
        found = class_map(resize_result(logits, *sample.size))
        if sample.mask is None:
            return cls(sample, result, found, np.nan)
        truth = torch.from_numpy(sample.mask.astype(np.int64))
        measured = score(EvaluationItem(sample.name, sample.group, result, truth), logits)
        return cls(sample, result, found, measured.values["dice"])

    def case(self, rank: str, by_mask: bool) -> ReportCase:
        """Its pictures; ``by_mask`` says whether the generator was given label maps."""
        name, mask, source = self.sample.name, self.sample.mask, shown_pixels(self.sample.image)
        result = resize(to_picture(self.result), *source.shape[:2])
        plain = {}
        if by_mask and mask is not None:
            plain["label map"] = encode_picture(paint_classes(np.full_like(source, 40), mask), f"{name}, the label map")
        if self.found is not None:
            outlines = paint_classes(result, self.found)
            plain["prediction"] = encode_picture(outlines, f"{name}, what is predicted on its translation")
        if self.found is not None and mask is not None:
            plain["truth"] = encode_picture(paint_classes(result, mask), f"{name}, the truth on its translation")
            wrong = paint_errors(result, self.found, mask)
            plain["errors"] = encode_picture(wrong, f"{name}, where prediction and truth differ")
        titles = ("real", "synthetic") if by_mask else ("source", "translation")
        compared = {
            t: encode_picture(pixels, f"{name}, {t}") for t, pixels in zip(titles, (source, result), strict=True)
        }
        return ReportCase(rank, name, self.sample.size, None if np.isnan(self.dice) else self.dice, plain, compared)


def shown_pixels(image: np.ndarray) -> np.ndarray:
    """``(H, W, C)`` of any type -> ``(H, W, 3)`` uint8."""
    return to_picture(to_signed_unit(to_tensor(unit_range(image)), torch.device("cpu")))
