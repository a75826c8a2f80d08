"""Augmentation with albumentations, as a pure function of (seed, stream, position).

The same image drawn twice is augmented anew, and workers, resumes and ranks do not matter.
"""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from transeg.core.errors import DataError, UsageError, did_you_mean

if TYPE_CHECKING:
    import albumentations as A

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks a server for its newest version when imported

cv2.setNumThreads(0)  # data loader workers are the parallelism

Transform = dict[str, Any]

CROP = "RandomCrop"
"""The transform that cuts out the training size; it comes first where a list does not name it."""


MOVING = frozenset({"HorizontalFlip", "VerticalFlip", "D4", "Rotate", "Affine", "RandomScale", CROP})
"""Transforms of the presets that move pixels: they need not be looked up, which takes a second the first time."""


class Augmentation:
    """A pipeline of albumentations transforms with a random crop.

    Args:
        transforms: tables with the ``name`` of an albumentations class and its arguments; where one is the crop,
            ``RandomCrop``, what comes before it sees the whole image.
        size: height and width of the crop, which pads what is smaller; None for no crop.
        seed: of the experiment.
        stream: tells apart augmentations of one run, such as those of source and target.

    Raises:
        UsageError: an unknown transform or argument.
    """

    def __init__(self, transforms: Sequence[Transform], size: int | None, seed: int, stream: int) -> None:
        import albumentations as A

        crop = {"name": CROP, "height": size, "width": size, "pad_if_needed": True}
        named = size is None or any(t.get("name") == CROP for t in transforms)
        steps = list(transforms) if named else [crop, *transforms]
        built = [_build({**crop, **step} if step.get("name") == CROP else step) for step in steps]
        self._pipeline = A.Compose(built, additional_targets={"paired": "image", "instances": "mask", "valid": "mask"})
        self._key = (seed, stream)

    def __call__(
        self,
        position: int,
        image: np.ndarray,
        mask: np.ndarray | None = None,
        paired: np.ndarray | None = None,
        instances: np.ndarray | None = None,
        valid: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, np.ndarray | None, np.ndarray | None]:
        """Augment all that belongs together alike, for one place in the sample stream.

        Args:
            position: the place.
            image: ``(H, W, C)``.
            mask: ``(H, W)`` label map, never interpolated.
            paired: ``(H, W, C')``.
            instances: ``(H, W)`` uint16, never interpolated.
            valid: ``(H, W)`` uint8, 1 where the image shows anything, never interpolated.

        Returns:
            The same five at the size of the crop.

        Raises:
            DataError: a transform does not take such images.
        """
        numbers = np.random.default_rng((*self._key, position))
        # one generator for all transforms: Compose.set_random_seed would give each its own of the same seed, so that
        # two flips of probability one half would always happen together
        self._pipeline.set_random_state(numbers, random.Random(int(numbers.integers(2**63))))
        given = {"image": image, "mask": mask, "paired": paired, "instances": instances, "valid": valid}
        try:
            result = self._pipeline(**{key: value for key, value in given.items() if value is not None})
        except ValueError as error:
            reason = str(error).partition("\n")[0].removesuffix(".")
            raise DataError(f"The augmentation cannot be applied to such images: {reason}.") from error
        return result["image"], *(result.get(name) for name in ("mask", "paired", "instances", "valid"))


def split_appearance(transforms: Sequence[Transform]) -> tuple[list[Transform], list[Transform]]:
    """What moves pixels, and what changes images alone: their colours, sharpness, noise.

    The latter must not change what a generator learns of a domain.

    Raises:
        UsageError: an unknown transform.
    """
    geometry: list[Transform] = []
    appearance: list[Transform] = []
    for each in transforms:
        name = str(each.get("name", ""))
        (geometry if name in MOVING or not _is_of_images_alone(name) else appearance).append(each)
    return geometry, appearance


def _is_of_images_alone(name: str) -> bool:
    import albumentations as A

    return issubclass(_find(name), A.ImageOnlyTransform)


def _build(transform: Transform) -> A.BasicTransform:
    arguments = dict(transform)
    name = str(arguments.pop("name", ""))
    found = _find(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # it only warns of unknown arguments
            return found(**arguments)
    except (UserWarning, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"augmentation: {name} does not take {arguments}: {reason[:200]}") from error


def _find(name: str) -> type[A.BasicTransform]:
    import albumentations as A

    found = getattr(A, name, None)
    if not (isinstance(found, type) and issubclass(found, A.BasicTransform)):
        known = [n for n in dir(A) if isinstance(getattr(A, n), type) and issubclass(getattr(A, n), A.BasicTransform)]
        near = did_you_mean(name, known) if len(did_you_mean(name, known)) < 80 else ""
        raise UsageError(f"augmentation: albumentations has no transform {name!r}.{near}")
    return found
