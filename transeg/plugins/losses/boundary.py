"""The boundary loss: how far from the true contour the wrong pixels are."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from transeg.core.interfaces import Loss
from transeg.plugins.losses.targets import foreground, masked_mean, valid_mask


class BoundaryLoss(Loss):
    """Probability times signed distance to the true contour, in pixels (Kervadec et al., arXiv:1812.07032).

    A partner for an overlap loss, as in `dice+0.01*boundary`, where contours and far-off false alarms matter, above
    all for small or thin objects. Values are large (a wrong pixel costs its distance), hence the small weight. Alone
    it is not a good choice: an image without the class, or with nothing else, has no contour and gives no loss.

    The published loss is negative for good predictions. This one is that less its value at the truth, which changes no
    gradient and makes 0 perfect. The contour runs between the pixels: half a pixel from the nearest on either side.
    Ignored pixels belong to neither side. Distances are computed on the CPU.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        predicted, truth = foreground(logits, target)
        return masked_mean(_signed_distance(truth, valid_mask(target)) * (predicted - truth), target)


def _signed_distance(truth: Tensor, mask: Tensor) -> Tensor:
    """``(N, K, H, W)`` distances to the contour of each class, negative inside; 0 where there is no contour.

    Args:
        truth: ``(N, K, H, W)`` of 0 and 1.
        mask: ``(N, 1, H, W)``, 0 where nothing is known.
    """
    inside = truth.bool().cpu().numpy()
    outside = (mask > truth).cpu().numpy()
    field = np.zeros(inside.shape, np.float32)
    for index in np.ndindex(inside.shape[:2]):
        if inside[index].any() and outside[index].any():
            field[index] = distance_transform_edt(~inside[index]) - distance_transform_edt(~outside[index])
    return torch.from_numpy(field - 0.5 * np.sign(field)).to(truth.device)
