"""Convolutions of 3x3 and 4x4 kernels on a CPU with a quarter of the multiplications.

Winograd's minimal filtering, F(4x4, 3x3) and F(3x3, 4x4), of Lavin and Gray, "Fast Algorithms for Convolutional Neural
Networks" (arXiv:1509.09308): windows of 6x6 pixels and kernels are transformed, multiplied place by place, and the
products transformed to tiles of 4x4 or 3x3 pixels. What it gains, and where: docs/decisions/winograd.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit._trace import is_tracing
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

CHANNELS = 128
"""With fewer, in or out, transforming images takes more time than multiplying less saves."""
TILES = 96
"""With fewer in a batch, transforming kernels does."""
AT_ONCE = 128
"""Tiles that are computed together by each thread: enough for matrix products, few enough for a cache."""

WINDOW = 6
"""Height and width of what a tile is computed from, by polynomials at these points and at infinity."""
POINTS, SCALES = (0, 1, -1, 2, -2), (1 / 4, -1 / 6, -1 / 6, 1 / 24, 1 / 24)
_OF_WINDOW = torch.tensor(
    [
        [4.0, 0.0, -5.0, 0.0, 1.0, 0.0],
        [0.0, -4.0, -4.0, 1.0, 1.0, 0.0],
        [0.0, 4.0, -4.0, -1.0, 1.0, 0.0],
        [0.0, -2.0, -1.0, 2.0, 1.0, 0.0],
        [0.0, 2.0, -1.0, -2.0, 1.0, 0.0],
        [0.0, 4.0, 0.0, -5.0, 0.0, 1.0],
    ]
)
OF_WINDOW = torch.kron(_OF_WINDOW, _OF_WINDOW)
"""Of flattened windows, ``(36, 36)``."""


def _tile(side: int) -> int:
    """Height and width of what is computed from a window, for kernels of this side."""
    return WINDOW + 1 - side


def _of_kernel(side: int) -> Tensor:
    """Of flattened kernels, ``(36, side * side)``."""
    rows = [[scale * point**power for power in range(side)] for point, scale in zip(POINTS, SCALES, strict=True)]
    matrix = torch.tensor([*rows, [0.0] * (side - 1) + [1.0]])
    return torch.kron(matrix, matrix)


def _of_products(side: int) -> Tensor:
    """Of flattened products, ``(tile * tile, 36)``, for kernels of this side."""
    tile = _tile(side)
    matrix = torch.tensor([[*(float(point**row) for point in POINTS), float(row == tile - 1)] for row in range(tile)])
    return torch.kron(matrix, matrix)


OF_KERNEL, OF_PRODUCTS = {side: _of_kernel(side) for side in (3, 4)}, {side: _of_products(side) for side in (3, 4)}


class WinogradConv2d(nn.Conv2d):
    """A convolution up to rounding: in float32 on a CPU with fewer multiplications, else PyTorch's own."""

    def forward(self, x: Tensor) -> Tensor:
        if not self._gains(x):
            return super().forward(x)
        out: Tensor = _Convolution.apply(x, self.weight, self.bias, self.padding)
        return out

    def _gains(self, x: Tensor) -> bool:
        if _is_watched() or x.device.type != "cpu" or x.dim() != 4 or torch.is_autocast_enabled("cpu"):
            return False
        side, padding = self.kernel_size[0], self.padding
        assert not isinstance(padding, str)
        height, width = _size(x, (padding[0], padding[1]), side)
        enough = len(x) * -(-height // _tile(side)) * -(-width // _tile(side)) >= TILES
        return enough and x.dtype == self.weight.dtype == torch.float32


def use_winograd(network: nn.Module) -> None:
    """Let the convolutions of a network that gain by it compute so, in place; names and weights stay."""
    if not torch.backends.mkl.is_available():
        return  # where nothing was measured
    for module in network.modules():
        if type(module) is nn.Conv2d and _is_suited(module):
            module.__class__ = WinogradConv2d


def _is_suited(conv: nn.Conv2d) -> bool:
    known = conv.kernel_size[0] == conv.kernel_size[1] and conv.kernel_size[0] in OF_KERNEL
    plain = conv.stride == conv.dilation == (1, 1) and conv.groups == 1
    padded = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return known and plain and padded and min(conv.in_channels, conv.out_channels) >= CHANNELS


def _is_watched() -> bool:
    """Whether somebody counts, exports or compiles PyTorch's operations, who must see a convolution."""
    return torch.compiler.is_compiling() or is_tracing() or is_in_torch_dispatch_mode()


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        side = weight.shape[2]
        height, width = _size(x, padding, side)
        result = _empty_in_order_of(x, len(weight), height, width)
        kernels = _transformed_kernels(weight).transpose(1, 2)
        for images in _images(result, side):
            padded = _in_whole_tiles(x[images], padding, _tile(side), side - 1)
            count, rows, columns, _ = padded.shape
            out = x.new_empty(count, rows - side + 1, columns - side + 1, len(weight))
            for band in _bands(out, side):
                products = torch.bmm(_transformed_windows(padded, band, side), kernels)
                tiles = _tiles(out[:, band], side)
                tiles.copy_((OF_PRODUCTS[side] @ products.view(WINDOW**2, -1)).view(tiles.shape))
            if bias is not None:
                out += bias
            result[images] = out[:, :height, :width].permute(0, 3, 1, 2)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needed = list(ctx.needs_input_grad[:3])
        if torch.is_grad_enabled():  # for a second derivative
            return *_plain_gradients(gradient, x, weight, ctx.padding, needed), None
        side = weight.shape[2]
        (top, left), (height, width) = ctx.padding, x.shape[2:]
        kernels = _transformed_kernels(weight)
        of_x = torch.empty_like(x) if needed[0] else None
        of_kernels = torch.zeros_like(kernels) if needed[1] else None
        for images in _images(gradient, side):
            padded = _in_whole_tiles(x[images], ctx.padding, _tile(side), side - 1)
            given = _in_whole_tiles(gradient[images], (0, 0), _tile(side), 0)
            of_padded = torch.zeros_like(padded) if needed[0] else None
            for band in _bands(given, side):
                tiles = _tiles(given[:, band], side).reshape(OF_PRODUCTS[side].shape[0], -1)
                products = (OF_PRODUCTS[side].T @ tiles).view(WINDOW**2, -1, len(weight))
                if of_kernels is not None:
                    of_kernels.baddbmm_(products.transpose(1, 2), _transformed_windows(padded, band, side))
                if of_padded is not None:
                    _add_windows(of_padded, band, side, torch.bmm(products, kernels))
            if of_x is not None and of_padded is not None:
                of_x[images] = of_padded[:, top : top + height, left : left + width].permute(0, 3, 1, 2)
        of_weight = None
        if of_kernels is not None:
            of_weight = (of_kernels.view(WINDOW**2, -1).T @ OF_KERNEL[side]).view(weight.shape)
        return of_x, of_weight, gradient.sum((0, 2, 3)) if needed[2] else None, None


def _plain_gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, int], needed: list[bool]
) -> tuple[Tensor | None, ...]:
    """PyTorch's own, which can be differentiated again."""
    found: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
        gradient, x, weight, [len(weight)], [1, 1], padding, [1, 1], False, [0, 0], 1, needed
    )
    return found


