"""Which pixels of a labelled image are pasted onto an image without labels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from transeg.core.interfaces import IGNORE, Noise, send

Mix = Callable[[Tensor, int, Noise], Tensor]
"""From label maps ``(N, H, W)`` int64, the number of classes and the chance in it to the pixels that are pasted,
``(N, H, W)`` bool."""
_ORDER, _SHAPE, _TOP, _LEFT = 50, 51, 52, 53
_STEPS = 2**16


def classmix(mask: Tensor, classes: int, noise: Noise) -> Tensor:
    """All pixels of half of the classes that an image shows, rounded up; not of its only one, nor ignored ones.

    Olsson, Tranheden, Pinto and Svensson, "ClassMix: Segmentation-based data augmentation for semi-supervised
    learning", WACV 2021, arXiv:2007.07936; from source to target as in DACS (arXiv:2007.08702).
    """
    shown = torch.stack([(mask == number).flatten(1).any(1) for number in range(classes)], 1)
    count = shown.sum(1, keepdim=True)
    wanted = torch.minimum((count + 1) // 2, count - 1)
    draws = send(noise.vector(_ORDER, classes), mask.device).masked_fill(~shown, -torch.inf)
    chosen = draws.argsort(1, descending=True).argsort(1) < wanted
    pasted = chosen.gather(1, mask.clamp(max=classes - 1).flatten(1)).view_as(mask)
    return pasted & (mask != IGNORE)


def cutmix(mask: Tensor, _classes: int, noise: Noise) -> Tensor:
    """A box of half of the image, of any shape and anywhere.

    French, Laine, Aila, Mackiewicz and Finlayson, "Semi-supervised semantic segmentation needs strong, varied
    perturbations", BMVC 2020, arXiv:1906.01916.
    """
    height, width = mask.shape[1:]
    shape, top, left = (send(noise.integers(stream, _STEPS), mask.device) / _STEPS for stream in (_SHAPE, _TOP, _LEFT))
    sides = (height * 0.5**shape).round(), (width * 0.5 ** (1 - shape)).round()
    rows, columns = (
        _between((length - side) * begin, side, length)
        for length, side, begin in zip((height, width), sides, (top, left), strict=True)
    )
    return rows[:, :, None] & columns[:, None, :]


def _between(begin: Tensor, side: Tensor, length: int) -> Tensor:
    """``(N, length)`` bool, true for so many places from each beginning on."""
    places = torch.arange(length, device=begin.device)
    first = begin.round()[:, None]
    return (places >= first) & (places < first + side[:, None])
