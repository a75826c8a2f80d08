"""Unified focal loss: one loss out of focal and focal Tversky, with one set of parameters."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from transeg.core.interfaces import Loss
from transeg.plugins.losses.targets import TINY, as_softmax, masked_mean, one_vs_rest, valid_mask


class UnifiedFocalLoss(Loss):
    """A weighted sum of a focal and a focal Tversky loss (Yeung et al. 2022, arXiv:2102.04525).

    Choose it where the classes are very unequal and `ce+dice` finds too little: the asymmetric variant plays down easy
    background but never the foreground. Every class but the background counts as rare. An image without a class gives
    no Tversky loss for it; the focal part counts its pixels like any others.

    The focal part is a sum over the classes, the Tversky part their mean for each image, and the exponents are `gamma`
    and 1 - `gamma`, as in the authors' code; with the default 0.5 the paper's formulas have the same exponents.

    Args:
        weight: of the focal part, in [0, 1]; the Tversky part has the rest.
        delta: weight of the foreground in the focal part, and price of false negatives in the Tversky part, in [0, 1].
        gamma: how much easy pixels are played down, and hard classes played up, in [0, 1).
        variant: `asymmetric` plays down easy pixels of the background and plays up classes of the foreground alone;
            `symmetric` treats all classes alike.
    """

    def __init__(
        self,
        *,
        weight: float = 0.5,
        delta: float = 0.6,
        gamma: float = 0.5,
        variant: Literal["asymmetric", "symmetric"] = "asymmetric",
    ) -> None:
        super().__init__()
        if not (0 <= weight <= 1 and 0 <= delta <= 1):
            raise ValueError(f"weight and delta must be in [0, 1], not {weight} and {delta}")
        if not 0 <= gamma < 1:
            raise ValueError(f"gamma must be in [0, 1), not {gamma}")
        self._weight = weight
        self._delta = delta
        self._gamma = gamma
        self._symmetric = variant == "symmetric"

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits = as_softmax(logits)
        truth = one_vs_rest(logits, target)
        log_predicted = logits.log_softmax(1)
        predicted = log_predicted.exp() * valid_mask(target)
        focal = self._focal(log_predicted, predicted, truth)
        return self._weight * masked_mean(focal, target) + (1 - self._weight) * self._tversky(predicted, truth)

    def _focal(self, log_predicted: Tensor, predicted: Tensor, truth: Tensor) -> Tensor:
        """``(N, 1, H, W)``."""
        share = self._by_class(predicted, 1 - self._delta, self._delta)
        power = self._by_class(predicted, self._gamma, self._gamma if self._symmetric else 0.0)
        focus = (1 - predicted).clamp(min=TINY) ** power
        return (-share * focus * truth * log_predicted).sum(1, keepdim=True)

    def _tversky(self, predicted: Tensor, truth: Tensor) -> Tensor:
        overlap, true_size = (predicted * truth).sum((2, 3)), truth.sum((2, 3))
        wrong = self._delta * (true_size - overlap) + (1 - self._delta) * (predicted.sum((2, 3)) - overlap)
        loss = (1 - overlap / (overlap + wrong).clamp(min=TINY)).clamp(min=TINY)
        power = self._by_class(predicted, 1 - self._gamma if self._symmetric else 1.0, 1 - self._gamma)
        return torch.where(true_size > 0, loss ** power[:, 0, 0], torch.zeros_like(loss)).mean()

    @staticmethod
    def _by_class(like: Tensor, background: float, rest: float) -> Tensor:
        """``(K, 1, 1)``: one value for the background, one for all other classes."""
        values = torch.full((like.shape[1], 1, 1), rest, device=like.device)
        values[0] = background
        return values
