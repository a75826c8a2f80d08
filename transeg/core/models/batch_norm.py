"""Batch norm of images with their channels innermost in a CPU's memory, as exact as PyTorch's in the usual order.

PyTorch's own loses digits there, the more values a channel has: docs/decisions/memory-layout.md.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


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
        return self.training and innermost and usual


def keep_batch_norms_exact(network: nn.Module) -> None:
    """Let the batch norms of a network compute so, in place; those of classes of their own stay as they are."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = ChannelsLastBatchNorm


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        values = _by_channel(x)
        mean = values.mean(0)
        centred = values - mean
        variance = centred.square_().mean(0)
        out = torch.native_batch_norm(x, scale, shift, mean, variance, False, 0.0, eps)[0]
        ctx.save_for_backward(x, scale, mean, (variance + eps).rsqrt())
        ctx.mark_non_differentiable(mean, variance)
        return out, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        x, scale, mean, inverse = ctx.saved_tensors
        centred, given = _by_channel(x) - mean, _by_channel(gradient)
        of_shift = given.sum(0)
        of_scale = (given * centred).sum(0) * inverse
        # (given - mean of given - normalised * mean of (given * normalised)) * scale / deviation, in two passes
        factor = scale * inverse
        found = torch.addcmul(-factor * of_shift / len(centred), factor, given)
        found.addcmul_(factor * inverse * of_scale / len(centred), centred, value=-1)
        count, _, height, width = x.shape
        return found.view(count, height, width, -1).permute(0, 3, 1, 2), of_scale, of_shift, None


def _by_channel(x: Tensor) -> Tensor:
    """``(N, C, H, W)`` with its channels innermost as ``(N * H * W, C)``."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
