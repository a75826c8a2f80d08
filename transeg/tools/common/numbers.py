"""Numbers as tables show them."""

from __future__ import annotations


def number(value: float | None, sign: str = "-", digits: int = 3) -> str:
    """Three digits after the point; fewer for numbers of pixels."""
    if value is None:
        return "-"
    return f"{value:{sign}.{digits if abs(value) < 10 else 1}f}"


def interval(ends: list[float] | None, digits: int) -> str:
    """Behind a number."""
    return "" if ends is None else f" [{', '.join(number(end, digits=digits) for end in ends)}]"


def counted(count: int, unit: str) -> str:
    """``1 image`` or ``2 images``."""
    return f"1 {unit}" if count == 1 else f"{count} {unit}s"
