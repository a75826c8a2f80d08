"""Annotations by CVAT."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError, ParserCreate

import numpy as np

from transeg.plugins.datasets.cvat_tracks import Track, shapes_by_frame
from transeg.plugins.datasets.listed_outlines import SPLIT_NAMES, ListedImage, ListedOutlines
from transeg.plugins.datasets.outlines import LARGEST, Outlined, Polygon, Runs, read_bounded, read_points, read_runs

DEEPEST = 20
"""Elements within each other; CVAT writes six."""
TASKS = ("task", "job", "original_size")
FIELDS = ("size", "start_frame", "stop_frame", "frame_filter", "height", "width")
"""What counts of what CVAT says of a video."""
NOT_OBJECTS = frozenset({"tag", "attribute"})
"""What an image may have besides shapes."""


class CVAT(ListedOutlines):
    """Images with the XML file of "CVAT for images 1.1": polygons, boxes, ellipses and masks, of classes by label.

    Also read is that of "CVAT for video 1.1": the frames of the video, as images called `frame_000000.png`, and tracks,
    each of which shows one object until it is outside. CVAT lists them in every frame; where some are left out, boxes
    and ellipses are interpolated in straight lines, and other shapes refused unless they stay as they are.

    The file, `annotations.xml`, lies in the folder or in `annotations/`, the images anywhere below. An image without
    shapes is background. Where objects overlap, a pixel belongs to that of the highest z-order, then to the smallest.
    The first pixel reaches from 0 to 1, and a pixel is inside if its centre is; boxes and ellipses may be rotated.
    CVAT's subsets `Train`, `Validation` and `Test` decide the splits, or subfolders `train/`, `val/` and `test/`, else
    `ratio` does. An image that EXIF data turn is taken turned, as CVAT shows it.

    Args:
        root: the folder.
        split: `train`, `val`, `test` or `all`.
        annotations: the file, from the folder on, where there are several; by default it is found.
        classes: names of the classes, background first; by default all labels, in CVAT's order.
        ignore: label of what is unknown: neither losses nor metrics look there.
        channels: of the images: 1 for grey, 3 for colour.
        ratio: shares of train, val and test where nothing else decides.
        seed: of the shuffle before images are shared out.
    """

    ending = ".xml"

    @classmethod
    def parse(cls, path: Path) -> tuple[list[str], list[ListedImage]]:
        found = _Elements()
        parser = ParserCreate()
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.StartElementHandler = found.begin
        parser.EndElementHandler = found.end
        parser.CharacterDataHandler = found.text
        try:
            parser.Parse(read_bounded(path, LARGEST), True)
        except (ExpatError, LookupError) as error:
            raise ValueError(f"is no XML: {error}") from error
        if not found.is_cvat:
            raise ValueError("has no element annotations, so it is not CVAT's")
        found.images += found.frames()
        others = {dict(shape).get("label", "") for image in found.images for _, shape in image.annotations}
        return [*found.labels, *sorted(others - set(found.labels))], found.images

    def objects(self, annotations: Sequence[Any], size: tuple[int, int]) -> list[Outlined]:
        return [_object(kind, dict(said), size) for kind, said in annotations]


class _Elements:
    """What matters of CVAT's elements, as they are read."""

    def __init__(self) -> None:
        self.is_cvat = False
        self.labels: list[str] = []
        self.images: list[ListedImage] = []
        self._open: list[str] = []
        self._image: dict[str, str] = {}
        self._shapes: list[tuple[str, tuple[tuple[str, str], ...]]] = []
        self._tracks: list[Track] = []
        self._task: dict[str, str] = {}

    def begin(self, element: str, said: dict[str, str]) -> None:
        self._open.append(element)
        if len(self._open) > DEEPEST:
            raise ValueError("is nested too deeply for annotations")
        self.is_cvat |= self._open == ["annotations"]
        if self._open == ["annotations", "track"]:
            if "task_id" in said:
                raise ValueError("holds tracks of a project, whose tasks count their frames alike; export each task")
            if "label" not in said:
                raise ValueError("has a track without a label")
            self._tracks.append(Track(said["label"]))
        elif self._open[:2] == ["annotations", "track"] and len(self._open) == 3:
            self._tracks[-1].shapes.append((element, said))
        elif self._open == ["annotations", "image"]:
            self._image, self._shapes = said, []
        elif self._open[:2] == ["annotations", "image"] and len(self._open) == 3 and element not in NOT_OBJECTS:
            self._shapes.append((element, tuple(sorted(said.items()))))
        elif self._open[-3:] == ["labels", "label", "name"]:
            self.labels.append("")

    def text(self, text: str) -> None:
        if self._open[-3:] == ["labels", "label", "name"]:
            self.labels[-1] += text
        elif self._open[:2] == ["annotations", "meta"] and self._open[-2] in TASKS and self._open[-1] in FIELDS:
            self._task[self._open[-1]] = self._task.get(self._open[-1], "") + text

    def end(self, element: str) -> None:
        if self._open == ["annotations", "image"]:
            said, where = self._image, f"image {len(self.images) + 1}"
            size = (
                (int(_number(said, "height", where)), int(_number(said, "width", where))) if "height" in said else None
            )
            subset, name = said.get("subset", ""), said.get("name", "")
            split = SPLIT_NAMES.get(subset.lower(), "")
            where_it_may_lie = f"{subset}/{name}" if subset else name  # tasks of one project may use a name twice
            self.images.append(ListedImage(where_it_may_lie, size, split, tuple(self._shapes)))
        self._open.pop()

    def frames(self) -> list[ListedImage]:
        """What a video's tracks show, as images that are called as CVAT calls them.

        Raises:
            ValueError: they cannot be told; a clause.
        """
        if not self._tracks:
            return []
        if self.images:
            raise ValueError("holds both images and tracks, which CVAT does not write")
        size = None
        if {"height", "width"} <= self._task.keys():
            size = int(_number(self._task, "height", "task")), int(_number(self._task, "width", "task"))
        shown = shapes_by_frame(self._tracks, self._task)
        return [ListedImage(f"frame_{number:06d}", size, "", shapes) for number, shapes in shown.items()]


