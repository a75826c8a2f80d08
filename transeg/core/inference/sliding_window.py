"""Runs a network over whole images: resized to the training size, or in overlapping windows at their own size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from transeg.core.data.images import resize, resize_mask, unit_range
from transeg.core.data.stream import to_tensor
from transeg.core.errors import UsageError
from transeg.core.interfaces import Region
from transeg.core.models.forward import to_signed_unit

Forward = Callable[[Tensor, Tensor | None], Tensor]
"""``(N, C, H, W)`` in [-1, 1], and of windows where each begins in the image, ``(N, 2)`` -> ``(N, K, H, W)``."""
Read = Callable[[Region], Tensor]
"""A region of an image -> ``(C, h, w)`` as the network takes it, on the CPU and not yet scaled."""

CPU = torch.device("cpu")
OVERLAP = 0.5
"""Share of a window that the next one covers again."""
WEIGHTS = 256
"""Steps of a window's weights: whole numbers, so that their products with results are exact in float64."""
GRID = 2**20
"""Results are rounded to this part of one before they are added: up to 2,048 and more, their sums are exact, too."""
BATCH_PIXELS = 2**20
"""Of the windows that go through the network together on a GPU; a CPU takes one window at a time."""
GPU_NUMBERS = 2**28
"""That a result has at most on a GPU, 1 GB of them: the CPU has room for a large image, as it was decoded."""


@dataclass(frozen=True)
class Inference:
    """How images reach the network.

    Attributes:
        size: height and width that a whole image is resized to; its result is resized back. None for its own.
        window: height and width of the windows that slide over the image at its own size; 0 for whole images.
        flips: whether to average over the four mirrorings.
        multiple: what height and width are multiples of in the network.

    Raises:
        UsageError: no window has that size.
    """

    size: int | None
    window: int = 0
    flips: bool = False
    multiple: int = 1

    def __post_init__(self) -> None:
        if self.window < 0:
            raise UsageError(f"--window {self.window} must be a number of pixels, or 0 to take images whole.")

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
        """A prepared image -> ``(K, h, w)`` float32 where the network is; on the CPU where windows would fill a GPU."""
        if self.window:
            height, width = image.shape[1:]
            if image.numel() <= GPU_NUMBERS:
                image = image.to(device, non_blocking=True)  # once, in place of a copy for each row of windows
            bands = self.bands(forward, lambda region: _part(image, region), (height, width), device)
            return torch.cat([_unless_it_fills_a_gpu(band, len(band) * height * width) for band in bands], 1)
        return self._whole(forward)(to_signed_unit(image, device)[None], None)[0].float()

    def fits(self, image: Tensor, others: Sequence[Tensor], device: torch.device) -> bool:
        """Whether a prepared image may go through the network together with others.

        Whole images of one size do on a GPU. A CPU gains nothing by it, and windows have batches of their own.
        """
        return (
            device.type != "cpu"
            and not self.window
            and (image.shape, image.dtype) == (others[0].shape, others[0].dtype)
            and (len(others) + 1) * image[0].numel() <= BATCH_PIXELS
        )

    @torch.inference_mode()
    def run_together(self, forward: Forward, images: Sequence[Tensor], device: torch.device) -> list[Tensor]:
        """As :meth:`run`, for images of which each :meth:`fits` those before it."""
        if len(images) == 1:
            return [self.run(forward, images[0], device)]
        return list(self._whole(forward)(to_signed_unit(torch.stack(list(images)), device), None).float())

    @torch.inference_mode()
    def bands(self, forward: Forward, read: Read, size: tuple[int, int], device: torch.device) -> Iterator[Tensor]:
        """An image of any size, in windows; see :func:`blend_windows`."""
        yield from blend_windows(self._whole(forward), read, size, self.window, device, multiple=self.multiple)

    def _whole(self, forward: Forward) -> Forward:
        return _over_flips(forward) if self.flips else forward


def resize_result(result: Tensor, height: int, width: int) -> Tensor:
    """``(K, h, w)`` -> ``(K, height, width)``, bilinear; where it is, or on the CPU where that would fill a GPU."""
    if result.shape[1:] == (height, width):
        return result
    result = _unless_it_fills_a_gpu(result, len(result) * height * width)
    return F.interpolate(result[None], size=(height, width), mode="bilinear", align_corners=False)[0]


