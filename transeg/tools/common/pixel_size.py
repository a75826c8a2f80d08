"""The option `--pixel-size`."""

from __future__ import annotations

import math

from transeg.core.errors import UsageError
from transeg.core.inference.pixel_size import PixelSize


def parse_pixel_size(text: str) -> PixelSize:
    """``0.1`` or ``0.1,0.2``, as `--pixel-size` takes it.

    Raises:
        UsageError: it is neither.
    """
    try:
        sides = [float(side) for side in text.split(",")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or not all(0 < side < math.inf for side in sides):
        raise UsageError(f"--pixel-size {text} must be micrometres above zero, as in 0.1, or height,width.")
    return sides[0], sides[-1]
