"""Pieces of whole slides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from transeg.core.data.file_dataset import FileDataset, Pair, choose_split, group_by_folder
from transeg.core.data.images import read_label_map
from transeg.core.data.listing import IMAGES, MASKS, files_by_stem, find_folder, masks_by_image
from transeg.core.data.slide_file import (
    ENDINGS,
    SlideFile,
    SlideView,
    cut_squares,
    nearest_places,
    open_slide,
    without_ome,
)
from transeg.core.data.splits import RATIO
from transeg.core.data.tiff import SUFFIXES, open_tiff
from transeg.core.data.tissue_map import map_tissue
from transeg.core.errors import DataError
from transeg.core.interfaces import IGNORE, Dataset, Fault, Region, Sample
from transeg.plugins.datasets.geojson import list_features, read_features
from transeg.plugins.datasets.outlines import ANNOTATIONS, LARGEST, Outlined, Runs, fill_objects

WHAT = "The dataset slides"
"""Needs tiffslide."""
ADVICE = "leave mpp out to take the pixels as they are"
OUTLINES = (".geojson", ".json")
SMALLEST = 32
"""Pixels of the side of a piece."""
NOTHING = Region(0, 0, 0, 0)
ROWS = 2**24
"""Pixels of a mask that are read at a time, at most."""


@dataclass(frozen=True)
class Piece(Pair):
    """A piece of a slide; its ``mask`` is a file of outlines or a label image.

    Attributes:
        size: height and width of the whole slide as it is read.
        region: the piece, in that.
    """

    size: tuple[int, int] = (0, 0)
    region: Region = NOTHING


class Slides(FileDataset):
    """Square pieces of whole slides, with annotations of QuPath, or masks, where there are any.

    Slides are `.svs` and `.ndpi` files, and `.tif` and `.tiff` files of scanners and of QuPath, in 8-bit RGB. They lie
    in `images/`, or straight in the folder. Labels are GeoJSON files as QuPath exports them, in `annotations/` or
    beside the slides, or label images in TIFF files in `masks/`, of the size of the slide or smaller, such as `toolkit
    predict` writes: one or the other for each slide, called as that, or none for all. One file is a slide without
    labels. Each slide is a group, which splits never cut; where slides lie in subfolders, those of one are.

    Slides are read at `mpp` micrometres a pixel, from the nearest finer level of the pyramid, and cut into squares of
    `region` pixels side by side; the last of a row ends with the slide. Squares of glass are left out: tissue is what
    is coloured, on a small picture of the slide. `case_x2048_y0` begins in column 2048 and row 0 of `case.svs` at that
    size.

    What is not annotated is background. Where a slide has objects of the class `Region*`, the areas in which QuPath's
    users annotate everything, only what is within these is known, and only squares that meet one are taken. Annotations
    are in pixels of the finest level; where objects overlap, a pixel belongs to the smallest. Values in masks of two
    classes are 0, and 1 or 255; of several their numbers, and 255 is unknown.

    The pictures of a slide's label and of its whole glass, which may show a patient's name, are never read.

    Needs tiffslide: `pip install 'transeg[slides]'`.

    Args:
        root: the folder, or a file.
        split: `train`, `val`, `test` or `all`.
        mpp: micrometres a pixel at which slides are read; by default as they were scanned.
        region: side of the squares in pixels.
        tissue: least share of tissue in a square; 0 keeps all.
        classes: names of the classes, background first; by default all classifications in the annotations, sorted, or
            background and foreground.
        unclassified: class of objects without a classification; by default they are refused.
        ignore: classification of what is unknown: neither losses nor metrics look there.
        within: classification of areas outside of which nothing is known.
        values: pixel values in the masks that stand for the classes, in the same order.
        ratio: shares of train, val and test, of the number of groups.
        seed: of the shuffle before groups are shared out.
    """

    reads_pairs_alone = True

    @classmethod
    def is_divided(cls, _root: Path, _options: Mapping[str, Any], /) -> bool:
        return False

    def __init__(
        self,
        root: Path,
        split: Literal["train", "val", "test", "all"],
        *,
        mpp: float | None = None,
        region: int = 1024,
        tissue: float = 0.1,
        classes: tuple[str, ...] | None = None,
        unclassified: str | None = None,
        ignore: str | None = "Ignore*",
        within: str | None = "Region*",
        values: tuple[int, ...] | None = None,
        ratio: tuple[float, float, float] = RATIO,
        seed: int = 0,
    ) -> None:
        _check_options(mpp, region, tissue)
        self._unclassified = unclassified
        self._ignore = ignore
        self._within = within
        found, faults = _labelled(root)
        outlines = [labels for _, labels in found.values() if labels is not None and _is_outlined(labels)]
        self.classes = classes or _named(outlines, unclassified, {"background", ignore, within}) or Dataset.classes
        if not 2 <= len(self.classes) <= IGNORE:
            raise ValueError(f"{root} has {len(self.classes) - 1} classes; 1 to {IGNORE - 1} can be told apart")
        self.values = _mask_values(self.classes, values)
        pieces: list[Piece] = []
        for stem, (path, labels) in found.items():
            try:
                slide = open_slide(path, WHAT)
                pieces += self._pieces(stem, slide, labels, mpp, region, tissue)
            except DataError as error:
                faults.append(Fault(error.file or str(path), str(error)))
        if not found and not faults:
            raise ValueError(f"{root} holds no slide in {', '.join(ENDINGS)} files")
        super().__init__(choose_split(pieces, split, lists=None, where=str(root), ratio=ratio, seed=seed), faults)

    def pixels(self, pair: Pair) -> np.ndarray:
        piece = _piece(pair)
        return _view(piece).read(piece.region)

    def labels(self, pair: Pair, _size: tuple[int, int]) -> tuple[np.ndarray | None, np.ndarray | None]:
        piece = _piece(pair)
        return self._labels(piece, piece.region)

    def size_of(self, index: int) -> tuple[int, int]:
        region = _piece(self.pairs[index]).region
        return region.height, region.width

    def ranges_of(self, index: int) -> tuple[None, None]:
        return None, None

    def read_region(self, index: int, region: Region) -> Sample:
        piece = _piece(self.pairs[index])
        part = Region(piece.region.top + region.top, piece.region.left + region.left, region.height, region.width)
        mask, instances = self._labels(piece, part)
        image = _view(piece).read(part)
        return Sample(image, mask, piece.name, piece.group, instances=instances, pixel_size=piece.pixel_size)

    def place_of(self, index: int) -> tuple[Path, str]:
        return self.pairs[index].image, ""  # at another size, or cut in another way, it has been seen, too

    def _labels(self, piece: Piece, part: Region) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Classes, and numbers of objects, in a part of the slide.

        Raises:
            DataError: the file cannot be used.
        """
        if piece.mask is None:
            return None, None
        if not _is_outlined(piece.mask):
            assert self.values is not None
            return _read_mask(piece.mask, self.values, piece.size, part), None
        outlines = _outlines_of(piece.mask, self._unclassified, self._within)
        finest = open_slide(piece.image, WHAT).size
        try:
            inside = [_moved(found, piece.size, finest, part) for found in outlines.near(part, piece.size, finest)]
            size = part.height, part.width
            areas = [found for found in inside if found.name == self._within]
            objects = [found for found in inside if found.name != self._within]
            mask, instances = fill_objects(objects, size, self.classes, self._ignore, whole=piece.size)
            if outlines.areas:
                known = fill_objects(areas, size, ("", str(self._within)), whole=piece.size)[0] > 0
                mask[~known], instances[~known] = IGNORE, 0
        except ValueError as error:
            raise DataError(f"{piece.mask} {error}.", str(piece.mask)) from error
        return mask, instances

    def _pieces(
        self, stem: str, slide: SlideFile, labels: Path | None, mpp: float | None, side: int, tissue: float
    ) -> Iterator[Piece]:
        """The squares of a slide that show enough tissue, and of which something is known.

        Raises:
            DataError: the slide or its labels cannot be used.
        """
        size = slide.view(slide.scale_to(mpp, ADVICE)).size
        outlines = None
        if labels is not None and _is_outlined(labels):
            outlines = _outlines_of(labels, self._unclassified, self._within)
        elif labels is not None:
            _check_mask_size(labels, slide)
        found = map_tissue(slide) if tissue > 0 else None
        pixel_size = slide.pixel_size if mpp is None else (mpp, mpp)
        name = stem.replace("/", "_")
        for region in cut_squares(size, side):
            if found is not None and found.share(region, size) < tissue:
                continue
            if outlines is not None and outlines.areas and not outlines.meets_area(region, size, slide.size):
                continue
            called = f"{name}_x{region.left}_y{region.top}"
            group = group_by_folder(stem)
            yield Piece(slide.path, labels, group, called=called, pixel_size=pixel_size, size=size, region=region)


