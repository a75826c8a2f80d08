"""Compares segmented slices with true ones as the volumes that they make up."""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from transeg.core.analysis.csv_files import CsvFiles
from transeg.core.analysis.packed_masks import PackedMasks
from transeg.core.data.listing import natural_sort_key
from transeg.core.distributed.collectives import gather_in_order
from transeg.core.evaluation.metrics.surface import surface_metrics
from transeg.core.evaluation.statistics import bootstrap_intervals
from transeg.core.interfaces import IGNORE, Dataset

METRICS = ("dice", "hd95_mm", "surface_dice")

logger = logging.getLogger(__name__)


class VolumeAgreement:
    """Compares label maps over the slices of volumes, which are the groups of a dataset.

    Slices of a volume are in the natural order of their names. They come in any order, from several ranks, so the masks
    of all are kept until then, compressed. A volume of which slices are missing is left out, with a warning.

    Args:
        names: of the classes, background first.
        slices: of each volume, how many there are.
        spacings: of each volume, millimetres from a slice to the next, and height and width of its pixels.
    """

    def __init__(
        self, names: Sequence[str], slices: dict[str, int], spacings: dict[str, tuple[float, float, float]]
    ) -> None:
        self._names = names
        self._slices = slices
        self._spacings = spacings
        self._masks: list[PackedMasks] = []

    @classmethod
    def of(cls, dataset: Dataset, names: Sequence[str]) -> Self | None:
        """For a dataset; None where its images are no slices of volumes, or not all of them."""
        slices: Counter[str] = Counter()
        spacings = {}
        for index in range(len(dataset)):
            distance, size = dataset.slice_distance_of(index), None
            if distance is None or (size := dataset.pixel_size_of(index)) is None:
                return None
            group = dataset.group_of(index)
            slices[group] += 1
            spacings[group] = distance / 1000, size[0] / 1000, size[1] / 1000
        return cls(names, dict(slices), spacings)

    def add(self, name: str, group: str, prediction: np.ndarray, truth: np.ndarray) -> None:
        """Keep one slice.

        Args:
            name: of the sample.
            group: of the sample: its volume.
            prediction: ``(H, W)`` label map.
            truth: likewise; where it is IGNORE, nothing counts.
        """
        self._masks.append(PackedMasks.pack(name, group, prediction, truth))

    def share(self) -> None:
        """Put together what the ranks have, each of its share of the slices."""
        self._masks = gather_in_order(self._masks)

    @cached_property
    def _values(self) -> dict[str, list[float]]:
        """Of each volume what :func:`volume_metrics` says."""
        volumes: dict[str, list[PackedMasks]] = defaultdict(list)
        for each in self._masks:
            volumes[each.group].append(each)
        found = {}
        for group in sorted(volumes, key=natural_sort_key):
            slices = sorted(volumes[group], key=lambda each: natural_sort_key(each.name))
            if len(slices) < self._slices[group]:
                missing = f"{self._slices[group] - len(slices)} of its {self._slices[group]} slices were not read"
                logger.warning("The volume %s is not measured as a whole: %s.", group, missing)
                continue
            predicted, truth = map(np.stack, zip(*(each.unpack() for each in slices), strict=True))
            found[group] = volume_metrics(predicted, truth, len(self._names), self._spacings[group])
        return found

    def summary(self) -> dict[str, Any]:
        """What was found in all volumes.

        Returns:
            ``volumes``, their number, and by name, for each of the ``classes`` but background, the means over volumes
            of ``dice``, ``hd95_mm`` (the 95 % Hausdorff distance in millimetres) and ``surface_dice``, None where no
            volume has one, and of each its 95 % interval, as ``dice_ci``; None of fewer than two volumes.
        """
        values = np.array([*self._values.values()]).reshape(len(self._values), len(self._names) - 1, len(METRICS))
        classes = {}
        for number, name in enumerate(self._names[1:]):
            of_class = values[:, number]
            ends = (
                bootstrap_intervals(of_class, list(self._values))
                if len(of_class)
                else np.full((len(METRICS), 2), np.nan)
            )
            row: dict[str, Any] = {}
            for metric, column, interval in zip(METRICS, of_class.T, ends, strict=True):
                defined = column[~np.isnan(column)]
                row[metric] = float(defined.mean()) if len(defined) else None
                row[f"{metric}_ci"] = None if np.isnan(interval).any() else interval.tolist()
            classes[name] = row
        return {"volumes": len(self._values), "classes": classes}

    def write(self, path: Path) -> None:
        """A CSV file with a line for each volume; for several classes with columns of each, such as ``dice_liver``."""
        names = self._names[1:]
        head = METRICS if len(names) == 1 else [f"{metric}_{name}" for name in names for metric in METRICS]
        with CsvFiles() as files:
            rows = files.begin(path, ["name", *head])
            for group, values in self._values.items():
                rows.writerow([group, *("" if math.isnan(value) else f"{value:.6f}" for value in values)])


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
