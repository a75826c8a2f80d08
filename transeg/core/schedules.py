"""Factors over the training, as functions of the progress in [0, 1)."""

from __future__ import annotations

import math


def constant(_progress: float) -> float:
    """1 throughout."""
    return 1.0


def linear(progress: float) -> float:
    """1 in the first half, then falling linearly to 0."""
    return min(1.0, 2.0 * (1.0 - progress))


def cosine(progress: float) -> float:
    """From 1 to 0 along half a cosine."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


LEARNING_RATE = {"constant": constant, "linear": linear, "cosine": cosine}