@dataclass(frozen=True)
class SlideOutlines:
    """The objects in a file, in pixels of the finest level.

    Attributes:
        objects: all of them.
        boxes: ``(N, 4)`` float64: the least x and y of each, and the largest.
        areas: numbers of those outside of which nothing is known.
    """

    objects: Sequence[Outlined]
    boxes: np.ndarray
    areas: tuple[int, ...]

    def near(self, part: Region, size: tuple[int, int], finest: tuple[int, int]) -> list[Outlined]:
        """Those that may reach into a part of the slide at a size."""
        return [self.objects[number] for number in np.flatnonzero(_reach(self.boxes, part, size, finest))]

    def meets_area(self, part: Region, size: tuple[int, int], finest: tuple[int, int]) -> bool:
        """Whether something may be known in a part of the slide at a size."""
        return bool(_reach(self.boxes[list(self.areas)], part, size, finest).any())


def _reach(boxes: np.ndarray, part: Region, size: tuple[int, int], finest: tuple[int, int]) -> np.ndarray:
    """``(N,)``: which boxes reach into a part of the slide at a size; those that are not finite do, to be refused."""
    down, across = size[0] / finest[0], size[1] / finest[1]
    left, top, right, bottom = (boxes * (across, down, across, down)).T
    sideways = (left < part.left + part.width) & (right > part.left)
    upright = (top < part.top + part.height) & (bottom > part.top)
    return np.asarray((sideways & upright) | ~np.isfinite(boxes).all(axis=1))


