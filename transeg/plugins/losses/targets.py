"""What the losses share: the classes as separate questions, and the pixels that count."""

from __future__ import annotations

import torch
from torch import Tensor

from transeg.core.interfaces import IGNORE

TINY = 1e-7
"""Keeps divisors, and bases of powers whose slope has no bound, away from zero."""


def valid_mask(target: Tensor) -> Tensor:
    """``(N, H, W)`` classes -> ``(N, 1, H, W)`` float32, 1 where the label is known and 0 where it is to be ignored."""
    return (target != IGNORE).unsqueeze(1).float()


def one_vs_rest(logits: Tensor, target: Tensor) -> Tensor:
    """``(N, H, W)`` classes -> ``(N, K, H, W)`` float32 of 0 and 1, one question for each channel of the logits.

    Ignored pixels are 0 in all channels.
    """
    if logits.shape[1] == 1:
        return (target == 1).unsqueeze(1).float()
    channels = torch.arange(logits.shape[1], device=target.device).view(-1, 1, 1)
    return (target.unsqueeze(1) == channels).float()


def as_softmax(logits: Tensor) -> Tensor:
    """Logits of a softmax in float32: ``(N, 2, H, W)`` for the ``(N, 1, H, W)`` of a sigmoid, others as they are."""
    logits = logits.float()
    return torch.cat((torch.zeros_like(logits), logits), 1) if logits.shape[1] == 1 else logits


def all_classes(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and truth of every class, background first, both ``(N, K', H, W)`` float32 with K' of at least 2.

    Ignored pixels are 0 in both.
    """
    logits = as_softmax(logits)
    return logits.softmax(1) * valid_mask(target), one_vs_rest(logits, target)


def foreground(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and truth of the classes but background, both ``(N, K', H, W)`` float32.

    Ignored pixels are 0 in both: what sums over the foreground does not meet them, and no gradient reaches them.
    """
    if logits.shape[1] == 1:
        return logits.float().sigmoid() * valid_mask(target), one_vs_rest(logits, target)
    return logits.float().softmax(1)[:, 1:] * valid_mask(target), one_vs_rest(logits, target)[:, 1:]


def masked_mean(values: Tensor, target: Tensor) -> Tensor:
    """The mean of ``(N, K, H, W)`` values over the pixels whose label is known; 0 where there is none."""
    mask = valid_mask(target)
    return (values * mask).sum() / (mask.sum() * values.shape[1]).clamp(min=1)
