"""Metrics over test sets, for each image and in all.

Dice and IoU of each image, averaged over the images, are what the polyp literature reports; the pooled ones count the
pixels of all images together. Background is averaged in only where a metric's name says so. Pixels of
:data:`~transeg.core.interfaces.IGNORE` count nowhere.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from transeg.core.analysis.count_tables import CountAgreement
from transeg.core.analysis.csv_files import CsvFiles
from transeg.core.analysis.video_tables import VideoAgreement
from transeg.core.distributed.collectives import (
    all_gather,
    broadcast_from_first,
    gather_in_order,
)
from transeg.core.errors import DataError, Failures
from transeg.core.evaluation.evaluation_items import EvaluationItem, EvaluationSet, ReadableItems, evaluation_loader
from transeg.core.evaluation.metrics.calibration import calibration_bins, calibration_error
from transeg.core.evaluation.metrics.counts import count_pixels, overlap_ratios
from transeg.core.evaluation.metrics.image_metrics import ImageMetric
from transeg.core.evaluation.metrics.polyp_protocol import ThresholdCurves, polyp_protocol
from transeg.core.evaluation.metrics.surface import PIXELS, surface_metrics
from transeg.core.evaluation.metrics.table import IN_PLACE_OF
from transeg.core.evaluation.statistics import bootstrap_intervals
from transeg.core.evaluation.volume_agreement import VolumeAgreement
from transeg.core.inference.overlapping import WorkBehind
from transeg.core.inference.sliding_window import Forward, Inference, resize_result
from transeg.core.inference.translator import loading_workers
from transeg.core.interfaces import IGNORE, Dataset
from transeg.core.models.forward import to_classes, to_probabilities

logger = logging.getLogger(__name__)
T = TypeVar("T")

MEASURERS = 4
"""Threads that measure images while the network has the next ones; SciPy, where the time goes, lets them run at once.
"""


@dataclass(frozen=True)
class ImageScore:
    """What follows from an image's pixel counts.

    Attributes:
        name: of the sample.
        group: of the sample.
        counts: ``(classes, 4)`` true positives, false positives, false negatives, true negatives; background first.
        values: each metric, averaged over the classes but background where it is defined; NaN where it is in none.
        of_classes: the metrics that are told for each class, too: ``(classes - 1,)``, without background.
    """

    name: str
    group: str
    counts: np.ndarray
    values: dict[str, float]
    of_classes: dict[str, np.ndarray]


@dataclass(frozen=True)
class DetailedScore(ImageScore):
    """Everything there is to say about an image.

    Attributes:
        calibration: see :func:`~transeg.core.evaluation.metrics.calibration.calibration_bins`; None for labels without
            probabilities.
        curves: those of the polyp protocol; None for several classes, for labels without probabilities, or where no
            pixel counts.
    """

    calibration: np.ndarray | None = None
    curves: ThresholdCurves | None = None


def score(item: EvaluationItem, logits: Tensor, metrics: Sequence[ImageMetric] = ()) -> ImageScore:
    """Count an image's pixels, and no more: cheap enough for validation during training.

    It is done where the logits are, and a few numbers come back from there; ``metrics`` are given arrays.

    Args:
        item: the truth; pixels of IGNORE do not count.
        logits: ``(K, h, w)`` on any device, resized to the truth; binary ones are cut at a probability of one half.
        metrics: measured besides.
    """
    logits = resize_result(logits, *item.mask.shape)
    truth = item.mask.to(logits.device, non_blocking=True)
    counts = count_pixels(to_classes(logits[None])[0], truth, max(2, len(logits)))
    ratios, of_classes = _ratios(counts)
    values = {**ratios, "mae": _error(logits, truth), **_measured(metrics, item, logits)}
    return ImageScore(item.name, item.group, counts, values, of_classes)


def score_labels(
    name: str, group: str, labels: Tensor, truth: Tensor, count: int, pixel_size: tuple[float, float] | None = None
) -> DetailedScore:
    """Every metric of a label map: pixel counts and outlines.

    Args:
        name: of the sample.
        group: of the sample.
        labels: ``(H, W)`` int64, on any device.
        truth: ``(H, W)`` int64 on the CPU; pixels of IGNORE do not count.
        count: number of classes.
        pixel_size: height and width in micrometres, or None; where it is known, distances are told in both units, and
            :func:`in_one_unit` leaves one of them for all images of a set.
    """
    counts = count_pixels(labels, truth, count)
    values, of_classes = _ratios(counts)
    predicted, true = labels.cpu().numpy(), truth.numpy()

    def outlines(size: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
        found = [surface_metrics(predicted == label, true == label, true != IGNORE, size) for label in range(1, count)]
        distances, near = np.array(found).T
        return distances, near

    of_classes["hd95"], near = outlines(PIXELS)
    if pixel_size is not None:
        height, width = pixel_size
        if height == width:
            of_classes["hd95_um"] = of_classes["hd95"] * height
        else:
            of_classes["hd95_um"], near = outlines(pixel_size)
    values |= {key: _mean(distances) for key, distances in of_classes.items() if key in ("hd95", "hd95_um")}
    values["surface_dice"] = _mean(near)
    return DetailedScore(name, group, counts, values, of_classes)


def in_one_unit(scores: Sequence[DetailedScore], label: str) -> list[DetailedScore]:
    """The scores of a set with distances in micrometres where all its images have these, and else in pixels.

    Args:
        scores: of its images.
        label: of the set, for the warning where the sizes of some pixels alone are known.
    """
    for pixels, micrometres in IN_PLACE_OF.items():
        sized = [micrometres in image.values for image in scores]
        if any(sized) and not all(sized):
            logger.warning(
                "%s: the pixel size of %d of %d images is known, so distances are in pixels for all.",
                label,
                sum(sized),
                len(sized),
            )
        unwanted = pixels if all(sized) else micrometres
        scores = [
            replace(image, values=_without(unwanted, image.values), of_classes=_without(unwanted, image.of_classes))
            for image in scores
        ]
    return list(scores)


def _without(key: str, values: Mapping[str, T]) -> dict[str, T]:
    return {name: value for name, value in values.items() if name != key}


def score_in_detail(item: EvaluationItem, logits: Tensor, metrics: Sequence[ImageMetric] = ()) -> DetailedScore:
    """Every metric of an image, distances and calibration included; see :func:`score`.

    Labels and their confidence come back from where the logits are, since distances are measured on the CPU.
    """
    logits = resize_result(logits, *item.mask.shape)
    labels = to_classes(logits[None])[0]
    scored = score_labels(item.name, item.group, labels, item.mask, max(2, len(logits)), item.pixel_size)
    truth = item.mask.numpy()
    valid = truth != IGNORE
    binary = len(scored.counts) == 2
    if binary:
        confidence, right = to_probabilities(logits[None])[0, 0].cpu().numpy(), truth == 1
    else:
        confidence, right = logits.softmax(0).amax(0).cpu().numpy(), labels.cpu().numpy() == truth
    bins = calibration_bins(confidence[valid], right[valid])
    values = {**scored.values, "mae": _error(logits, item.mask), "ece": calibration_error(bins)}
    protocol, curves = polyp_protocol(confidence, right, valid) if binary else ({}, None)
    values |= protocol | _measured(metrics, item, logits)
    return replace(scored, values=values, calibration=bins, curves=curves)


def _measured(metrics: Sequence[ImageMetric], item: EvaluationItem, logits: Tensor) -> dict[str, float]:
    """The metrics that are functions of an image; ``logits`` have the size of its truth."""
    if not metrics:
        return {}
    probabilities = torch.cat([-logits, logits]).sigmoid() if len(logits) == 1 else logits.softmax(0)
    pixel_size = None if item.pixel_size is None else math.sqrt(math.prod(item.pixel_size))
    arrays = [tensor.numpy().view() for tensor in (probabilities.float().cpu(), item.mask)]
    for array in arrays:
        array.flags.writeable = False  # other metrics and the counting of objects see the same
    return {metric.name: metric(item.name, arrays[0], arrays[1], pixel_size) for metric in metrics}


def _ratios(counts: np.ndarray) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """What follows from pixel counts: means over the classes but background, and Dice and IoU of each."""
    found = overlap_ratios(counts[1:])
    return {key: _mean(value) for key, value in found.items()}, {key: found[key] for key in ("dice", "iou")}


def _error(logits: Tensor, mask: Tensor) -> float:
    """Mean absolute difference between the probability of the foreground and the truth; NaN where no pixel counts."""
    mask = mask.to(logits.device, non_blocking=True)
    valid = mask != IGNORE
    gap = to_probabilities(logits[None]).sum(1)[0].sub_((mask > 0).float()).abs_().mul_(valid)
    # NumPy's sum of a CPU's pixels is that of all tables until now; PyTorch's has other last digits
    total = float(gap.numpy().sum() if gap.device.type == "cpu" else gap.sum())
    pixels = int(valid.count_nonzero())
    return total / pixels if pixels else math.nan


def summarize(scores: Sequence[DetailedScore], names: Sequence[str]) -> dict[str, Any]:
    """The table of a test set.

    Args:
        scores: of its images.
        names: of the classes, background first.

    Returns:
        What :func:`totals` gives; ``classes``, the names of all but background; ``<metric>_ci``, the 95 % interval of
        each mean over images; ``ece_pooled``, where there are probabilities; with them and for two classes the polyp
        protocol's ``pranet_max_dice`` and ``pranet_max_em``, the maxima of the mean curves.
    """
    result = totals(scores, names) | {"classes": list(names[1:])}
    metrics = list(scores[0].values)
    values = np.array([[image.values[key] for key in metrics] for image in scores])
    intervals = bootstrap_intervals(values, [image.group for image in scores])
    for key, ends in zip(metrics, intervals, strict=True):
        result[f"{key}_ci"] = None if np.isnan(ends).any() else ends.tolist()
    bins = [image.calibration for image in scores if image.calibration is not None]
    if bins:
        pooled = calibration_error(np.sum(bins, 0))
        result["ece_pooled"] = None if math.isnan(pooled) else pooled
    curves = [image.curves for image in scores if image.curves is not None]
    if curves:
        result["pranet_max_dice"] = float(np.mean([curve.dice for curve in curves], 0).max())
        result["pranet_max_em"] = float(np.mean([curve.e_measure for curve in curves], 0).max())
    return result


def totals(scores: Sequence[ImageScore], names: Sequence[str]) -> dict[str, Any]:
    """Means over images, and metrics over all pixels of a set.

    Args:
        scores: of its images.
        names: of the classes, background first.

    Returns:
        Each metric of the images as a mean over them (without those where it is undefined). Over all pixels:
        ``dice_pooled``, ``iou_pooled``, and ``dice_with_background_pooled``, ``iou_with_background_pooled``, which
        average the background in. For several classes ``<metric>_<class>``, a mean over images of each metric in
        :attr:`ImageScore.of_classes`. ``images``, and ``empty``, the number of images without foreground. None where
        nothing is defined.
    """
    result: dict[str, Any] = {key: _number([image.values[key] for image in scores]) for key in scores[0].values}
    counts = np.stack([image.counts for image in scores])
    pooled = overlap_ratios(counts.sum(0))
    for key in ("dice", "iou"):
        result[f"{key}_pooled"] = _number(pooled[key][1:])
        result[f"{key}_with_background_pooled"] = _number(pooled[key])
    of_classes = [_of_classes(image, names) for image in scores]
    result |= {key: _number([values[key] for values in of_classes]) for key in of_classes[0]}
    result["images"] = len(scores)
    result["empty"] = int((counts[:, 1:, [0, 2]].sum((1, 2)) == 0).sum())
    return result


def evaluate(
    forward: Forward,
    dataset: Dataset,
    inference: Inference,
    device: torch.device,
    workers: int,
    advance: Callable[[], None] = lambda: None,
    counts: CountAgreement | None = None,
    metrics: Sequence[ImageMetric] = (),
    failures: Failures | None = None,
    videos: VideoAgreement | None = None,
    follow: Callable[[str], None] | None = None,
    volumes: VolumeAgreement | None = None,
) -> list[DetailedScore]:
    """Score every image of a labelled dataset, at its own size. Ranks share the images; all get all scores.

    Images are measured in threads while the network has the next ones; in one of them, where there are ``metrics``.

    Args:
        forward: images -> logits.
        dataset: the images.
        inference: how they reach the network.
        device: where the network is.
        workers: processes that load.
        advance: called after each image.
        counts: is given each image to count its objects.
        metrics: measured besides those that are always.
        failures: get the images that cannot be read, and the others are scored all the same; None to stop at the first.
        videos: is given each image as a frame.
        follow: called with an image's group before the network has it.
        volumes: is given each image as a slice.

    Raises:
        DataError: an image cannot be read, or none can.
    """
    items = EvaluationSet(dataset, inference)
    readable = items if failures is None else ReadableItems(items)
    loader = evaluation_loader(readable, batch_size=1, workers=loading_workers(dataset, workers), device=device)
    scores: list[DetailedScore | None] = []
    of_groups = [each for each in (videos, volumes) if each is not None]
    compared = counts is not None or bool(of_groups)

    def measure(place: int, item: EvaluationItem, logits: Tensor) -> None:
        scores[place] = score_in_detail(item, logits, metrics)

    with WorkBehind(1 if metrics else min(MEASURERS, torch.get_num_threads())) as behind:  # plugins may count on one
        for place, (item,) in enumerate(loader):
            scores.append(None)
            if isinstance(item, DataError):
                assert failures is not None
                failures.reasons.append(str(item))
                advance()
                continue
            if follow is not None:
                follow(item.group)
            logits = inference.run(forward, item.image, device)
            if compared:
                logits = resize_result(logits, *item.mask.shape)  # once for all; else in the threads
            behind(partial(measure, place, item, logits))
            _compare(item, logits, counts, of_groups)
            advance()
    for counted in (counts, videos, volumes):
        if counted is not None:
            counted.share()
    if failures is not None:
        failures.reasons = all_gather(failures.reasons)
    found = [each for each in gather_in_order(scores) if each is not None]
    if failures is not None and not found:
        raise DataError(f"No image can be used. {failures.reasons[0]}")
    return found


def _compare(
    item: EvaluationItem,
    logits: Tensor,
    counts: CountAgreement | None,
    of_groups: Sequence[VideoAgreement | VolumeAgreement],
) -> None:
    """Give an image to what looks at more than single images; ``logits`` have the size of its truth."""
    if counts is None and not of_groups:
        return
    prediction, truth = to_classes(logits[None])[0].cpu().numpy(), item.mask.numpy()
    if counts is not None:
        counts.add(item.name, item.group, prediction, truth, item.instances)
    for agreement in of_groups:
        agreement.add(item.name, item.group, prediction, truth)


def write_csv(scores: Sequence[ImageScore], names: Sequence[str], path: Path) -> None:
    """One line for each image; for several classes with columns of each, such as ``hd95_<class>``."""
    with CsvFiles() as files:
        writer = files.begin(path, ["name", "group", *scores[0].values, *_of_classes(scores[0], names)])
        for image in scores:
            values = [*image.values.values(), *_of_classes(image, names).values()]
            writer.writerow(
                [image.name, image.group, *("" if math.isnan(value) else f"{value:.6f}" for value in values)]
            )


def _of_classes(image: ImageScore, names: Sequence[str]) -> dict[str, float]:
    """``<metric>_<class>`` of an image; nothing for two classes, where the class is what everything is about."""
    if len(names) == 2:
        return {}
    metrics = image.of_classes.items()
    return {f"{key}_{name}": float(values[i]) for key, values in metrics for i, name in enumerate(names[1:])}


class SharedMetric(BaseMetric):
    """A metric of items that the ranks share as :func:`evaluation_loader` gives them out.

    mmengine's own way repeats items, puts results into a folder below the working directory, and drops them again.
    """

    def evaluate(self, size: int) -> dict[str, Any]:
        """The table of all items, on all ranks."""
        results = gather_in_order(self.results)
        self.results.clear()
        table = broadcast_from_first(lambda: self.compute_metrics(results))
        return {f"{self.prefix}/{key}": value for key, value in table.items()}


class SegmentationMetric(SharedMetric):
    """Feeds mmengine's validation loop: logits against the masks of the items."""

    default_prefix = "val"

    def __init__(self, names: Sequence[str], metrics: Sequence[ImageMetric] = ()) -> None:
        super().__init__()
        self._names = names
        self._metrics = metrics

    def process(self, data_batch: Sequence[EvaluationItem], data_samples: Sequence[Tensor]) -> None:
        """Score a batch."""
        for item, logits in zip(data_batch, data_samples, strict=True):
            self.results.append(score(item, logits, self._metrics))

    def compute_metrics(self, results: list[ImageScore]) -> dict[str, Any]:
        """The table of the validation set."""
        return totals(results, self._names)


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan


def _number(values: Sequence[float] | np.ndarray) -> float | None:
    mean = _mean(np.asarray(values, dtype=np.float64))
    return None if math.isnan(mean) else mean
