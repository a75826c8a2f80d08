"""What the losses share: logits and targets of any number of classes as separate yes-or-no questions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def one_vs_rest(logits: Tensor, target: Tensor) -> Tensor:
    """``(N, H, W)`` classes -> ``(N, K, H, W)`` of 0 and 1 in the logits' type, one question for each channel."""
    if logits.shape[1] == 1:
        return target.unsqueeze(1).to(logits.dtype)
    return F.one_hot(target, logits.shape[1]).movedim(-1, 1).to(logits.dtype)


def foreground(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and truth of the classes but background, both ``(N, K', H, W)``; a sigmoid for one channel."""
    truth = one_vs_rest(logits, target)
    if logits.shape[1] == 1:
        return logits.sigmoid(), truth
    return logits.softmax(1)[:, 1:], truth[:, 1:]
