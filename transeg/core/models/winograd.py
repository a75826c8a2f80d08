"""3x3 convolutions on a CPU with a quarter of the multiplications.

Winograd's minimal filtering F(4x4, 3x3), of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks"
(arXiv:1509.09308). What it gains, and where: docs/decisions/winograd.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit._trace import is_tracing
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

CHANNELS = 128
"""Fewer, in or out, and transforming images takes more time than multiplying less saves."""
TILES = 128
"""Fewer in a batch, and transforming weights does."""
AT_ONCE = 512
"""Tiles that are computed together: enough for matrix products, few enough for a cache."""

_IMAGE = torch.tensor(
    [
        [4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
        [0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
        [0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
        [0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
        [0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
        [0.0, 4.0, 0.0, -5.0, 0.0, 1.0],
    ]
)
_WEIGHT = (
    torch.tensor(
        [[6.0, 0.0, 0.0], [-4.0, -4.0, -4.0], [-4.0, 4.0, -4.0], [1.0, 2.0, 4.0], [1.0, -2.0, 4.0], [0.0, 0.0, 24.0]]
    )
    / 24
)
_RESULT = torch.tensor(
    [
        [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        [0.0, 1.0, -1.0, 2.0, -2.0, 0.0],
        [0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
        [0.0, 1.0, -1.0, 8.0, -8.0, 1.0],
    ]
)
OF_IMAGE, OF_WEIGHT, OF_RESULT = (torch.kron(each, each) for each in (_IMAGE, _WEIGHT, _RESULT))
"""On flattened 6x6 windows, 3x3 weights and 6x6 products: ``(36, 36)``, ``(36, 9)``, ``(16, 36)``."""


class WinogradConv2d(nn.Conv2d):
    """A 3x3 convolution, up to rounding: in float32 on a CPU with fewer multiplications, else PyTorch's own."""

    def forward(self, x: Tensor) -> Tensor:
        if not self._gains(x):
            return super().forward(x)
        out: Tensor = _Convolution.apply(x, self.weight, self.bias, self.padding)
        return out

    def _gains(self, x: Tensor) -> bool:
        if _is_watched() or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return False
        assert not isinstance(self.padding, str)
        height, width = (side + 2 * pad - 2 for side, pad in zip(x.shape[2:], self.padding, strict=True))
        tiles = len(x) * -(-height // 4) * -(-width // 4)
        return tiles >= TILES and x.dtype == self.weight.dtype == torch.float32


def use_winograd(network: nn.Module) -> None:
    """Let the convolutions of a network that gain by it compute so, in place; names and weights stay."""
    if not torch.backends.mkl.is_available():
        return  # where nothing was measured
    for module in network.modules():
        if type(module) is nn.Conv2d and _is_suited(module):
            module.__class__ = WinogradConv2d


def _is_suited(conv: nn.Conv2d) -> bool:
    plain = conv.kernel_size == (3, 3) and conv.stride == conv.dilation == (1, 1) and conv.groups == 1
    padded = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return plain and padded and min(conv.in_channels, conv.out_channels) >= CHANNELS


def _is_watched() -> bool:
    """Whether somebody counts, exports or compiles PyTorch's operations, who must see a convolution."""
    return torch.compiler.is_compiling() or is_tracing() or is_in_torch_dispatch_mode()


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        padded = _in_whole_tiles(x, padding)
        count, height, width, _ = padded.shape
        weights = _of_weights(weight).transpose(1, 2)
        out = x.new_empty(count, height - 2, width - 2, len(weight))
        for images, rows in _blocks(out):
            products = torch.bmm(_of_windows(padded[images], rows), weights)
            target = _as_tiles(out[images, rows])
            target.copy_((OF_RESULT @ products.view(36, -1)).view(target.shape))
        if bias is not None:
            out += bias
        height, width = (side + 2 * pad - 2 for side, pad in zip(x.shape[2:], padding, strict=True))
        return _in_order_of(x, out[:, :height, :width])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needed = list(ctx.needs_input_grad[:3])
        if torch.is_grad_enabled():  # for a second derivative
            return *_plain_gradients(gradient, x, weight, ctx.padding, needed), None
        padded = _in_whole_tiles(x, ctx.padding)
        given = _in_whole_tiles(gradient, (0, 0), around=0)
        weights = _of_weights(weight)
        of_x = torch.zeros_like(padded) if needed[0] else None
        of_weights = torch.zeros_like(weights) if needed[1] else None
        for images, rows in _blocks(given):
            products = (OF_RESULT.T @ _as_tiles(given[images, rows]).reshape(16, -1)).view(36, -1, len(weight))
            if of_weights is not None:
                of_weights.baddbmm_(products.transpose(1, 2), _of_windows(padded[images], rows))
            if of_x is not None:
                _add_windows(of_x[images], rows, torch.bmm(products, weights))
        if of_x is not None:
            (top, left), (height, width) = ctx.padding, x.shape[2:]
            of_x = _in_order_of(x, of_x[:, top : top + height, left : left + width])
        if of_weights is not None:
            of_weights = (of_weights.view(36, -1).T @ OF_WEIGHT).view(weight.shape)
        return of_x, of_weights, gradient.sum((0, 2, 3)) if needed[2] else None, None


def _plain_gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, int], needed: list[bool]
) -> tuple[Tensor | None, ...]:
    """PyTorch's own, which can be differentiated again."""
    found: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
        gradient, x, weight, [len(weight)], [1, 1], padding, [1, 1], False, [0, 0], 1, needed
    )
    return found


