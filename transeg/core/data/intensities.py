"""The one scale of intensities: every image that leaves a file or a dataset lies between black and white."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from transeg.core.data.decoded_image import Range

OVERSHOOT = 0.25
"""How far beyond 0 and 1 floats may reach: filters and interpolation overshoot."""


DARK = 2**12
"""Values of 16 bits that are all below this are more likely of 12 bits than dark."""
IN_THE_DARK = (
    f"has 16 bits per channel, but no value above {DARK - 1}; if that is white, say range=[0,{DARK - 1}], or it is "
    "almost black"
)
PERCENTILES = 0.5, 99.5
"""Of intensities that are not 0, what becomes black and white where nothing says it (Ma et al., arXiv:2304.12306)."""
CURE = "say which of them become 0 and 1 with range=[LOW, HIGH]"


def to_unit(pixels: np.ndarray, range_: Range | None, say: Callable[[str], None], cure: str = CURE) -> np.ndarray:
    """uint8 and uint16 as they are, unless a range is given; anything else as float32 in [0, 1].

    Args:
        pixels: ``(H, W, C)`` numbers as stored.
        range_: intensities that become 0 and 1; what lies outside is cut off.
        say: told of what changes.
        cure: what the user can do about floats of unknown range.

    Raises:
        ValueError: values are not finite, or beyond [0, 1] with no range; a clause.
    """
    if range_ is None and pixels.dtype in (np.uint8, np.uint16):
        if pixels.dtype == np.uint16:
            say(
                IN_THE_DARK
                if pixels.max(initial=0) < DARK
                else "has 16 bits per channel; they are scaled to the full range"
            )
        return pixels
    low, high = float(pixels.min(initial=0)), float(pixels.max(initial=0))
    if not (np.isfinite(low) and np.isfinite(high)):
        count = int((~np.isfinite(pixels)).sum())
        raise ValueError(f"has {count} values that are not finite (NaN or infinity); replace them")
    if range_ is not None:
        black, white = range_
        return ((pixels.astype(np.float32) - black) / (white - black)).clip(0, 1).astype(np.float32)
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        raise ValueError(
            f"has values of type {pixels.dtype} from {low:g} to {high:g}, outside of the range 0 to 1; {cure}"
        )
    pixels = pixels.astype(np.float32, copy=False)
    if low < 0 or high > 1:
        say("has values outside of [0, 1], which are cut off (see range)")
        pixels = pixels.clip(0, 1)
    return pixels


def holds_for(range_: Range | None, pixels: np.ndarray) -> bool:
    """Whether a range that others were scaled by can be that of these pixels, which may be on the one scale already:
    8 bits do not reach 4095, and floats of up to 4095 do not all lie in [0, 1].
    """
    if range_ is None:
        return False
    if pixels.dtype == np.uint8:
        return range_[1] <= 255
    return pixels.dtype == np.uint16 or range_[1] <= 1 or bool(pixels.max(initial=0) > 1 or pixels.min(initial=0) < 0)


def percentile_range(values: np.ndarray) -> Range:
    """The :data:`PERCENTILES` of intensities of any shape, in which what is all alike is black."""
    known = values[np.isfinite(values) & (values != 0)]
    low, high = map(float, np.percentile(known, PERCENTILES)) if known.size else (0.0, 1.0)
    return low, high if high > low else low + 1.0
