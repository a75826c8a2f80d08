"""A metric with a distance."""

import numpy as np
from scipy.ndimage import distance_transform_edt

from transeg.core.interfaces import IGNORE

MICROMETRES, SHARE = 2.0, 0.02
"""What is near: a distance, or, where pixels have no size, a share of the image's diagonal."""


def boundary_iou(probabilities: np.ndarray, labels: np.ndarray, pixel_size: float | None) -> float | None:
    """Intersection over union of the foregrounds' rims (Cheng et al., "Boundary IoU", CVPR 2021, arXiv:2103.16562).

    A rim is what lies within 2 micrometres of the outline, or within 2 % of the image's diagonal where pixels have no
    size. Unlike IoU it does not rise with the size of an object whose outline is equally wrong. Undefined without any
    foreground.
    """
    known = labels != IGNORE
    reach = MICROMETRES / pixel_size if pixel_size else SHARE * np.hypot(*labels.shape)
    found, true = (_rim(mask & known, reach) for mask in (probabilities.argmax(0) > 0, labels > 0))
    union = (found | true).sum()
    return float((found & true).sum() / union) if union else None


def _rim(mask: np.ndarray, reach: float) -> np.ndarray:
    outside = np.pad(mask, 1)  # what touches the border has its outline there
    return mask & (distance_transform_edt(outside)[1:-1, 1:-1] <= max(1.0, reach))
