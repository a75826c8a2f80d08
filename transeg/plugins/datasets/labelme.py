"""Annotations by labelme."""

from __future__ import annotations

import base64
import binascii
import io
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from transeg.core.data.splits import RATIO
from transeg.plugins.datasets.outlines import Outlined, OutlineDataset, Polygon, Runs, read_points, read_runs

SHAPES = {"polygon": 3, "rectangle": 2, "oriented_rectangle": 4, "circle": 2, "mask": 2}
"""Points that each must have."""


class Labelme(OutlineDataset):
    """Images with the JSON file that labelme writes for each: polygons, rectangles, circles and masks, of classes by
    label.

    The files lie beside the images or in `annotations/`. Shapes of one label and `group_id` are one object; where
    objects overlap, a pixel belongs to the smallest. Coordinates are those of the image as labelme shows it, turned as
    its EXIF data say; the first pixel reaches from 0 to 1, and a pixel is inside if its centre is. Subfolders `train/`,
    `val/` and `test/` decide the splits, else `ratio` does.

    Args:
        root: the folder.
        split: `train`, `val`, `test` or `all`.
        classes: names of the classes, background first; by default all labels in the files, sorted.
        ignore: label of what is unknown: neither losses nor metrics look there.
        channels: of the images: 1 for grey, 3 for colour.
        ratio: shares of train, val and test where no subfolders decide.
        seed: of the shuffle before images are shared out.
    """

    def __init__(
        self,
        root: Path,
        split: Literal["train", "val", "test", "all"],
        *,
        classes: tuple[str, ...] | None = None,
        ignore: str | None = "__ignore__",
        channels: int = 3,
        ratio: tuple[float, float, float] = RATIO,
        seed: int = 0,
    ) -> None:
        super().__init__(root, split, classes=classes, ignore=ignore, channels=channels, ratio=ratio, seed=seed)

    def objects(self, content: Any, size: tuple[int, int] | None) -> list[Outlined]:
        shapes = content.get("shapes") if isinstance(content, dict) else None
        if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
            raise ValueError("has no list of shapes, so it is not labelme's")
        said = content.get("imageHeight"), content.get("imageWidth")
        if size is not None and None not in said and said != size:
            raise ValueError(f"is of an image of {said[1]}x{said[0]} pixels, but its image has {size[1]}x{size[0]}")
        found: dict[object, Outlined] = {}
        for index, shape in enumerate(shapes):
            label, group = shape.get("label"), shape.get("group_id")
            if not isinstance(label, str) or not isinstance(group, int | None):
                raise ValueError(
                    f"has a shape (the {index + 1}th) without a label, or with a group_id that is no number"
                )
            key = ("shape", index) if group is None else (label, group)
            part = [] if size is None else [_part(shape, size)]
            before = found[key].parts if key in found else ()
            found[key] = Outlined(label, [*before, *part])
        return list(found.values())


def _part(shape: dict[str, Any], size: tuple[int, int]) -> Polygon | Runs:
    """What a shape encloses in an image of that height and width."""
    kind = shape.get("shape_type", "polygon")
    if not isinstance(kind, str) or kind not in SHAPES:
        raise ValueError(f"has a shape of the type {str(kind)[:40]!r}; there are {', '.join(SHAPES)}")
    points = read_points(shape.get("points"), SHAPES[kind])
    if kind == "mask":
        return _mask(shape.get("mask"), points, size)
    if kind == "rectangle":
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        return [np.array([(left, top), (right, top), (right, bottom), (left, bottom)])]
    if kind == "circle":
        radius = float(np.hypot(*(points[1] - points[0])))
        angles = np.linspace(0, 2 * np.pi, 360, endpoint=False)
        return [np.asarray(points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1))]
    return [points]


def _mask(text: Any, corners: np.ndarray, size: tuple[int, int]) -> Runs:
    """Pixels that labelme's AI has found, from a PNG in base64 whose first pixel lies at the first corner."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as picture:
            if picture.width > size[1] or picture.height > size[0]:
                raise ValueError("has a mask that is larger than the image")
            inside = np.asarray(picture.convert("L")) > 0
    except (TypeError, binascii.Error, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("has a mask that is no PNG") from error
    if not np.isfinite(corners).all():
        raise ValueError("has a point whose coordinates are not finite")
    (left, top), (height, width) = np.round(corners[0]), inside.shape
    if min(top, left) < 0 or top + height > size[0] or left + width > size[1]:
        raise ValueError("has a mask that reaches out of the image")
    ends = np.flatnonzero(np.diff(inside.ravel(), prepend=False))
    return read_runs(np.diff(ends, prepend=0, append=inside.size), (int(top), int(left), height, width), down=False)
