"""Images as users hand them in: arrays, files, or lists of either."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np

from transeg.core.data.arrays import image_of_array, labels_of_array
from transeg.core.data.decoded_image import Range
from transeg.core.data.images import read_unit_image
from transeg.core.errors import UsageError
from transeg.core.inference.prediction import label_values, list_image_files, read_labels

File: TypeAlias = str | PathLike[str]
Picture: TypeAlias = np.ndarray | File
"""An array or an image file."""
Pictures: TypeAlias = list[np.ndarray] | list[str] | list[Path]
T = TypeVar("T")


def apply_to_each(images: Picture | Pictures, work: Callable[[Picture, str], T]) -> T | list[T]:
    """What becomes of an image, or of each image in a list; see :func:`named_images`."""
    made = [work(image, name) for image, name in named_images(images)]
    return made if isinstance(images, (list, tuple)) else made[0]


def named_images(images: Picture | Pictures) -> list[tuple[Picture, str]]:
    """An image, or those of a list, with what errors call them if they are arrays: their places."""
    if not isinstance(images, (list, tuple)):
        return [(images, "The array")]
    several: Sequence[Picture] = images
    return [(image, f"Array {number} of the list, counted from 0,") for number, image in enumerate(several)]


def pixels_of(image: Picture, channels: int, name: str, range_: Range | None) -> np.ndarray:
    """An image as a network takes it, ``(H, W, channels)``, that scaled its own by a range or None."""
    if isinstance(image, np.ndarray):
        return image_of_array(image, channels, name, range_)
    return read_unit_image(_file(image), channels, range_=range_)


def labels_of(image: Picture, count: int, name: str) -> np.ndarray:
    """A label map of so many classes: ``(H, W)``."""
    if isinstance(image, np.ndarray):
        return labels_of_array(image, label_values(count), name)
    return read_labels(_file(image), count)


def chance_of(image: Picture, seed: int | None) -> str | int:
    """What the chance of a translation begins from: see :func:`transeg.core.inference.translator.translation_seed`."""
    if seed is not None:
        return int(seed)
    return 0 if isinstance(image, np.ndarray) else Path(image).stem


def _file(image: File) -> Path:
    if not isinstance(image, (str, PathLike)):
        raise UsageError(f"Images are arrays of NumPy or paths, or a list of them, not {type(image).__name__}.")
    path = Path(image)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give a list of its files, or call toolkit predict or toolkit translate.")
    return list_image_files(path)[0]
