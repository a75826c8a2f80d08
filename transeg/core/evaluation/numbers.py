"""Numbers as tables show them."""

from __future__ import annotations

from collections.abc import Sequence


def format_number(value: float | None, sign: str = "-", digits: int = 3) -> str:
    """Three digits behind the point; one for numbers of pixels. Signs are a format's: ``+``, or ``z`` for no -0."""
    return "-" if value is None else f"{value:{sign}.{digits if abs(value) < 10 else 1}f}"


def format_interval(ends: Sequence[float] | None, digits: int = 3, sign: str = "-") -> str:
    """`` [0.790, 0.833]``, behind a number; nothing for none."""
    return "" if ends is None else f" [{', '.join(format_number(end, sign, digits) for end in ends)}]"


def format_probability(p: float | None) -> str:
    """Three digits; what is less is said to be so."""
    return "-" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def pluralise(count: int, unit: str) -> str:
    """``1 image`` or ``2 images``."""
    return f"1 {unit}" if count == 1 else f"{count} {unit}s"
