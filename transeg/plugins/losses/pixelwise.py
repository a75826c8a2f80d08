"""Losses on single pixels: binary cross-entropy and focal loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from transeg.core.interfaces import Loss
from transeg.plugins.losses.binary import one_vs_rest


class BCELoss(Loss):
    """Binary cross-entropy; several classes are as many one-against-the-rest questions."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits.float(), one_vs_rest(logits, target).float())


class FocalLoss(Loss):
    """Cross-entropy with easy pixels played down (Lin, Goyal, Girshick, He and Dollar, arXiv:1708.02002).

    Args:
        gamma: how much; 0 is plain cross-entropy.
        alpha: weight of the foreground in [0, 1]; negative for equal weights.
    """

    def __init__(self, *, gamma: float = 2.0, alpha: float = -1.0) -> None:
        super().__init__()
        self._gamma = gamma
        self._alpha = alpha

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        truth = one_vs_rest(logits, target).float()
        loss: Tensor = sigmoid_focal_loss(logits.float(), truth, self._alpha, self._gamma, reduction="mean")
        return loss
