"""Regions of interest by ImageJ."""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from transeg.core.data.archives import DAMAGES
from transeg.core.data.splits import RATIO
from transeg.core.optional_packages import require
from transeg.plugins.datasets.outlines import LARGEST, Outlined, OutlineDataset, enclosed_area, read_bounded

if TYPE_CHECKING:
    from roifile import ImagejRoi

MAGIC = b"Iout"
MOST = 100_000
"""ROIs of an image, which take a gigabyte; ImageJ itself becomes slow long before."""
NUMBERED = re.compile(r"(.+) #\d+", re.DOTALL)
"""A class, and the number by which `toolkit predict` tells objects apart."""
AUTOMATIC = re.compile(r"|\d{4,}(-\d+){1,3}")
"""What ImageJ calls a ROI that nobody has named, after where it lies."""
MOVE, LINE, QUADRATIC, CUBIC, CLOSE = range(5)
POINTS = {MOVE: 1, LINE: 1, QUADRATIC: 2, CUBIC: 3, CLOSE: 0}
"""Of a step of a composite's outline: the last is where it leads to."""
CURVE = np.linspace(0, 1, 33)[1:, None]
"""Where curves are cut into lines."""
CIRCLE = np.linspace(0, 2 * np.pi, 360, endpoint=False)
READ = "there are polygons, freehand and traced areas, rectangles, ovals, ellipses and composites of them"


class ImageJ(OutlineDataset):
    """Images with the regions of interest (ROIs) that the ROI manager of ImageJ or Fiji saves for each.

    `NAME.zip`, or `NAME.roi` of a single one, lies beside the image or in `annotations/`. Read are polygons, freehand
    and traced areas, rectangles, also rotated ones, ovals, ellipses, and composites of these, with holes and several
    parts; lines, angles, points and texts are refused, as they enclose nothing. The class of a ROI is its name, without
    a number that ` #` leads to: `gland`, `gland #12`. ROIs that nobody has named, such as `0001-0042-0037`, are refused
    unless `one_class` says what all are.

    A ROI is an object; where objects overlap, a pixel belongs to the smallest, a composite being as large as its
    largest outline. The first pixel reaches from 0 to 1, and a pixel is inside if its centre is. An image that EXIF
    data turn is taken turned. Subfolders `train/`, `val/` and `test/` decide the splits, else `ratio` does.

    Needs roifile: `pip install 'transeg[polygons]'`.

    Args:
        root: the folder.
        split: `train`, `val`, `test` or `all`.
        classes: names of the classes, background first; by default all that ROIs are called in the files, sorted.
        one_class: class of all ROIs, whatever they are called; by default their names say it.
        ignore: name of what is unknown: neither losses nor metrics look there.
        channels: of the images: 1 for grey, 3 for colour.
        ratio: shares of train, val and test where no subfolders decide.
        seed: of the shuffle before images are shared out.
    """

    endings = frozenset({".zip", ".roi"})

    def __init__(
        self,
        root: Path,
        split: Literal["train", "val", "test", "all"],
        *,
        classes: tuple[str, ...] | None = None,
        one_class: str | None = None,
        ignore: str | None = "__ignore__",
        channels: int = 3,
        ratio: tuple[float, float, float] = RATIO,
        seed: int = 0,
    ) -> None:
        require("roifile", "polygons", "The dataset imagej")
        self.one_class = one_class
        super().__init__(root, split, classes=classes, ignore=ignore, channels=channels, ratio=ratio, seed=seed)

    def content(self, path: Path) -> list[tuple[str, bytes]]:
        """The name of each ROI, as its file says it, and what the file holds."""
        packed = read_bounded(path, LARGEST)
        return [("", packed)] if path.suffix.lower() == ".roi" else list(_members(packed))

    def objects(self, content: Sequence[tuple[str, bytes]], size: tuple[int, int] | None) -> list[Outlined]:
        rois = [(roi.name or name, roi) for name, stored in content for roi in [_decoded(name, stored)]]
        slices = {(roi.position, roi.z_position, roi.t_position) for _, roi in rois} - {(0, 0, 0)}
        if len(slices) > 1:
            raise ValueError(
                f"has ROIs on {len(slices)} slices of a stack; save the slices as images, each with its own"
            )
        return [Outlined(self._class(name), [_outlines(roi, name)] if size is not None else ()) for name, roi in rois]

    def _class(self, name: str) -> str:
        numbered = NUMBERED.fullmatch(name)
        said = numbered[1] if numbered else name
        if self.one_class is not None and said != self.ignore:
            return self.one_class
        if AUTOMATIC.fullmatch(said):
            raise ValueError(
                f"has {_called(name)}, whose name says no class; rename it, or say what all are with the option "
                "one_class"
            )
        return said


