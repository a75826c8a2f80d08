"""Measures label volumes in three dimensions, beside each of their slices."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from transeg.core.analysis.csv_files import CsvFiles
from transeg.core.data.labels import number_classes
from transeg.core.data.volume_file import VolumeFile, open_volume, volume_stem
from transeg.core.errors import DataError, UsageError
from transeg.core.evaluation.metrics.surface import surface_metrics
from transeg.core.evaluation.scores import DetailedScore, in_one_unit, score_labels, summarize, write_csv
from transeg.core.interfaces import IGNORE, Dataset

WHAT = "Measuring volumes"
"""Needs nibabel."""
METRICS = ("dice", "hd95_mm", "surface_dice")


def measure_volumes(
    volumes: Sequence[Path],
    datasets: Mapping[str, Dataset],
    axes: Mapping[str, int],
    folder: Path,
    advance: Callable[[], None] = lambda: None,
    *,
    suffix: str = "",
) -> dict[str, Any]:
    """Measure label volumes on datasets whose groups are volumes, slice by slice and each as a whole.

    Args:
        volumes: NIfTI files of class numbers, called as their images, as `toolkit predict` calls them.
        datasets: slices of labelled volumes, by the name that they have in the table.
        axes: that the slices of each dataset lie across.
        folder: gets of each dataset a CSV file with a line for each slice, and ``<label>_volumes.csv`` with a line for
            each volume: of each class Dice, the 95 % Hausdorff distance in millimetres and the surface Dice.
        advance: called after each slice.
        suffix: what follows the image's name in those of the volumes, before the extension.

    Returns:
        See :func:`transeg.core.evaluation.scores.summarize`, of the slices of each dataset.

    Raises:
        UsageError: there is no volume for an image.
        DataError: a volume cannot be read, or is none of its image.
    """
    files = {volume_stem(path): path for path in volumes}
    table = {}
    for label, dataset in datasets.items():
        by_group: dict[str, list[int]] = defaultdict(list)
        for index in range(len(dataset)):
            by_group[dataset.group_of(index)].append(index)
        scores: list[DetailedScore] = []
        with CsvFiles() as tables:
            names = dataset.classes[1:]
            head = METRICS if len(names) == 1 else [f"{metric}_{name}" for name in names for metric in METRICS]
            rows = tables.begin(folder / f"{label}_volumes.csv", ["name", *head])
            for group, indices in by_group.items():
                image = dataset.files_of(indices[0])["image"][0]
                path = files.get(f"{volume_stem(image)}{suffix}") or files.get(f"{group}{suffix}")
                if path is None:
                    raise UsageError(f"There is no volume {volume_stem(image)}{suffix}.nii.gz of {image}.")
                found = open_volume(path, WHAT)
                open_volume(image, WHAT).check_alike(found)
                measured, values = _measured(found, dataset, indices, axes[label], advance)
                scores += measured
                rows.writerow([group, *("" if math.isnan(value) else f"{value:.6f}" for value in values)])
        scores = in_one_unit(scores, label)
        write_csv(scores, dataset.classes, folder / f"{label}.csv")
        table[label] = summarize(scores, dataset.classes)
    return table


def volume_metrics(
    predicted: np.ndarray, truth: np.ndarray, count: int, spacing: tuple[float, float, float]
) -> list[float]:
    """Of each class but background the :data:`METRICS`, one after the other; NaN where neither volume has the class.

    Args:
        predicted: ``(D, H, W)`` class numbers.
        truth: likewise; voxels of IGNORE do not count.
        count: of classes.
        spacing: of the voxels along each axis, in millimetres.
    """
    valid = truth != IGNORE
    found = []
    for label in range(1, count):
        one, other = (predicted == label) & valid, (truth == label) & valid
        total = int(one.sum()) + int(other.sum())
        found.append(2 * int((one & other).sum()) / total if total else math.nan)
        found += surface_metrics(one, other, valid, spacing)
    return found


def _measured(
    volume: VolumeFile, dataset: Dataset, indices: Sequence[int], axis: int, advance: Callable[[], None]
) -> tuple[list[DetailedScore], list[float]]:
    """The scores of the slices of a volume, and the metrics of the whole.

    Raises:
        DataError: it is not one of these slices.
    """
    path, count = volume.path, len(dataset.classes)
    if volume.shape[axis] != len(indices):
        raise DataError(
            f"{path} has {volume.shape[axis]} slices across axis {axis}, but its image {len(indices)}.", str(path)
        )
    numbers = {number: number for number in range(count)}
    scores, predicted, truth = [], [], []
    for place, index in enumerate(indices):
        sample = dataset[index]
        try:
            found = number_classes(volume.labels(axis, place), numbers)
        except ValueError as fault:
            raise DataError(f"{path} {fault}.", str(path)) from fault
        if sample.mask is None or sample.mask.shape != found.shape:
            raise DataError(f"{path} has other slices than the labels of {sample.name}.", str(path))
        predicted.append(found)
        truth.append(sample.mask.astype(np.uint8))
        labels, true = (torch.from_numpy(each[-1].astype(np.int64)) for each in (predicted, truth))
        scores.append(score_labels(sample.name, sample.group, labels, true, count, sample.pixel_size))
        advance()
    height, width = volume.pixel_size_of(axis)
    spacing = volume.spacing[axis] / 1000, height / 1000, width / 1000
    return scores, volume_metrics(np.stack(predicted), np.stack(truth), count, spacing)
