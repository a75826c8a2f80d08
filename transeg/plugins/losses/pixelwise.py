"""Losses that ask each pixel, for each class, yes or no: binary cross-entropy and focal loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from transeg.core.interfaces import Loss
from transeg.plugins.losses.targets import masked_mean, one_vs_rest


class BCELoss(Loss):
    """Binary cross-entropy; several classes are as many one-against-the-rest questions.

    The plain choice for one class: smooth, well calibrated, and it knows what to do with empty masks. Where the
    foreground is a small part of the image, add an overlap loss (`bce+dice`). For several classes prefer `ce`, which
    compares them with each other.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        truth = one_vs_rest(logits, target)
        return masked_mean(F.binary_cross_entropy_with_logits(logits.float(), truth, reduction="none"), target)


class FocalLoss(Loss):
    """Cross-entropy with easy pixels played down (Lin, Goyal, Girshick, He and Dollar, arXiv:1708.02002).

    Choose it where most of the image is easy background and drowns the rest, mostly together with an overlap loss
    (`focal+dice`). Several classes are as many one-against-the-rest questions. Empty masks count like any other.

    Args:
        gamma: how much; 0 is plain cross-entropy.
        alpha: weight of the foreground in [0, 1]; negative for equal weights.
    """

    def __init__(self, *, gamma: float = 2.0, alpha: float = -1.0) -> None:
        super().__init__()
        if not (gamma == 0 or gamma >= 1):
            raise ValueError(f"gamma must be 0 or at least 1, not {gamma}: in between, its slope has no bound")
        if alpha > 1:
            raise ValueError(f"alpha must be in [0, 1], or negative for equal weights, not {alpha}")
        self._gamma = gamma
        self._alpha = alpha

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        from torchvision.ops import sigmoid_focal_loss

        truth = one_vs_rest(logits, target)
        loss = sigmoid_focal_loss(logits.float(), truth, self._alpha, self._gamma, reduction="none")
        return masked_mean(loss, target)
