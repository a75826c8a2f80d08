"""Metrics over test sets, for each image and in all.

Dice and IoU of each image, averaged over the images, are what the polyp literature reports; the pooled ones count the
pixels of all images together. Background is never averaged in.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchmetrics.functional.classification import multiclass_stat_scores
from torchmetrics.functional.regression import mean_absolute_error

from transeg.core.data.stream import begin_worker
from transeg.core.distributed import world
from transeg.core.errors import DataError
from transeg.core.forward import classes, probabilities
from transeg.core.inference import Forward, Inference, at_size
from transeg.core.interfaces import Dataset


class EvaluationItem(NamedTuple):
    """An image as the network takes it ``(C, h, w)``, and its mask ``(H, W)`` at its own size."""

    name: str
    image: Tensor
    mask: Tensor


class EvaluationSet(TorchDataset[EvaluationItem]):
    """The labelled images of a dataset, prepared for the network."""

    def __init__(self, dataset: Dataset, inference: Inference) -> None:
        self._dataset = dataset
        self._inference = inference

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> EvaluationItem:
        sample = self._dataset[index]
        if sample.mask is None:
            raise DataError(f"{sample.name} has no mask, so nothing can be measured on it.")
        mask = torch.from_numpy(sample.mask.astype(np.int64))
        return EvaluationItem(sample.name, self._inference.prepare(sample.image), mask)


@dataclass(frozen=True)
class ImageScore:
    """Pixel counts of one image, for each class but background.

    Attributes:
        name: of the sample.
        counts: ``(classes, 3)`` true positives, false positives, false negatives.
        error: mean absolute difference between the probability of not being background and the truth.
    """

    name: str
    counts: np.ndarray
    error: float

    def values(self) -> dict[str, float]:
        """Each metric, averaged over the classes that the image or its prediction has; NaN where there is none."""
        return {key: _mean(value) for key, value in ratios(self.counts).items()} | {"mae": self.error}


def ratios(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Dice, IoU, precision and recall for each row of (true positives, false positives, false negatives).

    NaN where both the truth and the prediction are empty; recall also where only the truth is, and precision is 0
    where only the prediction is.
    """
    tp, fp, fn = counts.astype(np.float64).T
    anything = np.where(tp + fp + fn > 0, 1.0, np.nan)
    return {
        "dice": anything * 2 * tp / np.maximum(2 * tp + fp + fn, 1),
        "iou": anything * tp / np.maximum(tp + fp + fn, 1),
        "precision": anything * tp / np.maximum(tp + fp, 1),
        "recall": np.where(tp + fn > 0, tp / np.maximum(tp + fn, 1), np.nan),
    }


def score(name: str, logits: Tensor, mask: Tensor) -> ImageScore:
    """Compare logits ``(K, H, W)`` with the truth ``(H, W)``, binary ones at a probability of one half."""
    count = max(2, len(logits))
    stats = multiclass_stat_scores(
        classes(logits[None]), mask[None], num_classes=count, average=None, validate_args=False
    )
    foreground = probabilities(logits[None]).sum(1)[0]
    error = mean_absolute_error(foreground, (mask > 0).to(foreground.dtype))
    return ImageScore(name, stats[1:, [0, 1, 3]].numpy(), float(error))


def summarize(scores: Sequence[ImageScore], names: Sequence[str]) -> dict[str, Any]:
    """The table of a test set.

    Args:
        scores: of its images.
        names: of the classes, background first.

    Returns:
        ``dice``, ``iou``, ``precision``, ``recall``, ``mae`` as means over the images (without those where a metric
        is undefined), ``dice_pooled`` and ``iou_pooled`` over all pixels, for several classes ``dice_<class>``, too;
        ``images``, and ``empty``, the number of images without foreground. None where nothing is defined.
    """
    per_image = [image.values() for image in scores]
    result: dict[str, Any] = {key: _number([values[key] for values in per_image]) for key in per_image[0]}
    total = np.stack([image.counts for image in scores])
    pooled = ratios(total.sum(0))
    result["dice_pooled"], result["iou_pooled"] = _number(pooled["dice"]), _number(pooled["iou"])
    if len(names) > 2:
        for index, name in enumerate(names[1:]):
            result[f"dice_{name}"] = _number(ratios(total[:, index])["dice"])
    result["images"] = len(scores)
    result["empty"] = int((total[:, :, [0, 2]].sum((1, 2)) == 0).sum())
    return result


def evaluate(
    forward: Forward,
    dataset: Dataset,
    inference: Inference,
    device: torch.device,
    workers: int,
    advance: Callable[[], None] = lambda: None,
) -> list[ImageScore]:
    """Score every image of a labelled dataset, at its own size.

    Args:
        forward: images -> logits.
        dataset: the images.
        inference: how they reach the network.
        device: where the network is.
        workers: processes that load.
        advance: called behind each image.
    """
    loader = evaluation_loader(dataset, inference, batch_size=1, workers=workers)
    scores = []
    for (item,) in loader:
        logits = inference.run(forward, item.image, device)
        scores.append(score(item.name, at_size(logits, *item.mask.shape), item.mask))
        advance()
    return scores


def evaluation_loader(
    dataset: Dataset, inference: Inference, *, batch_size: int, workers: int
) -> DataLoader[EvaluationItem]:
    """Items in lists, in the dataset's order; it draws nothing from the global random generator.

    Each rank takes every so-manieth image, and all take equally many: mmengine puts the ranks' results in order and
    cuts off what the last round repeated.
    """
    rank, ranks = world()
    rounds = -(-len(dataset) // ranks)
    return DataLoader(
        EvaluationSet(dataset, inference),
        batch_size=batch_size,
        sampler=[(turn * ranks + rank) % len(dataset) for turn in range(rounds)],
        num_workers=workers,
        collate_fn=list,
        worker_init_fn=begin_worker,
        generator=torch.Generator(),
    )


def write_csv(scores: Sequence[ImageScore], path: Path) -> None:
    """One line for each image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["name", "dice", "iou", "precision", "recall", "mae"])
        writer.writeheader()
        for image in scores:
            rounded = {key: "" if math.isnan(value) else f"{value:.6f}" for key, value in image.values().items()}
            writer.writerow({"name": image.name, **rounded})


class SegmentationMetric(BaseMetric):
    """Feeds mmengine's validation loop: logits against the masks of the items."""

    default_prefix = "val"

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._names = names

    def process(self, data_batch: Sequence[EvaluationItem], data_samples: Sequence[Tensor]) -> None:
        """Score a batch."""
        for item, logits in zip(data_batch, data_samples, strict=True):
            self.results.append(score(item.name, at_size(logits, *item.mask.shape), item.mask))

    def compute_metrics(self, results: list[ImageScore]) -> dict[str, Any]:
        """The table of the validation set."""
        return summarize(results, self._names)


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan


def _number(values: Sequence[float] | np.ndarray) -> float | None:
    mean = _mean(np.asarray(values, dtype=np.float64))
    return None if math.isnan(mean) else mean
