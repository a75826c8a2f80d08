"""Changes of appearance, made inside the training step on what a segmenter sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from transeg.core.data.augmentation import Augmentation, Transform
from transeg.core.interfaces import send

SEEN, STRONG = 40, 41
"""Streams of changes: of what a segmenter sees of translated images, and of what makes a strong view."""


class AppearanceChanges:
    """Changes colours, sharpness and noise of images on their way to a segmenter, each by its place in the stream.

    The gradient passes as if nothing had been changed: the changes are made outside of PyTorch.

    Args:
        transforms: albumentations' transforms of images alone, as tables with a ``name``.
        seed: of the experiment.
        stream: tells apart changes of images at the same place.
    """

    def __init__(self, transforms: Sequence[Transform], seed: int, stream: int = SEEN) -> None:
        self._augment = Augmentation(transforms, None, seed, stream)

    def __call__(self, image: Tensor, positions: Tensor) -> Tensor:
        """The images, changed.

        Args:
            image: ``(N, C, H, W)`` in [-1, 1].
            positions: ``(N,)``, see :class:`transeg.core.interfaces.Batch`.

        Raises:
            DataError: a transform does not take such images.
        """
        rows = ((image.detach() + 1) * 127.5).round().clamp(0, 255).byte()  # every transform takes 8 bits
        pixels = rows.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        changed = [self._augment(position, row)[0] for position, row in zip(positions.tolist(), pixels, strict=True)]
        tensor = send(torch.from_numpy(np.stack(changed)), image.device).permute(0, 3, 1, 2).to(image.dtype)
        return image + (tensor / 127.5 - 1 - image).detach()
