"""Predicted and true label maps that are kept until all of their group have come."""

from __future__ import annotations

from typing import NamedTuple, Self

import cv2
import numpy as np


class PackedMasks(NamedTuple):
    """A predicted and a true label map as PNG, which of masks is a few kilobytes.

    Attributes:
        name: of the sample.
        group: of the sample.
        packed: both.
    """

    name: str
    group: str
    packed: tuple[bytes, bytes]

    @classmethod
    def pack(cls, name: str, group: str, prediction: np.ndarray, truth: np.ndarray) -> Self:
        """From label maps ``(H, W)`` of up to 256 values."""
        return cls(name, group, (_packed(prediction), _packed(truth)))

    def unpack(self) -> tuple[np.ndarray, np.ndarray]:
        """Prediction and truth, ``(H, W)`` uint8 each."""
        prediction, truth = (_unpacked(each) for each in self.packed)
        return prediction, truth


def _packed(mask: np.ndarray) -> bytes:
    return cv2.imencode(".png", mask.astype(np.uint8))[1].tobytes()


def _unpacked(packed: bytes) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(packed, np.uint8), cv2.IMREAD_UNCHANGED))