def _check_options(mpp: float | None, region: int, tissue: float) -> None:
    """Whether the options can be that.

    Raises:
        ValueError: one of them cannot.
    """
    if mpp is not None and not 0 < mpp < np.inf:
        raise ValueError(f"mpp={mpp} is no number of micrometres a pixel")
    if region < SMALLEST:
        raise ValueError(f"region={region} is no side of a square in pixels; {SMALLEST} are the least")
    if not 0 <= tissue <= 1:
        raise ValueError(f"tissue={tissue} is no share of a square, from 0 to 1")


def _piece(pair: Pair) -> Piece:
    assert isinstance(pair, Piece)
    return pair


def _view(piece: Piece) -> SlideView:
    return SlideView(open_slide(piece.image, WHAT), piece.size)


def _is_outlined(labels: Path) -> bool:
    return labels.suffix.lower() in OUTLINES


def _mask_values(classes: Sequence[str], values: Sequence[int] | None) -> dict[int, int]:
    """The class of every mask value.

    Raises:
        ValueError: they do not fit.
    """
    if values is None:
        return {0: 0, 1: 1, 255: 1} if len(classes) == 2 else {**dict(enumerate(range(len(classes)))), IGNORE: IGNORE}
    if len(values) != len(classes):
        raise ValueError(f"{len(values)} mask values cannot stand for the classes {', '.join(classes)}")
    return {IGNORE: IGNORE, **{value: number for number, value in enumerate(values)}}


def _labelled(root: Path) -> tuple[dict[str, tuple[Path, Path | None]], list[Fault]]:
    """Each slide with the file of its labels, by its stem, and what does not fit.

    Raises:
        ValueError: the folder does not exist.
    """
    if root.is_file():
        return {without_ome(root.stem): (root, None)}, []
    images = find_folder(root, *IMAGES) or root
    slides, faults = _by_stem(images, ENDINGS)
    beside = OUTLINES[:1] if (folder := find_folder(root, *ANNOTATIONS)) is None else OUTLINES
    outlined = folder or images
    masked = find_folder(root, *MASKS)
    labels: dict[str, Path] = {}
    for place, endings, what in ((outlined, beside, "annotations"), (masked, SUFFIXES, "mask")):
        files, more = ({}, []) if place is None else _by_stem(place, endings)
        faults += more
        matched = masks_by_image(slides, files, str, guess=True)
        used = {name for names in matched.values() for name in names}
        faults += [
            Fault(str(path), f"{path} holds the {what} of no slide in {images}.")
            for name, path in files.items()
            if name not in used
        ]
        for stem, names in matched.items():
            path = files[names[0]]
            if stem in labels:
                faults.append(Fault(str(path), f"{slides[stem]} has {labels[stem]} and {path}; take one of them away."))
            labels.setdefault(stem, path)
    if labels:
        faults += [
            Fault(str(path), f"{path} has neither annotations nor a mask, but other slides beside it have.")
            for stem, path in slides.items()
            if stem not in labels
        ]
    return {stem: (path, labels.get(stem)) for stem, path in slides.items() if stem in labels or not labels}, faults