def _members(packed: bytes) -> Iterator[tuple[str, bytes]]:
    """The ROIs of a ROI zip, with their names.

    Raises:
        ValueError: it is none, damaged, or unpacks to too much; a clause.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            rois = [member for member in members if member.filename.lower().endswith(".roi")]
            if members and not rois:
                raise ValueError("holds no ROIs (files that end in .roi)")
            if len(rois) > MOST:
                raise ValueError(f"holds {len(rois)} ROIs; up to {MOST} are read, so divide it")
            if sum(member.file_size for member in rois) > LARGEST:
                raise ValueError(f"unpacks to more than {LARGEST // 2**20} MB, so divide it")
            for member in rois:
                yield member.filename[: -len(".roi")], archive.read(member)
    except (*DAMAGES, OSError, RuntimeError) as error:
        raise ValueError("is no ROI zip, or is damaged or encrypted") from error


def _decoded(name: str, stored: bytes) -> ImagejRoi:
    """A ROI.

    Raises:
        ValueError: it is none, or damaged; a clause.
    """
    from roifile import ImagejRoi

    if not stored.startswith(MAGIC):
        raise ValueError(f"has {_called(name)} that is none of ImageJ")
    try:
        roi = ImagejRoi.frombytes(stored)
    except (ValueError, TypeError, struct.error) as error:
        raise ValueError(f"has {_called(name)} that is cut off or damaged") from error
    if roi.composite and roi.multi_coordinates is None:
        raise ValueError(f"has {_called(name)}, a composite that is damaged")
    return roi


def _outlines(roi: ImagejRoi, name: str) -> list[np.ndarray]:
    """Of a ROI and its holes, each ``(P, 2)``.

    Raises:
        ValueError: it encloses nothing; a clause.
    """
    from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE

    kind, subkind = roi.roitype, roi.subtype
    drawn = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)
    shapes = (ROI_SUBTYPE.UNDEFINED, ROI_SUBTYPE.ELLIPSE, ROI_SUBTYPE.ROTATED_RECT)  # stored as polygons, too
    if kind not in (*drawn, ROI_TYPE.RECT, ROI_TYPE.OVAL) or subkind not in shapes:
        called = (kind if subkind in shapes else subkind).name.lower()
        raise ValueError(f"has {_called(name)} of the type {called}, which is no area that is read; {READ}")
    if roi.options & ROI_OPTIONS.SPLINE_FIT or (kind == ROI_TYPE.RECT and roi.rounded_rect_arc_size > 0):
        raise ValueError(f"has {_called(name)} with rounded corners or a spline; make it a freehand area first")
    if roi.composite:
        return _composite(roi.multi_coordinates, name)
    if kind not in drawn:  # ImageJ fills these by whole pixels, where they lie between them, too
        left, top, right, bottom = float(roi.left), float(roi.top), float(roi.right), float(roi.bottom)
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        return [corners if kind == ROI_TYPE.RECT else _oval(corners[0], corners[2])]
    points = roi.coordinates()
    if len(points) < 3:
        raise ValueError(f"has {_called(name)} of {len(points)} points, which enclose nothing: 3 are needed")
    return [points.astype(np.float64)]


def _oval(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Within a rectangle, from two of its corners."""
    return (first + last) / 2 + (last - first) / 2 * np.stack([np.cos(CIRCLE), np.sin(CIRCLE)], axis=1)


def _composite(steps: np.ndarray, name: str) -> list[np.ndarray]:
    """The outlines of a composite, the largest first.

    Raises:
        ValueError: they are none; a clause.
    """
    values = steps.astype(np.float64).tolist()
    rings: list[list[tuple[float, float]]] = []
    place, is_open = 0, False
    while place < len(values):
        kind = values[place]
        ahead = values[place + 1 : place + 1 + 2 * POINTS.get(kind, 0)]
        points = list(zip(ahead[::2], ahead[1::2], strict=False))
        if len(points) != POINTS.get(kind) or not (is_open or kind in (MOVE, CLOSE)):
            raise ValueError(f"has {_called(name)}, a composite whose outline is damaged")
        if kind == MOVE:
            rings.append(points)
        elif kind != CLOSE:
            rings[-1] += _curve([rings[-1][-1], *points])
        place, is_open = place + 1 + len(ahead), kind != CLOSE
    outlines = [np.array(ring) for ring in rings if len(ring) >= 3]
    if not outlines:
        raise ValueError(f"has {_called(name)}, a composite that encloses nothing")
    return sorted(outlines, key=lambda outline: enclosed_area([outline]), reverse=True)


def _curve(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A Bézier curve of two to four points as lines, without its first point."""
    if len(points) == 2:
        return points[1:]
    levels = [np.array([point]) for point in points]
    while len(levels) > 1:
        levels = [(1 - CURVE) * one + CURVE * other for one, other in pairwise(levels)]
    return [(x, y) for x, y in levels[0].tolist()]


def _called(name: str) -> str:
    return f"the ROI {name[:40]!r}" if name else "a ROI without a name"
