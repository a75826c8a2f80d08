"""Options as users write them, before they are validated: TOML files, assignments, names of datasets."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from transeg.core.errors import UsageError

Settings = dict[str, Any]
"""Nested tables, as in an experiment file."""
COMPONENTS = ("strategy", "generator", "segmenter", "loss")
"""Tables of an experiment file that each hold a component and its options."""


def read_settings(path: Path) -> Settings:
    """An experiment file, not validated yet.

    Raises:
        UsageError: it cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The experiment file {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"The experiment file {path} is not valid TOML: {error}.") from error


def spell_out_names(settings: Mapping[str, Any]) -> Settings:
    """Settings in which a component that is only named, as in ``loss = "dice"``, has a table, as in ``[loss]``.

    Raises:
        UsageError: something is neither a name nor a table.
    """
    found = dict(settings)
    for kind in COMPONENTS:
        given = found.get(kind, {})
        if isinstance(given, str):
            found[kind] = {"name": given}
        elif not isinstance(given, Mapping):
            raise UsageError(f"{kind} is a name or a table, not {given!r}; say --{kind} NAME.")
    return found


def parse_assignment(text: str) -> Settings:
    """``train.lr=1e-4`` -> ``{"train": {"lr": 1e-4}}``; what is no TOML value is a string.

    Raises:
        UsageError: it is not such an assignment.
    """
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise UsageError(f"--set {text!r} is not of the form option.name=value.")
    try:
        nested: Any = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        nested = value
    for key in reversed(keys):
        nested = {key: nested}
    return dict(nested)


def parse_distiller(text: str) -> Settings:
    """``kl:temperature=4,weight=1`` as a table of ``[distillation.terms]``.

    Raises:
        UsageError: it is not of that form.
    """
    name, _, rest = text.partition(":")
    table: Settings = {"name": name}
    for part in filter(None, rest.split(",")):
        if "=" not in part:
            raise UsageError(f"--distill {text!r} is not of the form kl:temperature=4,weight=1.")
        table |= parse_assignment(part)
    return table


def parse_pixel_size(text: str) -> tuple[float, float]:
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


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Settings:
    """Nested tables joined; where both have a value, the second's counts."""
    merged = deepcopy(dict(base))
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else deepcopy(value)
    return merged


def set_options(table: Mapping[str, Any]) -> Settings:
    """Nested tables without what is None, which TOML cannot say."""
    return {
        key: set_options(value) if isinstance(value, Mapping) else value
        for key, value in table.items()
        if value is not None
    }


def flat(table: Mapping[str, Any], prefix: str = "") -> Settings:
    """Nested tables as dotted options."""
    dotted: Settings = {}
    for key, value in table.items():
        dotted |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return dotted


_TERM = re.compile(r"(?:(?P<weight>\d*\.?\d+(?:e[+-]?\d+)?)\s*\*\s*)?(?P<name>[a-z][\w:.-]*)", re.IGNORECASE)


def parse_sum(expression: str) -> dict[str, float]:
    """``dice+0.5*bce`` -> ``{"dice": 1.0, "bce": 0.5}``.

    Raises:
        UsageError: it is not such a sum, or a loss stands in it twice.
    """
    terms: dict[str, float] = {}
    for part in expression.split("+"):
        match = _TERM.fullmatch(part.strip())
        if match is None:
            raise UsageError(f"The loss {expression!r} is not a sum such as dice+0.5*bce.")
        if match["name"] in terms:
            raise UsageError(f"The loss {expression!r} names {match['name']} twice.")
        terms[match["name"]] = float(match["weight"] or 1)
    return terms
