"""Annotations by QuPath."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from transeg.core.data.splits import RATIO
from transeg.plugins.datasets.outlines import Outlined, OutlineDataset, Polygon, read_points


class GeoJSON(OutlineDataset):
    """Images with the GeoJSON file that QuPath exports for each: polygons with holes, of classes by classification.

    The files, `.geojson` or `.json`, lie beside the images or in `annotations/`. A feature is an object; where objects
    overlap, a pixel belongs to the smallest. Coordinates are pixels of the image at its full resolution; the first
    pixel reaches from 0 to 1, and a pixel is inside if its centre is. An image that EXIF data turn is taken turned.
    Subfolders `train/`, `val/` and `test/` decide the splits, else `ratio` does.

    Args:
        root: the folder.
        split: `train`, `val`, `test` or `all`.
        classes: names of the classes, background first; by default all classifications in the files, sorted.
        unclassified: class of objects without a classification; by default they are refused.
        ignore: classification of what is unknown: neither losses nor metrics look there.
        channels: of the images: 1 for grey, 3 for colour.
        ratio: shares of train, val and test where no subfolders decide.
        seed: of the shuffle before images are shared out.
    """

    endings = frozenset({".geojson", ".json"})

    def __init__(
        self,
        root: Path,
        split: Literal["train", "val", "test", "all"],
        *,
        classes: tuple[str, ...] | None = None,
        unclassified: str | None = None,
        ignore: str | None = "Ignore*",
        channels: int = 3,
        ratio: tuple[float, float, float] = RATIO,
        seed: int = 0,
    ) -> None:
        self.unclassified = unclassified
        super().__init__(root, split, classes=classes, ignore=ignore, channels=channels, ratio=ratio, seed=seed)

    def objects(self, content: Any, size: tuple[int, int] | None) -> list[Outlined]:
        return read_features(content, self.unclassified, outlines=size is not None)


def read_features(content: Any, unclassified: str | None, *, outlines: bool) -> list[Outlined]:
    """The objects in a decoded file.

    Args:
        content: whatever JSON can hold.
        unclassified: class of objects without a classification; None to refuse them.
        outlines: whether they are wanted, or only the names of classes.

    Raises:
        ValueError: it is not of the format; a clause that follows the file's name.
    """
    features = content.get("features") if isinstance(content, dict) else content
    if not isinstance(features, list) or not all(isinstance(feature, dict) for feature in features):
        raise ValueError("has no list of features, so it is no GeoJSON of QuPath")
    return [
        Outlined(_name(feature, unclassified), _polygons(feature.get("geometry")) if outlines else ())
        for feature in features
    ]


def _name(feature: dict[str, Any], unclassified: str | None) -> str:
    properties = feature.get("properties")
    kind = properties.get("classification") if isinstance(properties, dict) else None
    name = kind.get("name") if isinstance(kind, dict) else None
    name = unclassified if name is None else name
    if not isinstance(name, str):
        raise ValueError(
            "has an object without a classification; give it one, or say its class with the option unclassified"
        )
    return name


def _polygons(geometry: Any) -> list[Polygon]:
    """Of a feature's geometry.

    Raises:
        ValueError: it encloses nothing; a clause.
    """
    kind, parts = (geometry.get("type"), geometry.get("coordinates")) if isinstance(geometry, dict) else (None, None)
    if kind not in ("Polygon", "MultiPolygon"):
        raise ValueError(f"has a geometry of the type {str(kind)[:40]!r}; there are Polygon and MultiPolygon")
    parts = [parts] if kind == "Polygon" else parts
    if not isinstance(parts, list) or not all(isinstance(part, list) and part for part in parts):
        raise ValueError(f"has a {kind} without outlines")
    return [[_ring(ring) for ring in part] for part in parts]


def _ring(ring: Any) -> np.ndarray:
    """An outline, without the first point's repetition at the end: ``(P, 2)``."""
    points = ring[:-1] if isinstance(ring, list) and len(ring) > 1 and ring[0] == ring[-1] else ring
    return read_points(points, 3)