def _in_whole_tiles(x: Tensor, padding: tuple[int, int], around: int = 2) -> Tensor:
    """``(N, C, H, W) -> (N, H', W', C)``, so in memory: zeros around, H' and W' multiples of 4 plus ``around``."""
    (top, left), (height, width) = padding, x.shape[2:]
    lower, right = (-(side + 2 * pad - around) % 4 + pad for side, pad in zip((height, width), padding, strict=True))
    if not (top or left or lower or right):
        return x.permute(0, 2, 3, 1).contiguous()
    padded = x.new_zeros(len(x), top + height + lower, left + width + right, x.shape[1])
    padded[:, top : top + height, left : left + width] = x.permute(0, 2, 3, 1)
    return padded


def _in_order_of(x: Tensor, out: Tensor) -> Tensor:
    """``(N, H, W, C) -> (N, C, H, W)``, with its channels innermost in memory where those of ``x`` are."""
    innermost = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return out.permute(0, 3, 1, 2).contiguous(
        memory_format=torch.channels_last if innermost else torch.contiguous_format
    )


def _blocks(out: Tensor) -> Iterator[tuple[slice, slice]]:
    """Images and rows of ``(N, H, W, C)`` that are computed together."""
    rows, columns = out.shape[1] // 4, out.shape[2] // 4
    images, bands = max(1, AT_ONCE // (rows * columns)), 4 * max(1, AT_ONCE // columns)
    for first in range(0, len(out), images):
        for top in range(0, 4 * rows, bands):
            yield slice(first, first + images), slice(top, min(top + bands, 4 * rows))


def _as_tiles(out: Tensor) -> Tensor:
    """A view of ``(N, H, W, C)`` as tiles, ``(4, 4, N, H / 4, W / 4, C)``."""
    count, height, width, channels = out.shape
    return out.view(count, height // 4, 4, width // 4, 4, channels).permute(2, 4, 0, 1, 3, 5)


def _windows(padded: Tensor, rows: slice) -> Tensor:
    """A view of the 6x6 windows that the tiles of some rows are computed from, ``(6, 6, N, H / 4, W / 4, C)``."""
    band = padded[:, rows.start : rows.stop + 2]
    return band.unfold(1, 6, 4).unfold(2, 6, 4).permute(4, 5, 0, 1, 2, 3)


def _of_windows(padded: Tensor, rows: slice) -> Tensor:
    """Windows transformed, ``(36, tiles, C)``."""
    channels = padded.shape[3]
    return (OF_IMAGE @ _windows(padded, rows).reshape(36, -1)).view(36, -1, channels)


def _add_windows(padded: Tensor, rows: slice, products: Tensor) -> None:
    """Add what a transform's transpose makes of ``(36, tiles, C)`` to the windows, which overlap."""
    windows = _windows(padded, rows)
    found = (OF_IMAGE.T @ products.view(36, -1)).view(windows.shape)
    for row in range(6):
        for column in range(6):
            windows[row, column] += found[row, column]


def _of_weights(weight: Tensor) -> Tensor:
    """``(K, C, 3, 3) -> (36, K, C)``."""
    return (OF_WEIGHT @ weight.reshape(-1, 9).T).view(36, *weight.shape[:2])
