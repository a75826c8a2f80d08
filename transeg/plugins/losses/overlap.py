"""Losses on the overlap of prediction and truth: Dice, its logarithm, IoU, Tversky and focal Tversky."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from transeg.core.interfaces import Loss
from transeg.plugins.losses.targets import TINY, all_classes, foreground


class OverlapLoss(Loss):
    """What the overlap losses share: sums over pixels, pooled over the batch or for each image.

    A class that the truth of the batch (or, with `pool=image`, of an image) has no pixel of gives no loss: where
    nothing is to be found, overlap cannot be improved. Add `ce` or `bce` where false alarms on such images matter.

    Args:
        pool: `batch` counts the pixels of all images together, as CUT-seg and segmentation-models-pytorch do;
            `image` averages over the images.
        smooth: added to numerator and denominator; nnU-Net has 1e-5.
        include_background: average the background in, as segmentation-models-pytorch does for several classes and
            MONAI by default.
    """

    def __init__(
        self,
        *,
        pool: Literal["batch", "image"] = "batch",
        smooth: float = 0.0,
        include_background: bool = False,
    ) -> None:
        super().__init__()
        if smooth < 0:
            raise ValueError(f"smooth must not be negative, as {smooth} is")
        self._axes = (0, 2, 3) if pool == "batch" else (2, 3)
        self._smooth = smooth
        self._classes = all_classes if include_background else foreground

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        predicted, truth = self._classes(logits, target)
        overlap = (predicted * truth).sum(self._axes)
        true_size = truth.sum(self._axes)
        loss = self._loss(self._score(overlap, predicted.sum(self._axes), true_size))
        return torch.where(true_size > 0, loss, torch.zeros_like(loss)).mean()

    def _score(self, overlap: Tensor, predicted_size: Tensor, true_size: Tensor) -> Tensor:
        """Dice, from the pixels that both have and those that each has."""
        return (2 * overlap + self._smooth) / (predicted_size + true_size + self._smooth).clamp(min=TINY)

    def _loss(self, score: Tensor) -> Tensor:
        return 1 - score


class DiceLoss(OverlapLoss):
    """One minus the soft Dice coefficient (V-Net, arXiv:1606.04797).

    The usual first choice where the foreground is a small part of the image: it does not care how much background
    there is. Its gradients are noisy for tiny objects and it says nothing of images without foreground, so
    `ce+dice` is the common partnership.
    """


class LogDiceLoss(OverlapLoss):
    """Minus the logarithm of the soft Dice coefficient: the loss of CUT-seg (doi:10.1111/exsy.13137).

    Like `dice`, but a prediction that misses almost everything gives large gradients rather than small ones. Choose it
    for joint training, and where training with `dice` does not get off the ground.
    """

    def _loss(self, score: Tensor) -> Tensor:
        return -score.clamp(min=TINY).log()


class IoULoss(OverlapLoss):
    """One minus the soft intersection over union (Rahman and Wang, ISVC 2016, doi:10.1007/978-3-319-50835-1_22).

    Stricter than `dice` with half-right predictions. Choose it where IoU is what will be reported; `lovasz` follows
    the IoU of the thresholded mask more closely.
    """

    def _score(self, overlap: Tensor, predicted_size: Tensor, true_size: Tensor) -> Tensor:
        return (overlap + self._smooth) / (predicted_size + true_size - overlap + self._smooth).clamp(min=TINY)


class TverskyLoss(OverlapLoss):
    """One minus the Tversky index: Dice with prices of its own for false alarms and for misses (arXiv:1706.05721).

    Choose it where the network misses lesions that it should find: `beta` above `alpha` buys recall with precision.
    With 0.5 and 0.5 it is `dice`, with 1 and 1 it is `iou`.

    Args:
        alpha: price of false positives.
        beta: price of false negatives.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.3,
        beta: float = 0.7,
        pool: Literal["batch", "image"] = "batch",
        smooth: float = 0.0,
        include_background: bool = False,
    ) -> None:
        super().__init__(pool=pool, smooth=smooth, include_background=include_background)
        if min(alpha, beta) < 0 or alpha + beta == 0:
            raise ValueError(f"alpha and beta must not be negative nor both zero, as {alpha} and {beta} are")
        self._alpha = alpha
        self._beta = beta

    def _score(self, overlap: Tensor, predicted_size: Tensor, true_size: Tensor) -> Tensor:
        wrong = self._alpha * (predicted_size - overlap) + self._beta * (true_size - overlap)
        return (overlap + self._smooth) / (overlap + wrong + self._smooth).clamp(min=TINY)


class FocalTverskyLoss(TverskyLoss):
    """The Tversky loss to the power of 1 / gamma (arXiv:1810.07842).

    With gamma above 1, objects that are almost right keep a gradient for longer: made for small lesions, whose last
    pixels decide. Elsewhere `tversky` is easier to train.

    Args:
        gamma: the paper's is 4/3; 1 is `tversky`.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 4 / 3,
        pool: Literal["batch", "image"] = "batch",
        smooth: float = 0.0,
        include_background: bool = False,
    ) -> None:
        super().__init__(alpha=alpha, beta=beta, pool=pool, smooth=smooth, include_background=include_background)
        if gamma <= 0:
            raise ValueError(f"gamma must be positive, not {gamma}")
        self._power = 1 / gamma

    def _loss(self, score: Tensor) -> Tensor:
        return (1 - score).clamp(min=TINY) ** self._power
