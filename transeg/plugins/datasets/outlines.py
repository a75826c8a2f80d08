"""Objects that programs store as outlines, filled to masks, and datasets with a file of them for each image."""

from __future__ import annotations

import codecs
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np

from transeg.core.data.file_dataset import FileDataset, Pair, choose_split, holds_splits, list_pairs
from transeg.core.data.listing import IMAGES, find_folder
from transeg.core.errors import DataError
from transeg.core.interfaces import IGNORE

ANNOTATIONS = ("annotations", "annotation", "labels", "json", "geojson", "rois")
LARGEST = 32 * 2**20
"""Bytes of a file, or of an object: parsed, the shortest lists take 25 times as much memory."""
LARGEST_TYPED = 256 * 2**20
"""Bytes of a file whose outlines stay text until each is wanted."""
MOST_OUTLINES = 2**20
"""That are in memory together: the shortest take 400 bytes."""
CROSSINGS = 10**7
"""Of an object's outline with rows of pixels, more than any drawn one has in an image of a hundred megapixels."""

Polygon = Sequence[np.ndarray]
"""An outline, and those of its holes: ``(P, 2)`` float64 of x and y each."""


@dataclass(frozen=True, slots=True)
class Runs:
    """A region of an image as lengths of runs, by turns outside and inside.

    Attributes:
        lengths: int64, as :func:`read_runs` checks them.
        box: top, left, height and width of what they run through.
        down: whether they run down the columns, else along the rows.
    """

    lengths: np.ndarray
    box: tuple[int, int, int, int]
    down: bool

    def fill(self) -> tuple[int, int, np.ndarray]:
        """As :func:`fill_polygon` does; only the lines that the region reaches, as images may have many of them."""
        top, left, height, width = self.box
        if not self.lengths[1::2].any():
            return top, left, np.zeros((0, 0), bool)
        line = height if self.down else width
        ends = np.cumsum(self.lengths)
        first, last = self.lengths[0] // line, -(-ends[1::2][-1] // line)
        lengths = np.diff(np.clip(ends, first * line, last * line), prepend=first * line)
        inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(last - first, line)
        return (top, left + int(first), inside.T) if self.down else (top + int(first), left, inside)


@dataclass(frozen=True, slots=True)
class Outlined:
    """An object.

    Attributes:
        name: its class's.
        parts: that it consists of.
        level: objects of a higher one cover others, however large they are.
    """

    name: str
    parts: Sequence[Polygon | Runs]
    level: int = 0


