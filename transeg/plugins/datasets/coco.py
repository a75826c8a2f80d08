"""Annotations in the format of COCO."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from transeg.plugins.datasets.listed_outlines import ListedImage, ListedOutlines
from transeg.plugins.datasets.outlines import (
    Outlined,
    Polygon,
    Runs,
    decode_outline,
    decode_typed,
    list_objects,
    read_points,
    read_runs,
)

MOST_BRACES = 2**21
"""In a file: annotations without anything take 250 bytes each."""
BACKGROUND = "_background_"
"""A category of labelme's converter to COCO, of which there are no objects."""
LONGEST = 7
"""Characters of a run's length, of 5 bits each: more pixels than any image has."""


class _Image(msgspec.Struct):
    id: int | str
    file_name: str
    width: int | None = None
    height: int | None = None


class _Annotation(msgspec.Struct):
    image_id: int | str
    category_id: int | str
    segmentation: msgspec.Raw = msgspec.Raw(b"null")
    iscrowd: int | bool | None = 0


class _Category(msgspec.Struct):
    id: int | str
    name: str
    supercategory: str | None = None


class _Instances(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


class COCO(ListedOutlines):
    """Images with a JSON file of COCO's instances: polygons and run lengths (RLE), of classes by category.

    The file lies in the folder or in `annotations/`, the images anywhere below. Several files are for different splits,
    as their names or folders say: `annotations/instances_train.json`, or `train/_annotations.coco.json` as Roboflow
    writes it; else `ratio` decides. An image without annotations is background. Where objects overlap, a pixel belongs
    to the smallest. The first pixel reaches from 0 to 1, and a pixel is inside a polygon if its centre is. Crowds are
    unknown. An image that EXIF data turn is taken turned.

    Args:
        root: the folder.
        split: `train`, `val`, `test` or `all`.
        annotations: the file, from the folder on, where there are several; by default it is found.
        classes: names of the classes, background first; by default all categories, in the order of their ids.
        ignore: category of what is unknown, where neither losses nor metrics look, as in crowds; null to take crowds
            for objects.
        channels: of the images: 1 for grey, 3 for colour.
        ratio: shares of train, val and test where nothing else decides.
        seed: of the shuffle before images are shared out.
    """

    ending = ".json"

    @classmethod
    def parse(cls, path: Path) -> tuple[list[str], list[ListedImage]]:
        content: _Instances = decode_typed(path, _Instances, "is no file of COCO's instances", MOST_BRACES)
        categories = {category.id: category.name for category in content.categories}
        found: dict[int | str, list[tuple[str, bool, bytes]]] = {image.id: [] for image in content.images}
        if len(found) < len(content.images) or len(categories) < len(content.categories):
            raise ValueError("has two images, or two categories, of one id")
        for each in content.annotations:
            if each.image_id not in found or each.category_id not in categories:
                raise ValueError(
                    f"has an annotation of the image {each.image_id!r} and the category {each.category_id!r}, of which "
                    "it does not list both"
                )
            name = categories[each.category_id]
            found[each.image_id].append((name, bool(each.iscrowd), bytes(each.segmentation)))
        images = [ListedImage(image.file_name, _size(image), "", tuple(found[image.id])) for image in content.images]
        return _classes(content), images

    def objects(self, annotations: Sequence[Any], size: tuple[int, int]) -> list[Outlined]:
        return list_objects(
            Outlined(self.ignore if crowd and self.ignore is not None else name, _parts(segmentation, size))
            for name, crowd, segmentation in annotations
        )


def _size(image: _Image) -> tuple[int, int] | None:
    return None if image.height is None or image.width is None else (image.height, image.width)


def _classes(content: _Instances) -> list[str]:
    """Names of categories by id, without those that only gather others, as Roboflow's first one does."""
    used = {each.category_id for each in content.annotations}
    above = {category.supercategory for category in content.categories if category.supercategory != category.name}
    listed = [each for each in content.categories if each.id in used or each.name not in above]
    ordered = sorted(listed, key=lambda each: (isinstance(each.id, str), each.id))
    return [each.name for each in ordered if each.id in used or each.name != BACKGROUND]


def _parts(text: bytes, size: tuple[int, int]) -> list[Polygon | Runs]:
    """Of a segmentation, in JSON.

    Raises:
        ValueError: it encloses nothing; a clause.
    """
    segmentation = decode_outline(text)
    if isinstance(segmentation, dict):
        return [_runs(segmentation, size)]
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError("has an annotation without a segmentation, a mere box; draw its outline, or remove it")
    return [[_ring(numbers)] for numbers in segmentation]


def _ring(numbers: Any) -> np.ndarray:
    if not isinstance(numbers, list) or len(numbers) % 2:
        raise ValueError("has a polygon that is no list of x and y by turns")
    return read_points([list(point) for point in zip(numbers[::2], numbers[1::2], strict=True)], 3)


def _runs(segmentation: dict[str, Any], size: tuple[int, int]) -> Runs:
    counts = segmentation.get("counts")
    if segmentation.get("size") != list(size):
        said = str(segmentation.get("size"))[:40]
        raise ValueError(f"has runs of an image of the height and width {said}, but it has {list(size)}")
    if isinstance(counts, str):
        counts = decompress_runs(counts)
    elif not isinstance(counts, list):
        raise ValueError("has runs without counts")
    return read_runs(counts, (0, 0, *size), down=True)


def decompress_runs(text: str) -> np.ndarray:
    """Lengths of runs, from the text that COCO's tools compress them to; int64, which may be impossible ones.

    pycocotools itself does not look whether runs fill the image, or whether a text ends within one, and then gives what
    happens to be in memory.

    Raises:
        ValueError: it is no such text; a clause.
    """
    digits = np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int64) - 48
    if ((digits < 0) | (digits > 63)).any() or (len(digits) and digits[-1] & 32):
        raise ValueError("has compressed runs that are damaged or cut off")
    ends = np.flatnonzero(digits & 32 == 0)
    begins = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
    if (ends - begins >= LONGEST).any():
        raise ValueError("has a run whose length is no number of pixels")
    places = np.arange(len(digits)) - np.repeat(begins, ends - begins + 1)
    lengths = np.add.reduceat((digits & 31) << 5 * places, begins) if len(ends) else digits
    lengths = lengths - np.where(digits[ends] & 16, 1 << 5 * (ends - begins + 1), 0)  # the sign
    lengths[1::2], lengths[2::2] = np.cumsum(lengths[1::2]), np.cumsum(lengths[2::2])  # said by differences
    return lengths
