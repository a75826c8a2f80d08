"""Annotations by QuPath."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from transeg.core.data.splits import RATIO
from transeg.plugins.datasets.outlines import (
    Outlined,
    OutlineDataset,
    Polygon,
    decode_outline,
    decode_typed,
    list_objects,
    read_points,
)

MOST_BRACES = 2**22
"""In a file: features without anything take 100 bytes each, and measurements none."""


class Classification(msgspec.Struct):
    """Of an object: a name, or those that a derived one consists of."""

    name: str | None = None
    names: tuple[str, ...] = ()


class Properties(msgspec.Struct):
    """Of an object, what is read of them: measurements, for instance, are not."""

    classification: Classification | str | None = None


class Feature(msgspec.Struct):
    """An object."""

    geometry: msgspec.Raw = msgspec.Raw(b"null")
    properties: Properties | None = None


class Collection(msgspec.Struct):
    """All of a file, where that is no mere list."""

    features: list[Feature]


class GeoJSON(OutlineDataset):
    """Images with the GeoJSON file that QuPath exports for each: polygons with holes, of classes by classification.

    The files, `.geojson` or `.json`, lie beside the images or in `annotations/`. A feature is an object; where objects
    overlap, a pixel belongs to the smallest. Of cells the outer outline counts; a derived class is called as QuPath
    shows it, `Tumor: Positive`. Coordinates are pixels of the image at its full resolution; the first
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

    def content(self, path: Path) -> list[Feature]:
        return read_features(path)

    def objects(self, content: list[Feature], size: tuple[int, int] | None) -> list[Outlined]:
        return list_features(content, self.unclassified, outlines=size is not None)


def read_features(path: Path) -> list[Feature]:
    """The features in a file, whose outlines are text yet.

    Raises:
        ValueError: it cannot be read, or is not of the format; a clause that follows the file's name.
    """
    found: Collection | list[Feature] = decode_typed(
        path, Collection | list[Feature], "has no list of features as QuPath writes it", MOST_BRACES
    )
    return found if isinstance(found, list) else found.features


def list_features(features: Sequence[Feature], unclassified: str | None, *, outlines: bool) -> list[Outlined]:
    """The objects that features are.

    Args:
        features: of a file.
        unclassified: class of objects without a classification; None to refuse them.
        outlines: whether they are wanted, or only the names of classes.

    Raises:
        ValueError: they are not of the format; a clause that follows the file's name.
    """
    return list_objects(
        Outlined(_name(feature, unclassified), _polygons(feature.geometry) if outlines else ()) for feature in features
    )


def _name(feature: Feature, unclassified: str | None) -> str:
    """Of a feature's class; of a derived one, such as `Tumor: Positive`, as QuPath shows it."""
    kind = None if feature.properties is None else feature.properties.classification
    if isinstance(kind, Classification):
        kind = ": ".join(kind.names) if kind.name is None else kind.name
    name = kind or unclassified
    if name is None:
        raise ValueError(
            "has an object without a classification; give it one, or say its class with the option unclassified"
        )
    return name


def _polygons(text: msgspec.Raw) -> list[Polygon]:
    """Of a feature's geometry.

    Raises:
        ValueError: it encloses nothing; a clause.
    """
    geometry = decode_outline(text)
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
