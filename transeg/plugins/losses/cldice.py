"""Centreline Dice, on the soft skeletons of MONAI."""

from __future__ import annotations

from typing import Literal

from monai.losses.cldice import soft_skel
from torch import Tensor

from transeg.core.interfaces import Loss
from transeg.plugins.losses.overlap import DiceLoss
from transeg.plugins.losses.targets import foreground


class ClDiceLoss(Loss):
    """Dice mixed with the Dice of centrelines, which keeps thin structures connected (clDice, arXiv:2003.07311).

    Choose it for vessels, membranes and other networks of lines, where a gap of one pixel matters more than the
    width of the line; for blobs such as polyps or nuclei it has nothing to offer. On an empty mask the Dice part gives
    no loss, and the centreline part asks for a prediction without centrelines. Ignored pixels are background
    to the centrelines.

    Args:
        iterations: rounds of thinning: at least the largest radius of a line in pixels. Time grows with it.
        alpha: share of the centrelines, in [0, 1]; the rest is soft Dice.
        pool: `batch` counts the pixels of all images together, `image` averages over the images.
    """

    def __init__(self, *, iterations: int = 3, alpha: float = 0.5, pool: Literal["batch", "image"] = "batch") -> None:
        super().__init__()
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1, not {iterations}")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1], not {alpha}")
        self._dice = DiceLoss(pool=pool, smooth=1.0)
        self._iterations = iterations
        self._alpha = alpha
        self._axes = (0, 2, 3) if pool == "batch" else (2, 3)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        predicted, truth = foreground(logits, target)
        precision = self._share(soft_skel(predicted, self._iterations), truth)
        sensitivity = self._share(soft_skel(truth, self._iterations), predicted)
        loss = (1 - 2 * precision * sensitivity / (precision + sensitivity)).mean()
        return (1 - self._alpha) * self._dice(logits, target) + self._alpha * loss

    def _share(self, lines: Tensor, mask: Tensor) -> Tensor:
        """How much of the lines lies within the mask, in (0, 1]; 1 where there are none."""
        return ((lines * mask).sum(self._axes) + 1) / (lines.sum(self._axes) + 1)
