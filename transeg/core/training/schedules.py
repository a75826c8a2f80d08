"""Factors over the training, as functions of the progress in [0, 1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial


def constant(_progress: float) -> float:
    """1 throughout."""
    return 1.0


def linear(progress: float) -> float:
    """1 in the first half, then falling linearly to 0."""
    return min(1.0, 2.0 * (1.0 - progress))


def cosine(progress: float) -> float:
    """From 1 to 0 along half a cosine."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def with_warmup(schedule: Callable[[float], float], share: float) -> Callable[[float], float]:
    """A schedule that first rises from 1/25 to 1 along a cosine, as one-cycle training begins (arXiv:1708.07120)."""
    return partial(_warmed_up, schedule, share) if share else schedule


def _warmed_up(schedule: Callable[[float], float], share: float, progress: float) -> float:
    if progress < share:
        return 1 - (1 - 1 / 25) * cosine(progress / share)
    return schedule((progress - share) / (1 - share))


LEARNING_RATE = {"constant": constant, "linear": linear, "cosine": cosine}
