"""Looks at every image that may hold floats, before a training does: files of other types cannot hold NaN."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from transeg.core.data.file_dataset import FileDataset
from transeg.core.data.tiff import SUFFIXES, holds_floats
from transeg.core.data.wrapper import DatasetWrapper
from transeg.core.errors import DataError
from transeg.core.interfaces import Dataset, Region

THREADS = 8
LARGE = 2**26
"""Pixels of an image that is looked at in bands, where it can be read in parts."""
BAND = 512

_seen: set[tuple[Path, int]] = set()


def check_floats(datasets: Iterable[Dataset]) -> None:
    """Whether every image that may hold floats is finite and between black and white.

    Raises:
        DataError: one is not; the sentence names the first, and says how many more there are.
    """
    faults: list[DataError] = []
    with ThreadPoolExecutor(THREADS) as threads:
        for dataset in datasets:
            wanted = _float_images(dataset)
            found = list(threads.map(partial(_fault_of, dataset), wanted))
            faults += [fault for fault in found if fault is not None]
            if not faults:
                _seen.update(file for files in wanted.values() for file in files)
    if faults:
        more = f" ({len(faults) - 1} more images are like that.)" if len(faults) > 1 else ""
        raise DataError(f"{faults[0]}{more}", faults[0].file)


def _float_images(dataset: Dataset) -> dict[int, list[tuple[Path, int]]]:
    """Images that were not looked at yet and may hold floats, by number, with the states of their files."""
    base = dataset
    while isinstance(base, DatasetWrapper):
        base = base.wrapped
    if not isinstance(base, FileDataset):
        floats = len(dataset) > 0 and np.issubdtype(dataset[0].image.dtype, np.floating)
        return {index: [] for index in range(len(dataset) if floats else 0)}
    by_index = {index: [_state(path) for path in pair.pictures] for index, pair in enumerate(base.pairs)}
    return {index: files for index, files in by_index.items() if any(map(_is_new, files))}


def _state(path: Path) -> tuple[Path, int]:
    try:
        return path, path.stat().st_mtime_ns
    except OSError:  # whoever decodes it says so
        return path, 0


def _is_new(file: tuple[Path, int]) -> bool:
    return file not in _seen and file[0].suffix.lower() in SUFFIXES and holds_floats(file[0])


def _fault_of(dataset: Dataset, index: int) -> DataError | None:
    try:
        height, width = dataset.size_of(index)
        if height * width <= LARGE or dataset.read_region(index, Region(0, 0, 1, 1)) is None:
            dataset[index]
            return None
        for top in range(0, height, BAND):
            dataset.read_region(index, Region(top, 0, min(BAND, height - top), width))
    except DataError as error:
        return error
    return None
