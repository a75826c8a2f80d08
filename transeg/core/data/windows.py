"""Windows on the images of a dataset: where they stand and what is in them, with no copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, Literal

import numpy as np

from transeg.core.data.cache import CachedDataset, SampleCache
from transeg.core.data.images import crop
from transeg.core.data.lru_cache import LRUCache
from transeg.core.errors import UsageError
from transeg.core.interfaces import IGNORE, Dataset, Region, Sample

TileSampling = Literal["position", "foreground", "classes"]

KEPT_BYTES = 2**28
"""Of decoded images that cannot be read in parts, for each process and dataset."""
LOOKED_AT = 8
"""Places of a window along a side of an image, where one is chosen for a picture; a slide is not read as a whole."""


class Windows:
    """An index of windows, computed from the sizes of images alone.

    The windows of a row stand evenly: the first begins with the image, the last ends with it, and between is the
    number that comes nearest to the stride while no pixel is left out. 512 pixels, windows of 128 and a stride of 20
    make 20, as patchify does, which leaves out the last 4 pixels; here they stand 20 or 21 apart. An image smaller than
    the window has one.

    Args:
        sizes: height and width of every image.
        tile: height and width of the windows.
        stride: pixels from one to the next, about.

    Attributes:
        tile: as given.
        images: how many there are.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], tile: int, stride: int) -> None:
        self.tile = tile
        self.images = len(sizes)
        self._sizes = np.array(sizes, dtype=np.int64).reshape(-1, 2)
        room = np.maximum(0, self._sizes - tile)
        self._grid = 1 + np.maximum(-(-room // tile), (2 * room + stride) // (2 * stride))
        self._ends = np.cumsum(self._grid.prod(axis=1))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, number: int) -> tuple[int, Region]:
        """The image and the part of it that a window shows; smaller than the window where the image is."""
        image = int(np.searchsorted(self._ends, number, side="right"))
        rows, columns = self._grid[image]
        row, column = divmod(number - int(self._ends[image]) + int(rows * columns), int(columns))
        tops, lefts, height, width = self.places(image)
        return image, Region(int(tops[row]), int(lefts[column]), height, width)

    def places(self, image: int) -> tuple[np.ndarray, np.ndarray, int, int]:
        """Where the rows and columns of windows begin on an image, and the height and width of each."""
        starts = []
        for length, count in zip(self._sizes[image], self._grid[image], strict=True):
            starts.append(np.arange(count) * max(0, length - self.tile) // max(1, count - 1))
        height, width = (int(min(self.tile, length)) for length in self._sizes[image])
        return *starts, height, width


class RegionReader:
    """Parts of a dataset's samples: read as such where the dataset can, else cut out of decoded ones, which are kept.

    Args:
        dataset: where they come from.
        limit: bytes of decoded samples to keep; the newest is kept whatever its size.
        cache: what else keeps them.
    """

    def __init__(self, dataset: Dataset, limit: int = KEPT_BYTES, cache: SampleCache | None = None) -> None:
        self._dataset = dataset
        self._whole = CachedDataset(dataset, cache)
        self._kept: LRUCache[Sample] = LRUCache(limit, _bytes)

    def __call__(self, index: int, region: Region) -> Sample:
        part = self._dataset.read_region(index, region)
        if part is not None:
            return part
        whole = self._kept.get(index, lambda: self._whole(index))
        arrays: dict[str, Any] = {name: crop(pixels, region) for name, pixels in _arrays(whole).items()}
        return replace(whole, **arrays)


def telling_window(dataset: Dataset, index: int, tile: int) -> Sample:
    """The part of an image that tells most about what is labelled on it, for pictures.

    Of the middle and of evenly spaced places, at most :data:`LOOKED_AT` along each side, the one with the most pixels
    that are not background, but not of these alone; the middle where no place has any, and without a mask.

    Args:
        dataset: where the image is.
        index: its number.
        tile: height and width of the window; the image's own where it is smaller.

    Raises:
        DataError: the image cannot be read.
    """
    read = RegionReader(dataset)
    rooms = [max(0, side - tile) for side in dataset.size_of(index)]
    height, width = (min(side, tile) for side in dataset.size_of(index))
    best = read(index, Region(rooms[0] // 2, rooms[1] // 2, height, width))
    if best.mask is None:
        return best
    most = _objects(best.mask)
    tops, lefts = (np.linspace(0, room, min(LOOKED_AT, 1 + -(-2 * room // tile))).astype(int) for room in rooms)
    for top, left in product(tops.tolist(), lefts.tolist()):
        found = read(index, Region(top, left, height, width))
        if found.mask is not None and _objects(found.mask) > most:
            best, most = found, _objects(found.mask)
    return best


def _objects(mask: np.ndarray) -> int:
    """Pixels that are not background; none where all are, for there is no outline to see."""
    count = int(((mask > 0) & (mask != IGNORE)).sum())
    return count if count < mask.size else 0


def pad_sample(sample: Sample, height: int, width: int) -> Sample:
    """A sample extended to the lower right by its mirror image, of which nothing is known to losses and metrics."""
    bottom, right = height - sample.size[0], width - sample.size[1]
    if not (bottom or right):
        return sample
    arrays = _arrays(sample)
    for name, pixels in arrays.items():
        edges = ((0, bottom), (0, right), (0, 0))[: pixels.ndim]
        if name in ("mask", "instances", "valid"):
            arrays[name] = np.pad(pixels, edges, constant_values=IGNORE if name == "mask" else 0)
        else:
            arrays[name] = np.pad(pixels, edges, mode="reflect")
    return replace(sample, **arrays)


def sampling_pools(
    dataset: Dataset,
    windows: Windows,
    sampling: TileSampling,
    advance: Callable[[], None],
    cache: SampleCache | None = None,
) -> list[np.ndarray]:
    """Numbers of the windows to draw from, in one pool or in several that are equally likely.

    Args:
        dataset: labelled, unless windows are drawn by position.
        windows: of its first images.
        sampling: `position`: all windows; `foreground`: those that show anything but background; `classes`: a pool for
            each class, of the windows that show it.
        advance: called after each image whose mask is looked at.
        cache: keeps decoded images.

    Raises:
        UsageError: there is no such window.
    """
    if sampling == "position":
        return [np.arange(len(windows))]
    regions = RegionReader(dataset, limit=0, cache=cache)
    shown = []
    for image in range(windows.images):
        shown.append(_shown(regions, image, windows, len(dataset.classes)))
        advance()
    shows = np.concatenate(shown)
    if sampling == "foreground":
        found = [np.flatnonzero(shows[:, 1:].any(axis=1))]
    else:
        found = [np.flatnonzero(shows[:, label]) for label in range(shows.shape[1])]
    if not any(len(pool) for pool in found):
        raise UsageError(
            f"data.tile_sampling={sampling} finds no window that shows {', '.join(dataset.classes[1:])}; "
            "say data.tile_sampling=position."
        )
    return [pool for pool in found if len(pool)]


def class_pools(
    dataset: Dataset, count: int, advance: Callable[[], None], cache: SampleCache | None = None
) -> list[np.ndarray]:
    """Numbers of the images to draw from, a pool for each class: those that show it.

    Rare classes are so seen as often as others, as in DAFormer (arXiv:2111.14887), whose likelihoods grow with rarity.

    Args:
        dataset: labelled.
        count: how many of its images, from the first on.
        advance: called after each image whose mask is looked at.
        cache: keeps decoded images.

    Raises:
        UsageError: images have no masks, or these show nothing but background.
    """
    images = CachedDataset(dataset, cache)
    shows = np.zeros((count, len(dataset.classes)), dtype=bool)
    for index in range(count):
        mask = images(index).mask
        if mask is None:
            raise UsageError("Images can be drawn by class only where there are masks.")
        shows[index] = np.bincount(mask.ravel(), minlength=256)[: shows.shape[1]] > 0
        advance()
    if not shows[:, 1:].any():
        raise UsageError(
            f"data.sampling=classes finds no image that shows {', '.join(dataset.classes[1:])}; "
            "say data.sampling=shuffle."
        )
    return [np.flatnonzero(column) for column in shows.T if column.any()]


def _shown(regions: RegionReader, image: int, windows: Windows, classes: int) -> np.ndarray:
    """``(windows of the image, classes)`` bool: which classes each window shows.

    Pixels are counted by cumulative sums, of which only those at the edges of windows are kept, and the mask is read
    once, by the rows between two edges: memory grows with its width alone.
    """
    tops, lefts, height, width = windows.places(image)
    across = int(lefts[-1]) + width
    columns = np.zeros((classes, across + 1), dtype=np.int64)
    sums = {}
    done = 0
    for edge in sorted({*tops.tolist(), *(tops + height).tolist()}):
        if edge > done:
            mask = regions(image, Region(done, 0, edge - done, across)).mask
            if mask is None:
                raise UsageError("Windows can be drawn by content only where there are masks.")
            columns[:, 1:] += [(mask == label).sum(axis=0) for label in range(classes)]
            done = edge
        along = columns.cumsum(axis=1)
        sums[edge] = along[:, lefts + width] - along[:, lefts]
    counts = np.stack([sums[top + height] - sums[top] for top in tops.tolist()])  # (rows, classes, columns)
    return counts.transpose(0, 2, 1).reshape(-1, classes) > 0


def _arrays(sample: Sample) -> dict[str, Any]:
    named = {name: getattr(sample, name) for name in ("image", "mask", "target", "instances", "depth", "valid")}
    return {name: pixels for name, pixels in named.items() if pixels is not None}


def _bytes(sample: Sample) -> int:
    return sum(pixels.nbytes for pixels in _arrays(sample).values())
