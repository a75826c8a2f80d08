"""Runs a network on images of any size, in the statistics that it was made for."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from transeg.core.interfaces import Generator, Noise, Segmenter


def segment(segmenter: Segmenter, image: Tensor) -> list[Tensor]:
    """Logits of every head, the final one first.

    Args:
        segmenter: the network.
        image: ``(N, C, H, W)`` in [-1, 1], H and W of any size.

    Returns:
        ``(N, K, H, W)`` each; heads of a coarser resolution are resized.
    """
    height, width = image.shape[2:]
    shift, scale = shift_and_scale(segmenter.mean, segmenter.std, image.shape[1], image.device, image.dtype)
    padded = pad_to_multiple(torch.addcmul(shift, image, scale), segmenter.size_multiple)
    outputs = segmenter(padded)
    heads = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    return [_resized(logits, padded.shape[2:])[:, :, :height, :width] for logits in heads]


def translate(generator: Generator, image: Tensor, direction: str, noise: Noise | None = None) -> Tensor:
    """Translate images or label maps of any size; see :meth:`transeg.core.interfaces.Generator.translate`."""
    height, width = image.shape[2:]
    padded = pad_to_multiple(image, generator.size_multiple)
    return generator.translate(padded, direction, noise)[:, :, :height, :width]


def translate_during_training(generator: Generator, image: Tensor, places: Tensor | None) -> Tensor:
    """Source images as a validation sees them: translated with the same chance each time.

    Args:
        generator: the translator.
        image: what it is given, ``(N, C, H, W)``.
        places: of windows in their image; see :class:`transeg.core.interfaces.Noise`.
    """
    noise = Noise(torch.zeros(len(image), dtype=torch.long), places)
    return translate(generator, image, generator.directions[0], noise)


def to_classes(logits: Tensor) -> Tensor:
    """``(N, K, H, W)`` logits -> ``(N, H, W)`` int64 classes; one channel means a probability above one half."""
    # max finds the same places as argmax, the first of equal ones, on a CPU in a seventh of the time
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.max(1).indices


def to_probabilities(logits: Tensor) -> Tensor:
    """``(N, K, H, W)`` logits -> probabilities of the classes but background, ``(N, max(1, K - 1), H, W)``."""
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)[:, 1:]


def to_float32(logits: Tensor) -> Tensor:
    """In float32 where a network computed in 16 bits, which are too few for losses."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def to_signed_unit(image: Tensor, device: torch.device) -> Tensor:
    """Images on the device, 8-bit ones scaled to [-1, 1] there."""
    image = image.to(device, non_blocking=True)
    return image.float().div_(127.5).sub_(1) if image.dtype == torch.uint8 else image


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Extend the lower and right edges by their own values until height and width are multiples."""
    height, width = image.shape[2:]
    bottom, right = -height % multiple, -width % multiple
    return F.pad(image, (0, right, 0, bottom), mode="replicate") if bottom or right else image


def _resized(logits: Tensor, size: torch.Size) -> Tensor:
    if logits.shape[2:] == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


@lru_cache(maxsize=16)
def shift_and_scale(
    mean: tuple[float, ...], std: tuple[float, ...], channels: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """(shift, scale) with ``shift + scale * x`` = ``((x + 1) / 2 - mean) / std``; the average where channels differ."""

    def per_channel(values: tuple[float, ...]) -> Tensor:
        tensor = torch.tensor(values, device=device, dtype=dtype)
        return (tensor if len(values) == channels else tensor.mean().expand(channels)).view(1, -1, 1, 1)

    with torch.inference_mode(False):  # kept beyond an evaluation that may be the first to ask
        means, stds = per_channel(mean), per_channel(std)
        return (0.5 - means) / stds, 0.5 / stds
