"""How image files are read that are handed in one by one, rather than as a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from transeg.core.data.decoded_image import Range
from transeg.core.data.images import read_unit_image
from transeg.core.errors import UsageError, did_you_mean
from transeg.core.experiment.settings import Settings, merge, parse_assignment

OPTIONS = ("range", "page")


@dataclass(frozen=True, slots=True)
class Reading:
    """How files become images.

    Attributes:
        range: the stored intensities that become 0 and 1; None for what a file says, or the range of its type.
        page: which page of stacks, from 0; None where files have one.
    """

    range: Range | None = None
    page: int | None = None

    @classmethod
    def of(cls, assignments: Sequence[str]) -> Reading:
        """As assignments of ``range`` and ``page`` behind `--set` say.

        Raises:
            UsageError: one of them is no such option, or cannot be that.
        """
        said: Settings = {}
        for text in assignments:
            said = merge(said, parse_assignment(text))
        for name in said:
            if name not in OPTIONS:
                raise UsageError(
                    f"--set {name}: images have the options {' and '.join(OPTIONS)}.{did_you_mean(name, OPTIONS)}"
                )
        return cls(_range(said["range"]) if "range" in said else None, _page(said.get("page")))

    def within(self, usual: Range | None) -> Reading:
        """The same, with a range where none is named."""
        return self if self.range else replace(self, range=usual)

    def image(self, path: Path, channels: int) -> np.ndarray:
        """A file as ``(H, W, channels)``; see :func:`transeg.core.data.images.read_unit_image`."""
        return read_unit_image(path, channels, range_=self.range, page=self.page)


def _range(value: Any) -> Range:
    numbers = value if isinstance(value, list) else ()
    if len(numbers) != 2 or not all(isinstance(number, int | float) for number in numbers) or numbers[0] >= numbers[1]:
        raise UsageError(f"--set range={value} must be two numbers, the lower one first, as in range=[0, 4095].")
    return float(numbers[0]), float(numbers[1])


def _page(value: Any) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise UsageError(f"--set page={value} must be the number of a page, counted from 0.")
    return value
