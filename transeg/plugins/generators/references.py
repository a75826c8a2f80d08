"""Draws of target images, or of what is known of them, for translations without training."""

from __future__ import annotations

import torch
from torch import Tensor

from transeg.core.interfaces import Noise, send

_STREAM = 0


def draw_references(references: Tensor, count: int, noise: Noise | None) -> Tensor:
    """One reference for each image, each as likely as the others and the same in all windows of an image.

    The draw is a normal one, which a graph takes as an input, made even by its distribution.

    Args:
        references: ``(R, ...)``.
        count: of images.
        noise: of the translation.

    Returns:
        ``(count, ...)``.
    """
    noise = noise or Noise(torch.zeros(count, dtype=torch.long))
    share = torch.special.ndtr(send(noise.vector(_STREAM, 1)[:, 0], references.device))
    return references[(share * len(references)).long().clamp(max=len(references) - 1)]