def _refuse_doctype(*_: Any) -> None:
    raise ValueError("has a document type (<!DOCTYPE>), which CVAT does not write and which is not read; remove it")


def _object(kind: str, said: dict[str, str], size: tuple[int, int]) -> Outlined:
    """A shape from its attributes.

    Raises:
        ValueError: it encloses nothing, or its attributes are impossible; a clause.
    """
    name = said.get("label")
    if name is None:
        raise ValueError(f"has a {kind} without a label")
    if kind not in SHAPES:
        raise ValueError(f"has a {kind} of the label {name!r}, which is no area; there are {', '.join(SHAPES)}")
    level = int(_number({"z_order": "0", **said}, "z_order", kind))
    return Outlined(name, [SHAPES[kind](said, size)], level)


def _polygon(said: Mapping[str, str], _size: tuple[int, int]) -> Polygon:
    try:
        points = [[float(number) for number in point.split(",")] for point in said.get("points", "").split(";")]
    except ValueError as error:
        raise ValueError("has a polygon with a point that is no x,y") from error
    return [read_points(points, 3)]


def _box(said: Mapping[str, str], _size: tuple[int, int]) -> Polygon:
    left, top, right, bottom = (_number(said, key, "box") for key in ("xtl", "ytl", "xbr", "ybr"))
    return [_rotated(np.array([(left, top), (right, top), (right, bottom), (left, bottom)]), said)]


def _ellipse(said: Mapping[str, str], _size: tuple[int, int]) -> Polygon:
    x, y, across, down = (_number(said, key, "ellipse") for key in ("cx", "cy", "rx", "ry"))
    angles = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    return [_rotated(np.stack([x + across * np.cos(angles), y + down * np.sin(angles)], axis=1), said)]


def _mask(said: Mapping[str, str], size: tuple[int, int]) -> Runs:
    top, left, height, width = (int(_number(said, key, "mask")) for key in ("top", "left", "height", "width"))
    if min(top, left, height, width) < 0 or top + height > size[0] or left + width > size[1]:
        raise ValueError("has a mask that reaches out of the image")
    try:
        lengths = [int(number) for number in said.get("rle", "").split(",")]
    except ValueError as error:
        raise ValueError("has a mask with a run whose length is no number of pixels") from error
    return read_runs(lengths, (top, left, height, width), down=False)


SHAPES: dict[str, Callable[[Mapping[str, str], tuple[int, int]], Polygon | Runs]] = {
    "polygon": _polygon,
    "box": _box,
    "ellipse": _ellipse,
    "mask": _mask,
}


def _rotated(points: np.ndarray, said: Mapping[str, str]) -> np.ndarray:
    """Clockwise about their middle by the rotation in degrees that there may be."""
    angle = np.deg2rad(_number({"rotation": "0", **said}, "rotation", "shape"))
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.asarray((points - middle) @ turn + middle)


def _number(said: Mapping[str, str], key: str, what: str) -> float:
    try:
        number = float(said[key])
    except (KeyError, ValueError) as error:
        raise ValueError(f"has a {what} whose {key} is no number") from error
    if not np.isfinite(number):
        raise ValueError(f"has a {what} whose {key} is not finite")
    return number
