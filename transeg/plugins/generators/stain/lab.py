"""CIELAB, the colours in which Reinhard's method is used for stain: of sRGB under the illuminant D65."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

WHITE = np.array([0.95047, 1.0, 1.08883])
FROM_RGB = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
"""XYZ of linear sRGB."""
TO_WHITE: Sequence[Sequence[float]] = (FROM_RGB / WHITE[:, None]).tolist()
FROM_WHITE: Sequence[Sequence[float]] = np.linalg.inv(FROM_RGB / WHITE[:, None]).tolist()
KNEE = 6 / 29
"""The cube root of XYZ, below which a line of this slope and offset takes its place."""
SLOPE, OFFSET = 7.787, 16 / 116


def rgb_to_lab(image: Tensor) -> Tensor:
    """``(N, 3, H, W)`` in [0, 1] -> lightness in [0, 100] and two opponent colours around 0."""
    linear = torch.where(image > 0.04045, ((image + 0.055) / 1.055).pow(2.4), image / 12.92)
    xyz = _mixed(linear, TO_WHITE)
    x, y, z = torch.where(xyz > KNEE**3, xyz.clamp(min=KNEE**3).pow(1 / 3), SLOPE * xyz + OFFSET).unbind(1)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), 1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """The way back; colours that sRGB does not have are clipped to [0, 1]."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    roots = torch.stack((y + a / 500, y, y - b / 200), 1)
    linear = _mixed(torch.where(roots > KNEE, roots.pow(3), (roots - OFFSET) / SLOPE), FROM_WHITE)
    bright = 1.055 * linear.clamp(min=0.0031308).pow(1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, bright, 12.92 * linear).clamp(0, 1)


def _mixed(image: Tensor, rows: Sequence[Sequence[float]]) -> Tensor:
    """Three channels out of three; by numbers, which no GPU waits for."""
    first, second, third = image.unbind(1)
    return torch.stack([a * first + b * second + c * third for a, b, c in rows], 1)
