"""Batch norm of images with their channels innermost in a CPU's memory, as exact as PyTorch's in the usual order.

PyTorch's own loses digits there, the more values a channel has: docs/decisions/memory-layout.md.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

EXACT = 1024
"""PyTorch's sums of so many values keep their digits; of more, groups are summed first, then their sums."""


class ChannelsLastBatchNorm(nn.BatchNorm2d):
    """Batch norm whose sums keep their digits where channels are innermost; else PyTorch's own."""

    def forward(self, x: Tensor) -> Tensor:
        if not self._sums_here(x):
            return super().forward(x)
        out, mean, variance = _Normalise.apply(x, self.weight, self.bias, self.eps)
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            assert self.momentum is not None
            count = x.numel() / x.shape[1]
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return out

    def _sums_here(self, x: Tensor) -> bool:
        innermost = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        usual = self.affine and self.momentum is not None and x.dtype == torch.float32 and x.device.type == "cpu"
        return self.training and innermost and usual and x.numel() // x.shape[1] > EXACT


def keep_batch_norms_exact(network: nn.Module) -> None:
    """Let the batch norms of a network compute so, in place; those of classes of their own stay as they are."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = ChannelsLastBatchNorm


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        groups = _groups(x)
        of_groups = torch.batch_norm_update_stats(_grouped(x, groups), None, None, 0.0)
        means, variances = (found.view(groups, -1) for found in of_groups)
        mean = means.mean(0)
        variance = variances.mean(0) + (means - mean).square_().mean(0)
        out = torch.native_batch_norm(x, scale, shift, mean, variance, False, 0.0, eps)[0]
        ctx.save_for_backward(x, scale, mean, (variance + eps).rsqrt())
        ctx.mark_non_differentiable(mean, variance)
        return out, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        x, scale, mean, inverse = ctx.saved_tensors
        count, channels, height, width = x.shape
        groups = _groups(x)
        values, given = _grouped(x, groups), _grouped(gradient, groups)
        _, *of_groups = torch.ops.aten.native_batch_norm_backward(
            given,
            values,
            None,
            None,
            None,
            _for_each(groups, mean),
            _for_each(groups, inverse),
            True,
            0.0,
            [False, True, True],
        )
        of_scale, of_shift = (found.view(groups, -1).sum(0) for found in of_groups)
        # (given - mean of given - normalised * mean of (given * normalised)) * scale / deviation, in two passes
        factor = scale * inverse
        slope = factor * inverse * of_scale / (count * height * width)
        start = slope * mean - factor * of_shift / (count * height * width)
        found = torch.addcmul(_for_each(groups, start), _for_each(groups, factor), given)
        found.addcmul_(_for_each(groups, slope), values, value=-1)
        return found.view(count, height, width, channels).permute(0, 3, 1, 2), of_scale, of_shift, None


def _groups(x: Tensor) -> int:
    """How many groups of at most ``EXACT`` values the values of each channel make, all of one size."""
    return _fewest_groups(x.numel() // x.shape[1])


@cache
def _fewest_groups(values: int) -> int:
    return next(groups for groups in range(-(-values // EXACT), values + 1) if values % groups == 0)


def _grouped(x: Tensor, groups: int) -> Tensor:
    """``(N, C, H, W)`` with its channels innermost as ``(N * H * W / groups, groups * C)``: columns are short."""
    return x.permute(0, 2, 3, 1).reshape(-1, groups * x.shape[1])


def _for_each(groups: int, of_channels: Tensor) -> Tensor:
    return of_channels.expand(groups, -1).reshape(-1)
