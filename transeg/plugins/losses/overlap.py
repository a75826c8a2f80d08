"""Losses on the overlap of prediction and truth: Dice, its logarithm, IoU."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from transeg.core.interfaces import Loss
from transeg.plugins.losses.binary import foreground

TINY = 1e-7


class OverlapLoss(Loss):
    """What the overlap losses share: sums over pixels, pooled over the batch or for each image.

    A class that neither an image nor its prediction's pool has anything of in the truth gives no loss: where nothing
    is to be found, overlap cannot be improved.

    Args:
        pool: `batch` counts the pixels of all images together, as CUT-seg and segmentation-models-pytorch do;
            `image` averages over the images.
        smooth: added to numerator and denominator.
    """

    def __init__(self, *, pool: Literal["batch", "image"] = "batch", smooth: float = 0.0) -> None:
        super().__init__()
        self._axes = (0, 2, 3) if pool == "batch" else (2, 3)
        self._smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        predicted, truth = foreground(logits.float(), target)
        overlap = (predicted * truth).sum(self._axes)
        predicted_size, true_size = predicted.sum(self._axes), truth.sum(self._axes)
        loss = self._loss(self._score(overlap, predicted_size + true_size))
        return torch.where(true_size > 0, loss, torch.zeros_like(loss)).mean()

    def _score(self, overlap: Tensor, total: Tensor) -> Tensor:
        """Dice, from the overlap and the sum of both sizes."""
        return (2 * overlap + self._smooth) / (total + self._smooth).clamp(min=TINY)

    def _loss(self, score: Tensor) -> Tensor:
        return 1 - score


class DiceLoss(OverlapLoss):
    """One minus the soft Dice coefficient (V-Net, arXiv:1606.04797)."""


class LogDiceLoss(OverlapLoss):
    """Minus the logarithm of the soft Dice coefficient: the loss of CUT-seg (doi:10.1111/exsy.13137)."""

    def _loss(self, score: Tensor) -> Tensor:
        return -score.clamp(min=TINY).log()


class IoULoss(OverlapLoss):
    """One minus the soft intersection over union (Rahman and Wang, ISVC 2016)."""

    def _score(self, overlap: Tensor, total: Tensor) -> Tensor:
        return (overlap + self._smooth) / (total - overlap + self._smooth).clamp(min=TINY)
