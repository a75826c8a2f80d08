"""Colours matched after Reinhard, Ashikhmin, Gooch and Shirley, "Color Transfer between Images", IEEE CG&A 2001,
doi:10.1109/38.946629; in CIELAB, as for H&E.
"""

from __future__ import annotations

import torch
from torch import Tensor

from transeg.plugins.generators.stain.lab import lab_to_rgb, rgb_to_lab

UNSEEN = (50.0, 0.0, 0.0, 20.0, 20.0, 20.0)
"""What is known of a target until one has been seen."""


def describe_colours(image: Tensor) -> Tensor:
    """Means and deviations of the colours of images ``(N, 3, H, W)`` in [-1, 1]: ``(N, 6)``."""
    lab = rgb_to_lab((image + 1) / 2)
    return torch.cat((lab.mean((2, 3)), lab.std((2, 3), correction=0)), 1)


def match_colours(image: Tensor, own: Tensor, wanted: Tensor) -> Tensor:
    """Images ``(N, 3, H, W)`` in [-1, 1] with the wanted means and deviations in the place of their own."""
    mean, deviation = own[:, :, None, None].chunk(2, 1)
    wanted_mean, wanted_deviation = wanted[:, :, None, None].chunk(2, 1)
    lab = rgb_to_lab((image + 1) / 2)
    return lab_to_rgb((lab - mean) / deviation.clamp(min=1e-6) * wanted_deviation + wanted_mean) * 2 - 1
