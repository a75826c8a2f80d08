"""Cross-validation: which images each fold holds out; docs/decisions/folds.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transeg.core.data.splits import group_k_fold as cut_folds
from transeg.core.errors import UsageError
from transeg.core.interfaces import Dataset, Origin, Region, Sample


def split_folds(source: Dataset, val: Dataset | None, folds: int, seed: int) -> list[list[int]]:
    """Which labelled images each fold holds out.

    Args:
        source: training images.
        val: the source's validation images, which are dealt out with them; None where there are none.
        folds: how many.
        seed: of the shuffle before groups are dealt out.

    Returns:
        Indices for each fold, those of validation images after those of training images.

    Raises:
        UsageError: there are fewer groups than folds.
    """
    everything = concatenate(source, val)
    groups = [everything.group_of(index) for index in range(len(everything))]
    if len(set(groups)) < folds:
        raise UsageError(
            f"The source's {len(groups)} images make {len(set(groups))} groups (subjects, slides, sequences), which "
            f"cannot be cut: {folds} folds are too many."
        )
    return cut_folds(groups, folds, seed)


def concatenate(source: Dataset, val: Dataset | None) -> Subset:
    """Training and validation images in one dataset, in this order."""
    datasets = [source] if val is None else [source, val]
    return Subset([(dataset, index) for dataset in datasets for index in range(len(dataset))])


class Subset(Dataset):
    """Samples of datasets that are alike.

    Args:
        places: the dataset of each sample, and its index there.
    """

    def __init__(self, places: Sequence[tuple[Dataset, int]]) -> None:
        first = places[0][0]
        self.classes, self.paired = first.classes, first.paired
        self.channels, self.target_channels = first.channels, first.target_channels
        self.faults = [fault for dataset in dict.fromkeys(dataset for dataset, _ in places) for fault in dataset.faults]
        self.places = list(places)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Sample:
        dataset, place = self.places[index]
        return dataset[place]

    def size_of(self, index: int) -> tuple[int, int]:
        dataset, place = self.places[index]
        return dataset.size_of(place)

    def pixel_size_of(self, index: int) -> tuple[float, float] | None:
        dataset, place = self.places[index]
        return dataset.pixel_size_of(place)

    def slice_distance_of(self, index: int) -> float | None:
        dataset, place = self.places[index]
        return dataset.slice_distance_of(place)

    def group_of(self, index: int) -> str:
        dataset, place = self.places[index]
        return dataset.group_of(place)

    def read_region(self, index: int, region: Region) -> Sample | None:
        dataset, place = self.places[index]
        return dataset.read_region(place, region)

    def origin_of(self, index: int) -> Origin | None:
        dataset, place = self.places[index]
        return dataset.origin_of(place)

    def place_of(self, index: int) -> tuple[Path, str] | None:
        dataset, place = self.places[index]
        return dataset.place_of(place)


def mean_over_folds(tables: Sequence[dict[str, dict[str, Any]]]) -> dict[str, dict[str, float | None]]:
    """What test sets give on average over the folds.

    Args:
        tables: of each fold, by test set; see :func:`transeg.core.evaluation.scores.summarize`.

    Returns:
        Each metric of each test set, as a mean over the folds that define it; None where none does.
    """
    result: dict[str, dict[str, float | None]] = {}
    for label, first in tables[0].items():
        result[label] = {}
        for key, sample in first.items():
            values = [table[label][key] for table in tables]
            numbers = [value for value in values if isinstance(value, int | float)]
            if numbers or sample is None:
                result[label][key] = sum(numbers) / len(numbers) if numbers else None
    return result
