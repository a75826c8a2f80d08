"""Measures label volumes in three dimensions, beside each of their slices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from transeg.core.data.labels import number_classes
from transeg.core.data.volume_file import VolumeFile, open_volume, volume_stem
from transeg.core.errors import DataError, UsageError
from transeg.core.evaluation.scores import DetailedScore, in_one_unit, score_labels, summarize, write_csv
from transeg.core.evaluation.volume_agreement import VolumeAgreement
from transeg.core.interfaces import Dataset

WHAT = "Measuring volumes"
"""Needs nibabel."""


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
        See :func:`transeg.core.evaluation.scores.summarize`, of the slices of each dataset, and as ``volumes``
        :meth:`~transeg.core.evaluation.volume_agreement.VolumeAgreement.summary`.

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
        agreement = VolumeAgreement.of(dataset, dataset.classes)
        assert agreement is not None
        for group, indices in by_group.items():
            image = dataset.files_of(indices[0])["image"][0]
            path = files.get(f"{volume_stem(image)}{suffix}") or files.get(f"{group}{suffix}")
            if path is None:
                raise UsageError(f"There is no volume {volume_stem(image)}{suffix}.nii.gz of {image}.")
            found = open_volume(path, WHAT)
            open_volume(image, WHAT).check_alike(found)
            scores += _measured(found, dataset, indices, axes[label], agreement, advance)
        agreement.write(folder / f"{label}_volumes.csv")
        scores = in_one_unit(scores, label)
        write_csv(scores, dataset.classes, folder / f"{label}.csv")
        table[label] = summarize(scores, dataset.classes) | {"volumes": agreement.summary()}
    return table


def _measured(
    volume: VolumeFile,
    dataset: Dataset,
    indices: Sequence[int],
    axis: int,
    agreement: VolumeAgreement,
    advance: Callable[[], None],
) -> list[DetailedScore]:
    """The scores of the slices of a volume, each of which the agreement is given.

    Raises:
        DataError: it is not one of these slices.
    """
    path, count = volume.path, len(dataset.classes)
    if volume.shape[axis] != len(indices):
        raise DataError(
            f"{path} has {volume.shape[axis]} slices across axis {axis}, but its image {len(indices)}.", str(path)
        )
    numbers = {number: number for number in range(count)}
    scores = []
    for place, index in enumerate(indices):
        sample = dataset[index]
        try:
            found = number_classes(volume.labels(axis, place), numbers)
        except ValueError as fault:
            raise DataError(f"{path} {fault}.", str(path)) from fault
        if sample.mask is None or sample.mask.shape != found.shape:
            raise DataError(f"{path} has other slices than the labels of {sample.name}.", str(path))
        agreement.add(sample.name, sample.group, found, sample.mask)
        labels, true = (torch.from_numpy(each.astype(np.int64)) for each in (found, sample.mask))
        scores.append(score_labels(sample.name, sample.group, labels, true, count, sample.pixel_size))
        advance()
    return scores
