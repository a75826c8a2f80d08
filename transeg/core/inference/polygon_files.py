"""Predicted objects as polygons in the files of programs in which people correct them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import msgspec
import numpy as np

from transeg.core.analysis.pixel_edges import join_holes
from transeg.core.files import replacing
from transeg.core.inference.imagej_files import imagej_documents
from transeg.core.inference.pixel_size import PixelSize
from transeg.core.inference.predicted_objects import Documents, PredictedObject
from transeg.core.optional_packages import require

FORMATS = ("coco", "geojson", "imagej", "labelme")
FOLDER = "annotations"
"""Where the files of single images lie."""
IDS = UUID("6a5c8d0e-3f0b-4b57-9d0a-6f2f1f0b7c11")
"""What ids of objects are made from, with where these are."""


def polygon_documents(
    kind: str, out: Path, names: Sequence[str], files: Sequence[Path], pixel_size: PixelSize | None = None
) -> AbstractContextManager[Documents]:
    """What writes polygons: a file for each image, or for all of them one that has its name at the end.

    Args:
        kind: one of :data:`FORMATS`.
        out: the folder.
        names: of the classes, background first.
        files: all images, in the order in which they come.
        pixel_size: of all images, in micrometres; by default what each says.

    Raises:
        UsageError: it needs a package that is not installed, or cannot hold the name of a class.
    """
    if kind == "coco":
        require("pycocotools", "polygons", "--format coco")
        return _coco(out / f"{FOLDER}.json", names, files)
    if kind == "imagej":
        return nullcontext(imagej_documents(out / FOLDER, names, pixel_size))
    return nullcontext(partial({"geojson": _geojson, "labelme": _labelme}[kind], out / FOLDER, names))


def _geojson(
    folder: Path, names: Sequence[str], image: Path, _size: tuple[int, int], objects: Sequence[PredictedObject]
) -> dict[Path, bytes]:
    """As QuPath reads it: an annotation for each object, with its confidence as a measurement."""
    features = []
    for found in objects:
        parts = [[np.concatenate([ring, ring[:1]]).tolist() for ring in rings] for rings in found.parts]
        several = len(parts) > 1
        features.append(
            {
                "type": "Feature",
                "id": str(uuid5(IDS, f"{image.stem}/{names[found.label]}/{found.first[0]}/{found.first[1]}")),
                "geometry": {
                    "type": "MultiPolygon" if several else "Polygon",
                    "coordinates": parts if several else parts[0],
                },
                "properties": {
                    "objectType": "annotation",
                    "classification": {"name": names[found.label]},
                    "measurements": [{"name": "confidence", "value": found.shown_confidence}],
                },
            }
        )
    document = {"type": "FeatureCollection", "features": features}
    return {folder / f"{image.stem}.geojson": msgspec.json.encode(document)}


def _labelme(
    folder: Path, names: Sequence[str], image: Path, size: tuple[int, int], objects: Sequence[PredictedObject]
) -> dict[Path, bytes]:
    """Shapes without holes, as labelme has none: a bridge leads to each; parts of one object have a group."""
    shapes = [
        {
            "label": names[found.label],
            "points": join_holes(rings).astype(float).tolist(),
            "group_id": number if len(found.parts) > 1 else None,
            "description": f"confidence {found.shown_confidence}",
            "shape_type": "polygon",
            "flags": {},
        }
        for number, found in enumerate(objects, start=1)
        for rings in found.parts
    ]
    document: dict[str, Any] = {
        "version": "5.0.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": _path_from(folder, image),
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }
    return {folder / f"{image.stem}.json": msgspec.json.encode(document)}


@contextmanager
def _coco(path: Path, names: Sequence[str], files: Sequence[Path]) -> Iterator[Documents]:
    """One file of all images; each annotation goes to the disk as it comes."""
    numbers = {file: number for number, file in enumerate(files, start=1)}
    images: list[dict[str, Any]] = []
    count = 0
    with replacing(path) as unfinished, unfinished.open("wb") as document:
        categories = [{"id": number, "name": name} for number, name in enumerate(names) if number]
        document.write(b'{"categories":' + msgspec.json.encode(categories) + b',\n"annotations":[')

        def add(image: Path, size: tuple[int, int], objects: Sequence[PredictedObject]) -> dict[Path, bytes]:
            nonlocal count
            height, width = size
            images.append({"id": numbers[image], "file_name": image.name, "width": width, "height": height})
            for found in objects:
                count += 1
                annotation = {"id": count, "image_id": numbers[image], **_coco_annotation(found, size)}
                document.write((b",\n" if count > 1 else b"\n") + msgspec.json.encode(annotation))
            return {}

        yield add
        document.write(b'],\n"images":' + msgspec.json.encode(images) + b"}\n")


def _coco_annotation(found: PredictedObject, size: tuple[int, int]) -> dict[str, Any]:
    """Polygons, which have no holes there, or lengths of runs where the object has some."""
    height, width = found.inside.shape
    if any(len(rings) > 1 for rings in found.parts):
        segmentation: Any = _run_lengths(found, size)
    else:
        segmentation = [outline.ravel().tolist() for (outline,) in found.parts]
    return {
        "category_id": found.label,
        "segmentation": segmentation,
        "area": int(found.inside.sum()),
        "bbox": [found.left, found.top, width, height],
        "iscrowd": 0,
        "score": found.shown_confidence,
    }


def _run_lengths(found: PredictedObject, size: tuple[int, int]) -> dict[str, Any]:
    """Compressed; only the columns that the object reaches are looked at, as there may be thousands of objects."""
    from pycocotools import mask

    height, width = size
    rows, columns = found.inside.shape
    reached = np.zeros((height, columns), np.int8)
    reached[found.top : found.top + rows] = found.inside
    turns = np.flatnonzero(np.diff(reached.ravel(order="F"), prepend=0, append=0)) + found.left * height
    lengths = np.diff(turns, prepend=0, append=height * width)
    compressed = mask.frPyObjects({"size": list(size), "counts": lengths.tolist()}, height, width)
    return {"size": list(size), "counts": compressed["counts"].decode()}


def _path_from(folder: Path, image: Path) -> str:
    """Of an image as a file in the folder names it."""
    try:
        return Path(os.path.relpath(image.absolute(), folder.absolute())).as_posix()
    except ValueError:  # on another drive of Windows
        return image.absolute().as_posix()