def blend_windows(
    forward: Forward,
    read: Read,
    size: tuple[int, int],
    window: int,
    device: torch.device,
    *,
    multiple: int = 1,
    overlap: float = OVERLAP,
) -> Iterator[Tensor]:
    """The result of windows blended by a Gaussian, from top to bottom, as soon as no further window reaches it.

    In memory are as many rows of the image and of the result as a window is tall. Windows begin at multiples of what
    the network's height and width are multiples of, and weigh nothing near borders that are not the image's: where the
    network sees no further than that (an eighth of the window), the result is that of the whole image. It does not
    depend on the order of the windows; see docs/decisions/tiles.md.

    Args:
        forward: the network.
        read: gives whole rows of the image, each once, from top to bottom; from the CPU, or where the network is.
        size: height and width of the image; a side shorter than the window is taken whole.
        window: height and width of a window.
        device: where the network is.
        multiple: what height and width must be multiples of; the image's last rows and columns are repeated for it.
        overlap: share of a window that the next one covers again.

    Yields:
        ``(K, rows, width)`` float32 where the network is, if that is a GPU that the sums do not fill, else on the CPU.
    """
    height, width = size
    rows, columns = (Axis.along(length, window, overlap, multiple) for length in size)
    batch = 1 if device.type == "cpu" else max(1, BATCH_PIXELS // (rows.window * columns.window))
    down_sums, across_sums = rows.sums(), columns.sums()[:width] * GRID
    image = read(Region(0, 0, min(rows.window, height), width))
    total: Tensor | None = None
    for number, top in enumerate(rows.starts):
        padded = _extended(image, rows.window, columns.length).to(device, non_blocking=True)
        for first in range(0, len(columns.starts), batch):
            lefts = columns.starts[first : first + batch]
            stack = torch.stack([padded[:, :, left : left + columns.window] for left in lefts])
            places = torch.tensor([(top, left) for left in lefts])
            results = forward(to_signed_unit(stack, device), places).float()
            if total is None:
                total = _empty_sums(results.shape[1], rows.window, columns.length, device)
                down_sums, across_sums = (sums.to(total.device, non_blocking=True) for sums in (down_sums, across_sums))
            results = results.to(total.device).double().mul_(GRID).round_()
            for column, (left, result) in enumerate(zip(lefts, results, strict=True), start=first):
                down, across = rows.weights(number, total.device), columns.weights(column, total.device)
                total[:, :, left : left + columns.window] += result.mul_(down[:, None] * across)
        assert total is not None
        last = number + 1 == len(rows.starts)
        done = height - top if last else rows.starts[number + 1] - top
        area = down_sums[top : top + done, None] * across_sums
        yield (total[:, :done, :width] / area).float()
        if not last:
            total[:, : rows.window - done] = total[:, done:].clone()
            total[:, rows.window - done :] = 0
            seen = top + image.shape[1]
            more = min(top + done + rows.window, height) - seen
            image = torch.cat([image[:, done:], read(Region(seen, 0, more, width))], 1)


@dataclass(frozen=True)
class Axis:
    """Windows along one side of an image.

    Attributes:
        starts: where they begin.
        window: how long they are.
        margin: how many pixels at the borders of a window weigh nothing, except at the image's own borders.
    """

    starts: tuple[int, ...]
    window: int
    margin: int

    @classmethod
    def along(cls, length: int, window: int, overlap: float, multiple: int) -> Self:
        """Windows on a side of an image, itself extended to a multiple."""
        window, whole = (-(-pixels // multiple) * multiple for pixels in (window, length))
        window = min(window, whole)
        step = max(1, int(window * (1 - overlap)) // multiple) * multiple
        return cls(tuple(window_starts(whole, window, step, multiple)), window, (window - step) // 4)

    @property
    def length(self) -> int:
        """Of the side, extended."""
        return self.starts[-1] + self.window

    def weights(self, number: int, device: torch.device = CPU) -> Tensor:
        """``(window,)`` float64 whole numbers."""
        return _blend(self.window, self.margin, number == 0, number + 1 == len(self.starts), device)

    def sums(self) -> Tensor:
        """``(length,)``: the weights of all windows, added up."""
        total = torch.zeros(self.length, dtype=torch.float64)
        for number, start in enumerate(self.starts):
            total[start : start + self.window] += self.weights(number)
        return total


def window_starts(length: int, window: int, step: int, multiple: int = 1) -> list[int]:
    """Where windows begin along a side: at multiples, no further apart than the step; the last ends with the side."""
    room = (length - window) // multiple
    count = -(-room * multiple // step) + 1
    return [i * room // max(1, count - 1) * multiple for i in range(count)]


@lru_cache(maxsize=32)
def _blend(length: int, margin: int, first: bool, last: bool, device: torch.device) -> Tensor:
    """A Gaussian of an eighth of the window, as nnU-Net blends, in whole numbers; zero in the margins."""
    weights = torch.signal.windows.gaussian(length, std=length / 8, dtype=torch.float64)
    weights = weights.mul(WEIGHTS).round().clamp(min=1)
    weights[: 0 if first else margin] = 0
    weights[length - (0 if last else margin) :] = 0
    return weights.to(device, non_blocking=True)


def _empty_sums(classes: int, height: int, width: int, device: torch.device) -> Tensor:
    """``(K, height, width)`` float64, which not every kind of GPU has, where the network is, or on the CPU."""
    home = device if device.type == "cuda" and classes * height * width <= GPU_NUMBERS // 2 else CPU
    return torch.zeros(classes, height, width, dtype=torch.float64, device=home)


def _unless_it_fills_a_gpu(result: Tensor, numbers: int) -> Tensor:
    """A result where it is, or on the CPU where all of it has too many numbers."""
    return result if numbers <= GPU_NUMBERS else result.cpu()


def _extended(image: Tensor, height: int, width: int) -> Tensor:
    """``(C, h, w)`` of any type with its last rows and columns repeated."""
    for axis, length in ((1, height), (2, width)):
        if image.shape[axis] < length:
            places = torch.arange(length, device=image.device).clamp(max=image.shape[axis] - 1)
            image = image.index_select(axis, places)
    return image


def _part(image: Tensor, region: Region) -> Tensor:
    return image[:, region.top : region.top + region.height, region.left : region.left + region.width]


def _over_flips(forward: Forward) -> Forward:
    def mean(x: Tensor, places: Tensor | None) -> Tensor:
        results = [forward(x.flip(axes), places).flip(axes) for axes in ((), (3,), (2,), (2, 3))]
        return torch.stack(results).mean(0)

    return mean
