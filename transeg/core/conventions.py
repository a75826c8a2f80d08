"""Conventions on images and labels that need neither NumPy nor PyTorch."""

from __future__ import annotations

from typing import Literal

IGNORE = 255
"""The label of pixels that neither losses nor metrics look at."""


Condition = Literal["image", "mask", "mask+boundary"]
"""What a generator is given of the source: images in [-1, 1]; label maps as one channel for each class, background
included, in {0, 1}; or these and a channel that outlines single objects."""