def _size(x: Tensor, padding: tuple[int, int], side: int) -> tuple[int, int]:
    """Height and width of what a convolution makes of ``(N, C, H, W)``."""
    height, width = x.shape[2:]
    return height + 2 * padding[0] - side + 1, width + 2 * padding[1] - side + 1


def _in_whole_tiles(x: Tensor, padding: tuple[int, int], tile: int, around: int) -> Tensor:
    """``(N, C, H, W) -> (N, H', W', C)``, so in memory: zeros around, H' and W' multiples of a tile, and ``around``."""
    (top, left), (height, width) = padding, x.shape[2:]
    lower, right = top + -(height + 2 * top - around) % tile, left + -(width + 2 * left - around) % tile
    if not (top or left or lower or right):
        return x.permute(0, 2, 3, 1).contiguous()
    padded = x.new_zeros(len(x), top + height + lower, left + width + right, x.shape[1])
    padded[:, top : top + height, left : left + width] = x.permute(0, 2, 3, 1)
    return padded


def _empty_in_order_of(x: Tensor, channels: int, height: int, width: int) -> Tensor:
    """Memory for ``(N, C, H, W)``, with its channels innermost where those of ``x`` are."""
    innermost = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    order = torch.channels_last if innermost else torch.contiguous_format
    return torch.empty((len(x), channels, height, width), dtype=x.dtype, memory_format=order)


def _images(out: Tensor, side: int) -> Iterator[slice]:
    """Images of ``(N, C, H, W)`` that are computed together."""
    tile = _tile(side)
    tiles = -(-out.shape[2] // tile) * -(-out.shape[3] // tile)
    together = max(1, AT_ONCE * torch.get_num_threads() // tiles)
    return (slice(first, first + together) for first in range(0, len(out), together))


def _bands(out: Tensor, side: int) -> Iterator[slice]:
    """Rows of ``(N, H, W, C)`` that are computed together."""
    tile = _tile(side)
    height, together = out.shape[1], tile * max(1, AT_ONCE * torch.get_num_threads() // (out.shape[2] // tile))
    return (slice(top, min(top + together, height)) for top in range(0, height, together))


def _tiles(out: Tensor, side: int) -> Tensor:
    """A view of ``(N, H, W, C)`` as tiles, ``(tile, tile, N, H / tile, W / tile, C)``."""
    tile = _tile(side)
    return out.unfold(1, tile, tile).unfold(2, tile, tile).permute(4, 5, 0, 1, 2, 3)


def _windows(padded: Tensor, rows: slice, side: int) -> Tensor:
    """A view of what the tiles of some rows are computed from, ``(6, 6, N, rows / tile, W / tile, C)``."""
    band, tile = padded[:, rows.start : rows.stop + side - 1], _tile(side)
    return band.unfold(1, WINDOW, tile).unfold(2, WINDOW, tile).permute(4, 5, 0, 1, 2, 3)


def _transformed_windows(padded: Tensor, rows: slice, side: int) -> Tensor:
    """``(36, tiles, C)``."""
    windows = _windows(padded, rows, side).reshape(WINDOW**2, -1)
    return (OF_WINDOW @ windows).view(WINDOW**2, -1, padded.shape[3])


def _add_windows(padded: Tensor, rows: slice, side: int, products: Tensor) -> None:
    """Add what the transposed transform makes of ``(36, tiles, C)`` to the windows, which overlap."""
    windows = _windows(padded, rows, side)
    found = (OF_WINDOW.T @ products.view(WINDOW**2, -1)).view(windows.shape)
    for row in range(WINDOW):
        for column in range(WINDOW):
            windows[row, column] += found[row, column]


def _transformed_kernels(weight: Tensor) -> Tensor:
    """``(K, C, side, side) -> (36, K, C)``."""
    outputs, inputs, side, _ = weight.shape
    return (OF_KERNEL[side] @ weight.reshape(outputs * inputs, -1).T).view(WINDOW**2, outputs, inputs)