class OutlineDataset(FileDataset):
    """Images with a file of outlines for each, of the same stem, beside it or in a folder `annotations/`.

    Args:
        root: the folder.
        split: `train`, `val`, `test` or `all`.
        classes: names, background first; None for those in the files.
        ignore: name of what is unknown; None for nothing.
        channels: of the images.
        ratio: shares of train, val and test.
        seed: of the shuffle before images are shared out.

    Raises:
        ValueError: there is no image with a file of outlines, or there are more classes than a mask can number.
    """

    reads_pairs_alone = True
    endings: ClassVar[frozenset[str]] = frozenset({".json"})

    @classmethod
    def is_divided(cls, root: Path, _options: Mapping[str, Any], /) -> bool:
        return holds_splits(find_folder(root, *IMAGES) or root)

    def __init__(
        self,
        root: Path,
        split: Literal["train", "val", "test", "all"],
        *,
        classes: tuple[str, ...] | None,
        ignore: str | None,
        channels: int,
        ratio: tuple[float, float, float],
        seed: int,
    ) -> None:
        images = find_folder(root, *IMAGES) or root
        everything, faults = list_pairs(images, find_folder(root, *ANNOTATIONS) or images, mask_endings=self.endings)
        self.channels = channels
        self.ignore = ignore
        self.classes = classes or ("background", *self._names(everything))
        if not 2 <= len(self.classes) <= IGNORE:
            raise ValueError(
                f"{root} has {len(self.classes) - 1} classes of objects; 1 to {IGNORE - 1} can be told apart"
            )
        super().__init__(choose_split(everything, split, lists=None, where="", ratio=ratio, seed=seed), faults)

    @abstractmethod
    def objects(self, content: Any, size: tuple[int, int] | None) -> list[Outlined]:
        """The objects in a decoded file.

        Args:
            content: what :meth:`content` gives: whatever JSON can hold.
            size: height and width of the image; None where only names are wanted.

        Raises:
            ValueError: it is not of the format; a clause that follows the file's name.
        """

    def content(self, path: Path) -> Any:
        """What a file holds.

        Raises:
            ValueError: it cannot be read, or is too large; a clause that follows the file's name.
        """
        return parse_annotations(path)

    def labels(self, pair: Pair, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        assert pair.mask is not None
        try:
            return fill_objects(self.objects(self.content(pair.mask), size), size, self.classes, self.ignore)
        except ValueError as error:
            raise DataError(f"{pair.mask} {error}.", str(pair.mask)) from error

    def _names(self, pairs: Sequence[Pair]) -> list[str]:
        """Of classes in all files, whichever split they are in; what is wrong with a file is said when it is read.

        Raises:
            ValueError: something is wrong with each of them.
        """
        names: set[str] = set()
        faults = []
        for pair in pairs:
            assert pair.mask is not None
            try:
                names |= {found.name for found in self.objects(self.content(pair.mask), None)}
            except ValueError as error:
                faults.append(f"{pair.mask} {error}")
        if faults and not names:
            raise ValueError(faults[0])
        return sorted(names - {"background", self.ignore})


def parse_annotations(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: it cannot be read, or is too large; a clause that follows the file's name.
    """
    content = read_bounded(path, LARGEST)
    try:
        return msgspec.json.decode(content)
    except RecursionError as error:
        raise ValueError("is nested too deeply for annotations") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"is no JSON: {error}") from error


def decode_typed(path: Path, kind: Any, what: str, most: int) -> Any:
    """What a JSON file holds of what is wanted, which may be much larger where that leaves outlines as text.

    Args:
        path: the file.
        kind: the type that it must be.
        what: is wrong where it is not; a clause.
        most: pairs of braces that there is room for, each of which may be the shortest thing that takes memory.

    Raises:
        ValueError: it cannot be read, is too large, or is of another kind; a clause that follows the file's name.
    """
    content = read_bounded(path, LARGEST_TYPED)
    if content.count(b"{") > most:
        raise ValueError(f"holds more than {most} pairs of braces, so divide it")
    try:
        return msgspec.json.decode(content, type=kind)
    except RecursionError as error:
        raise ValueError("is nested too deeply for annotations") from error
    except msgspec.ValidationError as error:
        raise ValueError(f"{what}: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"is no JSON: {error}") from error


def decode_outline(text: msgspec.Raw | bytes) -> Any:
    """Whatever the text of an object's outlines holds.

    Raises:
        ValueError: it is too large; a clause.
    """
    if memoryview(text).nbytes > LARGEST:
        raise ValueError(f"has an object whose outlines take more than {LARGEST // 2**20} MB")
    try:
        return msgspec.json.decode(text)
    except RecursionError as error:
        raise ValueError("has an object that is nested too deeply") from error


def list_objects(objects: Iterable[Outlined]) -> list[Outlined]:
    """Objects that are read one after the other.

    Raises:
        ValueError: they have more outlines than there is room for; a clause.
    """
    found, count = [], 0
    for each in objects:
        count += sum(1 if isinstance(part, Runs) else len(part) for part in each.parts)
        if count > MOST_OUTLINES:
            raise ValueError(f"has more than {MOST_OUTLINES} outlines in one image, so divide it")
        found.append(each)
    return found


def read_bounded(path: Path, largest: int) -> bytes:
    """A file, without the mark of UTF-8 before it.

    Raises:
        ValueError: it cannot be read, or has more bytes than are allowed; a clause that follows the file's name.
    """
    try:
        if (size := path.stat().st_size) > largest:
            raise ValueError(f"has {size / 2**20:.0f} MB; up to {largest // 2**20} are read, so divide it")
        return path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error


def read_points(points: Any, least: int) -> np.ndarray:
    """``(P, 2)`` float64 of x and y, from lists of at least two numbers.

    Args:
        points: whatever JSON can hold.
        least: points that there must be.

    Raises:
        ValueError: they are no points, or too few; a clause.
    """
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) >= 2 for point in points):
        raise ValueError("has an outline that is no list of points")
    if any(type(value) not in (int, float) for point in points for value in point[:2]):
        raise ValueError("has a point whose coordinates are no numbers")
    if len(points) < least:
        raise ValueError(f"has an outline of {len(points)} points, which enclose nothing: {least} are needed")
    try:
        return np.array([point[:2] for point in points], np.float64)
    except OverflowError as error:
        raise ValueError("has a point whose coordinates are too large") from error


def read_runs(lengths: Sequence[Any] | np.ndarray, box: tuple[int, int, int, int], *, down: bool) -> Runs:
    """A region from the lengths of its runs.

    Args:
        lengths: whatever a file says.
        box: within the image; see :class:`Runs`.
        down: likewise.

    Raises:
        ValueError: they are no lengths, or do not fill the box; a clause.
    """
    area = box[2] * box[3]
    if not isinstance(lengths, np.ndarray):
        if any(type(length) is not int or not 0 <= length <= area for length in lengths):
            raise ValueError("has a run whose length is no number of pixels")
        lengths = np.array(lengths, np.int64)
    if (lengths < 0).any() or (lengths > area).any() or lengths.sum() != area:
        raise ValueError(f"has runs that do not fill {box[3]}x{box[2]} pixels")
    return Runs(lengths, box, down)


def fill_objects(
    objects: Sequence[Outlined],
    size: tuple[int, int],
    classes: Sequence[str],
    ignore: str | None = None,
    *,
    whole: tuple[int, int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Number objects from 1 on and fill them, of each level the largest first, so that the smallest stays whole.

    Args:
        objects: by the coordinates of what is filled.
        size: of that, height and width.
        classes: names, background first.
        ignore: name of what is unknown; None for nothing.
        whole: size of the image where only a part of it is filled; see :func:`fill_polygon`.

    Returns:
        ``(H, W)`` uint8 of classes, 255 where an object is of the class ``ignore``, and ``(H, W)`` int32 of numbers.

    Raises:
        ValueError: a class is unknown, or an outline impossible; a clause.
    """
    mask, instances = np.zeros(size, np.uint8), np.zeros(size, np.int32)
    numbers = {name: number for number, name in enumerate(classes)}
    if ignore is not None:
        numbers[ignore] = IGNORE
    if unknown := sorted({found.name for found in objects} - set(numbers)):
        raise ValueError(f"has the class {unknown[0]!r}, which is none of {', '.join(classes)}")
    order = sorted(
        range(len(objects)), key=lambda i: (objects[i].level, -sum(enclosed_area(part) for part in objects[i].parts))
    )
    for index in order:
        number = numbers[objects[index].name]
        for filling in objects[index].parts:
            top, left, inside = (
                filling.fill() if isinstance(filling, Runs) else fill_polygon(filling, size, whole=whole)
            )
            part = np.s_[top : top + inside.shape[0], left : left + inside.shape[1]]
            mask[part][inside] = number
            instances[part][inside] = index + 1 if 0 < number < IGNORE else 0
    return mask, instances


def fill_polygon(
    polygon: Polygon, size: tuple[int, int], *, whole: tuple[int, int] | None = None
) -> tuple[int, int, np.ndarray]:
    """The pixels whose centres lie in a polygon, by the even-odd rule: a hole, or a part that crosses another, is out.

    The pixel in row 0 and column 0 reaches from 0 to 1, so that its centre is at 0.5. OpenCV's ``fillPoly`` also paints
    whatever the outline touches, by which objects grow each time that they are written and read.

    Args:
        polygon: by the coordinates of what is filled.
        size: of that, height and width.
        whole: size of the image where only a part of it is filled: outlines may reach as far beyond the part.

    Returns:
        Top, left, and ``(h, w)`` truth values of the part of the image that the polygon may reach.

    Raises:
        ValueError: a point is not finite or lies far outside, or there are too many; a clause.
    """
    points = np.concatenate(polygon)
    furthest = 1.5 * max(size) if whole is None else 2.5 * max(whole)
    if not (np.isfinite(points).all() and (np.abs(points - np.array(size[::-1]) / 2) <= furthest).all()):
        raise ValueError(f"has a point that lies far outside the image of {size[1]}x{size[0]} pixels")
    corners = np.stack([points.min(axis=0), points.max(axis=0)])
    (left, top), (right, bottom) = np.clip(np.ceil(corners - 0.5), 0, size[::-1]).astype(int)
    height, width = int(bottom - top), int(right - left)
    begin = np.concatenate([ring - (left, top) - 0.5 for ring in polygon])
    end = np.concatenate([np.roll(ring, -1, axis=0) - (left, top) - 0.5 for ring in polygon])
    low, high = np.minimum(begin[:, 1], end[:, 1]), np.maximum(begin[:, 1], end[:, 1])
    first, last = (np.clip(np.ceil(y), 0, height).astype(np.int64) for y in (low, high))
    counts = last - first
    if counts.sum() > CROSSINGS:
        raise ValueError("has an outline that crosses the image too often to be filled")
    edge = np.repeat(np.arange(len(counts)), counts)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    (x, y), (dx, dy) = begin[edge].T, (end - begin)[edge].T
    column = np.clip(np.ceil(x + (row - y) * dx / dy), 0, width).astype(np.int64)
    toggles = np.bincount(row * (width + 1) + column, minlength=height * (width + 1)).reshape(height, width + 1)
    return int(top), int(left), np.cumsum(toggles, axis=1)[:, :width] % 2 == 1


def enclosed_area(part: Polygon | Runs) -> float:
    """Of what an outline encloses, its holes, too."""
    if isinstance(part, Runs):
        return float(part.lengths[1::2].sum())
    x, y = part[0].T
    with np.errstate(all="ignore"):  # what is not finite is refused when it is filled
        return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