def _by_stem(folder: Path, endings: Sequence[str]) -> tuple[dict[str, Path], list[Fault]]:
    """Files by stem, without the ``.ome`` of OME-TIFF."""
    files, faults = files_by_stem(folder, frozenset(endings), deeper=True)
    found: dict[str, Path] = {}
    for stem, path in files.items():
        first = found.setdefault(without_ome(stem), path)
        if first != path:
            faults.append(
                Fault(str(path), f"{first} and {path.name} share the name {without_ome(stem)!r}; rename one.")
            )
    return found, faults


def _named(files: Sequence[Path], unclassified: str | None, others: set[str | None]) -> tuple[str, ...] | None:
    """Classes by the names in all files; what is wrong with a file is said when it is read."""
    names: set[str] = set()
    for path in files:
        try:
            names |= {found.name for found in list_features(read_features(path), unclassified, outlines=False)}
        except ValueError:
            continue
    return ("background", *sorted(names - others)) if names - others else None


def _outlines_of(path: Path, unclassified: str | None, within: str | None) -> SlideOutlines:
    """What a file of annotations holds, parsed once for as long as it is the same.

    Raises:
        DataError: it cannot be used.
    """
    try:
        state = path.stat()
        parse = _parsed_large if state.st_size > LARGEST else _parsed
        return parse(path, unclassified, within, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", str(path)) from error
    except ValueError as error:
        raise DataError(f"{path} {error}.", str(path)) from error


@lru_cache(maxsize=2)
def _parsed_large(path: Path, unclassified: str | None, within: str | None, size: int, modified: int) -> SlideOutlines:
    """Of which fewer are kept: cells of a slide may take some hundred megabytes."""
    return _parsed.__wrapped__(path, unclassified, within, size, modified)


@lru_cache(maxsize=16)
def _parsed(path: Path, unclassified: str | None, within: str | None, _size: int, _modified: int) -> SlideOutlines:
    objects = list_features(read_features(path), unclassified, outlines=True)
    boxes = np.zeros((len(objects), 4))
    for number, found in enumerate(objects):
        points = np.concatenate([ring for part in found.parts if not isinstance(part, Runs) for ring in part])
        boxes[number] = [*points.min(axis=0), *points.max(axis=0)]
    areas = tuple(number for number, found in enumerate(objects) if found.name == within)
    return SlideOutlines(objects, boxes, areas)


def _moved(found: Outlined, size: tuple[int, int], finest: tuple[int, int], part: Region) -> Outlined:
    """An object by the coordinates of a part of the slide at a size."""
    factor = np.array([size[1] / finest[1], size[0] / finest[0]])
    corner = np.array([part.left, part.top])
    parts = [[ring * factor - corner for ring in polygon] for polygon in found.parts if not isinstance(polygon, Runs)]
    return Outlined(found.name, parts, found.level)


def _check_mask_size(path: Path, slide: SlideFile) -> None:
    """Whether a label image can be read in parts, and is as high and wide as the slide, or smaller by a factor.

    Raises:
        DataError: it is not.
    """
    tiff = open_tiff(path)
    if tiff is None:
        raise DataError(f"{path} cannot be read in parts; save it as a TIFF file with tiles.", str(path))
    (height, width), (high, wide) = tiff.size, slide.size
    factor = width / wide
    if abs(height - high * factor) > 2 + factor or factor > 1 + 2 / wide:
        raise DataError(
            f"{path} has {width}x{height} pixels, which are not the {wide}x{high} of its slide {slide.path.name}, nor "
            "these made smaller.",
            str(path),
        )


def _read_mask(path: Path, values: Mapping[int, int], size: tuple[int, int], part: Region) -> np.ndarray:
    """``(height, width)`` classes in a part of a slide at a size, each that of the nearest pixel of the label image.

    Raises:
        DataError: it is damaged, or has a value that stands for no class.
    """
    tiff = open_tiff(path)
    if tiff is None:
        raise DataError(f"{path} cannot be read in parts any more.", str(path))
    rows = nearest_places(part.top, part.height, size[0], tiff.size[0])
    columns = nearest_places(part.left, part.width, size[1], tiff.size[1])
    left, width = int(columns[0]), int(columns[-1] - columns[0]) + 1
    step = max(1, int(ROWS / width * len(rows) / (rows[-1] - rows[0] + 1)))
    found = []
    for first in range(0, len(rows), step):
        some = rows[first : first + step]
        region = Region(int(some[0]), left, int(some[-1] - some[0]) + 1, width)
        found.append(read_label_map(path, values, region)[some - some[0]][:, columns - left])
    return np.concatenate(found)
