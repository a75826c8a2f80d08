"""Datasets that are made of another, sample by sample."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from transeg.core.interfaces import Dataset, Origin


class DatasetWrapper(Dataset):
    """A dataset that says of its samples what another says of its own; a subclass overrides what it changes.

    No part of a sample is read as such unless a subclass says how, and no sample is kept decoded unless it says what
    is done to it: the other's parts and origins are not those of samples that have changed.

    Args:
        dataset: the other.
    """

    _how: str | None = None
    """What is done to samples, a text that differs where results do; None where they may not be kept decoded."""

    def __init__(self, dataset: Dataset) -> None:
        self.classes, self.faults, self.paired = dataset.classes, dataset.faults, dataset.paired
        self.channels, self.target_channels = dataset.channels, dataset.target_channels
        self._dataset = dataset

    @property
    def wrapped(self) -> Dataset:
        """The other."""
        return self._dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def size_of(self, index: int) -> tuple[int, int]:
        return self._dataset.size_of(index)

    def pixel_size_of(self, index: int) -> tuple[float, float] | None:
        return self._dataset.pixel_size_of(index)

    def slice_distance_of(self, index: int) -> float | None:
        return self._dataset.slice_distance_of(index)

    def group_of(self, index: int) -> str:
        return self._dataset.group_of(index)

    def files_of(self, index: int) -> Mapping[str, tuple[Path, ...]]:
        return self._dataset.files_of(index)

    def place_of(self, index: int) -> tuple[Path, str] | None:
        return self._dataset.place_of(index)

    def origin_of(self, index: int) -> Origin | None:
        origin = None if self._how is None else self._dataset.origin_of(index)
        return origin and origin._replace(how=f"{origin.how} {self._how}")
