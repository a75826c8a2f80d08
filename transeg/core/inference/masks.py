"""Masks as a user gets them, in files or in memory."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from transeg.core.models.forward import to_classes


def class_map(logits: Tensor) -> np.ndarray:
    """Logits ``(K, H, W)`` on any device -> ``(H, W)`` uint8 of classes."""
    return to_classes(logits[None])[0].byte().cpu().numpy()


def shown_mask(classes: np.ndarray, count: int) -> np.ndarray:
    """A map of so many classes as it is given out: black and white of two, of several their numbers."""
    return classes * 255 if count == 2 else classes
