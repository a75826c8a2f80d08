"""The axes of a sweep, and stable names for their values and combinations; imports no component."""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transeg.core.errors import UsageError
from transeg.core.experiment.settings import Settings, flat, merge

Axes = dict[str, dict[str, Settings]]
"""For each axis the settings that its values stand for, by the values' labels."""

REPEATS = ("seed", "fold")
"""Axes along which the same is done again: results are averaged over them."""
NAMED = ("generator", "segmenter", "loss")
"""Options that a component's name alone may stand for."""
PLAIN = (*NAMED, "strategy", "data.source", "data.target", "data.val", "data.synthetic")
"""Axes whose values say by themselves what they are."""
LONGEST = 40
"""Characters of a label."""


@dataclass(frozen=True)
class Point:
    """One combination.

    Attributes:
        name: of all labels; no two combinations share one, and other values beside leave it as it is.
        labels: by axis.
        settings: what it lays over those that all combinations share.
    """

    name: str
    labels: dict[str, str]
    settings: Settings


def parse_axes(table: Mapping[str, Any]) -> Axes:
    """The axes that ``[sweep]`` declares.

    Args:
        table: for each axis a list of values of the option that it is named after, or, where it has a name of one's
            own, a table of settings by label.

    Raises:
        UsageError: an axis has no value, or one twice.
    """
    return {option: _axis(option, values) for option, values in table.items()}


def grid_points(axes: Axes) -> Iterator[Point]:
    """All combinations, the last axis varying fastest."""
    for labels in itertools.product(*axes.values()):
        settings: Settings = {}
        for axis, label in zip(axes.values(), labels, strict=True):
            settings = merge(settings, axis[label])
        yield Point("_".join(labels), dict(zip(axes, labels, strict=True)), settings)


def nest_option(option: str, value: Any) -> Settings:
    """``train.lr`` and a value as nested tables."""
    if option in NAMED and isinstance(value, str):
        value = {"name": value}
    for key in reversed(option.split(".")):
        value = {key: value}
    return dict(value)


def _axis(option: str, values: Any) -> dict[str, Settings]:
    if isinstance(values, Mapping) and all(isinstance(value, Mapping) for value in values.values()):
        texts, settings = [_safe(label) for label in values], [dict(value) for value in values.values()]
    elif isinstance(values, list):
        texts, settings = [_text(option, value) for value in values], [nest_option(option, value) for value in values]
    else:
        raise UsageError(
            f"The axis {option} of a sweep must be a list of values, as in {option} = [...], or tables of settings by "
            f"labels, not {values!r}."
        )
    if not settings:
        raise UsageError(f"The axis {option} of a sweep has no value.")
    for number, each in enumerate(settings):
        if each in settings[:number]:
            raise UsageError(f"The axis {option} of a sweep has the same value twice: {list(values)[number]!r}.")
    return dict(zip(_distinct(texts), settings, strict=True))


def _text(option: str, value: Any) -> str:
    """What tells a value from the others of its axis."""
    if isinstance(value, Mapping):
        about = [value.get("name", ""), value.get("domain", "")]
        rest = {key: each for key, each in value.items() if key not in ("name", "domain", "root")}
        return _safe("-".join([*filter(None, map(str, about)), *(f"{key}{each}" for key, each in flat(rest).items())]))
    last = option.rpartition(".")[2]
    if isinstance(value, str):
        return _safe(value if option in PLAIN or last == "name" else f"{last}-{value}")
    return _safe(f"{last}{str(value).lower()}")


def _safe(text: str) -> str:
    """Letters, digits, `.`, `+` and `-`; a checksum stands for what is too much."""
    safe = re.sub(r"[^\w.+]|_", "-", text)
    safe = re.sub(r"-{2,}", "-", safe).strip("-.") or "none"
    return safe if len(safe) <= LONGEST else f"{safe[: LONGEST - 9]}-{zlib.crc32(text.encode()):08x}"


def _distinct(texts: Sequence[str]) -> list[str]:
    """The same with a number where one recurs, on file systems that know no capitals, too."""
    taken: dict[str, str] = {}
    for text in texts:
        free = text
        for number in itertools.count(2):
            if free.casefold() not in taken:
                break
            free = f"{text}-{number}"
        taken[free.casefold()] = free
    return list(taken.values())
