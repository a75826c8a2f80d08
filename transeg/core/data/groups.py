"""Which images belong together, such as frames of a video or patches of a slide: splits never take them apart."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from transeg.core.errors import DataError

PATCH = re.compile(
    r"(?P<parent>.+?)[ _-]*(?:(?:patch|tile|crop)[ _-]*\d+|[ _-]x?\d+[ _-]y?\d+|[ _-]r\d+[ _-]?c\d+)$", re.I
)
"""A name that ends as those of patches do: `slide1_0_256`, `a-patch-3`, `b_x128_y0`, `c_r2c5`."""


def read_groups(path: Path) -> dict[str, str]:
    """Groups by the name of the image, without its extension.

    Args:
        path: a JSON file ``{"name": "group", ...}``, or a CSV file with the columns ``name`` and ``group``.

    Raises:
        DataError: it cannot be read or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = json.loads(text) if path.suffix.lower() == ".json" else _columns(text)
        groups = {_stem(name): str(group) for name, group in found.items()}
    except (OSError, ValueError, AttributeError, KeyError) as error:
        raise DataError(
            f'The groups {path} cannot be read: it must be JSON {{"name": "group"}} or CSV with the columns name and '
            f"group ({error})."
        ) from error
    return groups


def group_by_file(path: Path) -> Callable[[str], str]:
    """What gives an image's group by its name; see :func:`read_groups`.

    Raises:
        DataError: the file cannot be used; and when called, it has no such name.
    """
    groups = read_groups(path)

    def group(name: str) -> str:
        if name not in groups:
            raise DataError(f"The groups {path} have no line for the image {name}.")
        return groups[name]

    return group


def patches_of_one_image(names: Iterable[str]) -> dict[str, int]:
    """How many names look like those of patches of one image, by what they begin with; only where there are several."""
    found = Counter(match["parent"] for name in names if (match := PATCH.fullmatch(name)))
    return {parent: count for parent, count in found.items() if count > 1}


def _columns(text: str) -> dict[str, str]:
    reader = csv.DictReader(text.splitlines())
    if not {"name", "group"} <= set(reader.fieldnames or ()):
        raise ValueError("it has no such columns")
    return {row["name"]: row["group"] for row in reader}


def _stem(name: str) -> str:
    """A file's name without its extension; a name may have a point in it that begins none."""
    stem, point, ending = name.rpartition(".")
    return stem if point and re.fullmatch(r"[A-Za-z]{2,4}\d?", ending) else name
