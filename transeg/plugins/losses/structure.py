"""The structure loss of PraNet, which HarDNet-MSEG trains with."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from transeg.core.interfaces import Loss
from transeg.plugins.losses.binary import one_vs_rest


class StructureLoss(Loss):
    """Weighted cross-entropy plus weighted IoU; pixels near a boundary count up to six times.

    F3Net (Wei, Wang and Huang, AAAI 2020, arXiv:1911.11445), PraNet (arXiv:2006.11392), HarDNet-MSEG.

    Args:
        as_executed: leave the cross-entropy unweighted, as the published code computes it through a deprecated
            argument, rather than as its papers define it.
    """

    def __init__(self, *, as_executed: bool = False) -> None:
        super().__init__()
        self._as_executed = as_executed

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits = logits.float()
        truth = one_vs_rest(logits, target)
        weight = 1 + 5 * (F.avg_pool2d(truth, 31, stride=1, padding=15) - truth).abs()
        axes = (2, 3)
        entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        weighted = (weight * entropy).sum(axes) / weight.sum(axes)
        entropy = entropy.mean() if self._as_executed else weighted
        predicted = logits.sigmoid()
        overlap = (weight * predicted * truth).sum(axes)
        total = (weight * (predicted + truth)).sum(axes)
        return (entropy + 1 - (overlap + 1) / (total - overlap + 1)).mean()
