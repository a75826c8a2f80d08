"""Runs a network over whole images: resized to the training size, or in overlapping windows at their own size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from transeg.core.data.images import resize, resize_mask, unit_range
from transeg.core.data.stream import to_tensor
from transeg.core.forward import scaled

Forward = Callable[[Tensor], Tensor]
"""``(N, C, H, W)`` in [-1, 1] -> ``(N, K, H, W)``."""


@dataclass(frozen=True)
class Inference:
    """How images reach the network.

    Attributes:
        size: height and width that a whole image is resized to; its result is resized back. None for its own.
        window: height and width of the windows that slide over the image at its own size; 0 for whole images.
        overlap: share of a window that the next one covers again.
        flips: whether to average over the four mirrorings.
    """

    size: int | None
    window: int = 0
    overlap: float = 0.5
    flips: bool = False

    def prepare(self, image: np.ndarray) -> Tensor:
        """``(H, W, C)`` -> ``(C, h, w)`` as the network takes it, still on the CPU and not yet scaled."""
        pixels = unit_range(image)
        if self.size is None or self.window:
            return to_tensor(pixels)
        return to_tensor(resize(pixels, self.size, self.size))

    def prepare_mask(self, mask: np.ndarray) -> np.ndarray:
        """``(H, W)`` label map at the size at which images reach the network, by nearest neighbour."""
        return mask if self.size is None or self.window else resize_mask(mask, self.size, self.size)

    @torch.inference_mode()
    def run(self, forward: Forward, image: Tensor, device: torch.device) -> Tensor:
        """A prepared image -> ``(K, h, w)`` float32 on the CPU."""
        if self.flips:
            forward = _over_flips(forward)
        if self.window:
            return sliding_window(forward, image, self.window, self.overlap, device)
        return forward(scaled(image, device)[None])[0].float().cpu()


def at_size(result: Tensor, height: int, width: int) -> Tensor:
    """``(K, h, w)`` -> ``(K, height, width)``, bilinear."""
    if result.shape[1:] == (height, width):
        return result
    return F.interpolate(result[None], size=(height, width), mode="bilinear", align_corners=False)[0]


def sliding_window(forward: Forward, image: Tensor, window: int, overlap: float, device: torch.device) -> Tensor:
    """Windows blended by a Gaussian; the result does not depend on their order.

    Args:
        forward: the network.
        image: ``(C, H, W)`` on the CPU; a side shorter than the window is taken whole.
        window: height and width of a window.
        overlap: share of a window that the next one covers again.
        device: where the network is; one window at a time is there.

    Returns:
        ``(K, H, W)`` float32 on the CPU.
    """
    height, width = image.shape[1:]
    tall, wide = min(window, height), min(window, width)
    weight = _blend(tall)[:, None] * _blend(wide)[None, :]
    total: Tensor | None = None
    weights = torch.zeros(height, width)
    for top in window_starts(height, tall, overlap):
        for left in window_starts(width, wide, overlap):
            place = (slice(top, top + tall), slice(left, left + wide))
            result = forward(scaled(image[:, *place], device)[None])[0].float().cpu()
            if total is None:
                total = torch.zeros(len(result), height, width)
            total[:, *place] += result * weight
            weights[place] += weight
    assert total is not None
    return total.div_(weights)


def window_starts(length: int, window: int, overlap: float) -> list[int]:
    """Where windows begin along a side; the last ends with it, and the distances are even."""
    step = max(1, round(window * (1 - overlap)))
    count = -(-(length - window) // step) + 1
    return [round(i * (length - window) / max(1, count - 1)) for i in range(count)]


@lru_cache(maxsize=8)
def _blend(length: int) -> Tensor:
    """A Gaussian of an eighth of the window, as nnU-Net blends; nowhere zero."""
    return torch.signal.windows.gaussian(length, std=length / 8).clamp(min=1e-3)


def _over_flips(forward: Forward) -> Forward:
    def mean(x: Tensor) -> Tensor:
        results = [forward(x.flip(axes)).flip(axes) for axes in ((), (3,), (2,), (2, 3))]
        return torch.stack(results).mean(0)

    return mean
