"""The Hausdorff loss, by MONAI."""

from __future__ import annotations

from monai.losses.hausdorff_loss import HausdorffDTLoss
from torch import Tensor

from transeg.core.interfaces import Loss
from transeg.plugins.losses.targets import foreground, valid_mask


class HausdorffLoss(Loss):
    """Squared error, weighed by the distance from both contours: a bound on the Hausdorff distance (arXiv:1904.10030).

    A partner for an overlap loss, as in `dice+0.01*hausdorff`, where stray regions far from the object are what
    hurts. Values grow with the square of the distance in pixels, hence the small weight, and a smaller one for large
    images. The contours are those of
    the truth and of the prediction at a probability of one half; the distances take no part in the gradient.

    What is empty or full has no contour and adds no distance: on an empty mask only stray regions are pulled in, and
    where truth and prediction both lack a contour there is no loss. Near ignored pixels, distances are measured as if
    those were background. They are computed on the CPU unless cuCIM is installed.

    Args:
        alpha: exponent of the distance; the paper's is 2.
    """

    def __init__(self, *, alpha: float = 2.0) -> None:
        super().__init__()
        if alpha <= 0:
            raise ValueError(f"alpha must be positive, not {alpha}")
        self._loss = HausdorffDTLoss(alpha=alpha, include_background=True)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        mask = valid_mask(target)
        mean: Tensor = self._loss(*foreground(logits, target))
        return mean * mask.numel() / mask.sum().clamp(min=1)
