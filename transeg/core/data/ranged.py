"""Datasets whose images are brought to the one scale of intensities."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from transeg.core.data.decoded_image import Range
from transeg.core.data.intensities import to_unit
from transeg.core.data.wrapper import DatasetWrapper
from transeg.core.errors import DataError
from transeg.core.interfaces import Dataset, Region, Sample

logger = logging.getLogger("transeg.data")
_said: set[tuple[Path, str]] = set()


class RangedDataset(DatasetWrapper):
    """A dataset whose images and counterparts are uint8, uint16, or float32 in [0, 1], whatever it reads.

    Args:
        dataset: the other.
        range_: intensities that become 0 and 1; by default what the dataset says of each image, or the range of its
            type.

    Raises:
        ValueError: the range does not increase; a clause.
    """

    def __init__(self, dataset: Dataset, range_: Range | None = None) -> None:
        super().__init__(dataset)
        if range_ is not None and not range_[0] < range_[1]:
            raise ValueError(f"the range {list(range_)} must be increasing")
        self._range = range_
        self._how = f"range {range_!r}"

    def __getitem__(self, index: int) -> Sample:
        return self._scaled(self._dataset[index], index)

    def read_region(self, index: int, region: Region) -> Sample | None:
        part = self._dataset.read_region(index, region)
        return None if part is None else self._scaled(part, index)

    def _scaled(self, sample: Sample, index: int) -> Sample:
        """A sample or a part of it.

        Raises:
            DataError: values are not finite, or of no known range.
        """
        said = (self._range,) * 2 if self._range is not None else self._dataset.ranges_of(index)
        changed: dict[str, Any] = {}
        for name, range_ in zip(("image", "target"), said, strict=True):
            pixels = getattr(sample, name)
            if pixels is None:
                continue
            try:
                changed[name] = to_unit(pixels, range_, partial(self._say, index, sample))
            except ValueError as fault:
                file = self._file(index, sample)
                raise DataError(f"{file} {fault}.", file) from fault
        return sample if all(changed[name] is getattr(sample, name) for name in changed) else replace(sample, **changed)

    def _file(self, index: int, sample: Sample) -> str:
        """What an image is called in a sentence: its file, where that is known."""
        return str(next(iter(self._dataset.files_of(index).get("image", ())), sample.name))

    def _say(self, index: int, sample: Sample, what: str) -> None:
        file = self._file(index, sample)
        key = Path(file).parent, what
        if key not in _said:
            _said.add(key)
            logger.warning("%s %s (reported once for its folder).", file, what)
