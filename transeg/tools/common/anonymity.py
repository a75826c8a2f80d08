"""Leaves out of texts that are sent to others where things lie on this machine, and with that whose it is."""

from __future__ import annotations

import html
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

HIDDEN = "PATH"
"""What stands in a text where an absolute path stood."""
ABSOLUTE = re.compile(r"""(^|[\s"'`(\[=:,])(~[\\/]|[A-Za-z]:[\\/]|\\\\|/(?![/\s]))[^\s"'`,)\]]*""", re.MULTILINE)
"""An absolute path of any system behind what may stand before one; ``https://`` is none."""


class Anonymity:
    """Takes absolute paths out of texts.

    Args:
        places: paths, and tables with paths in them: what lies below one of them is known even where its name has
            spaces in it. Those of the user and of Python are known besides.
    """

    def __init__(self, *places: Any) -> None:
        known = {str(path) for path in (Path.home(), Path.cwd(), Path(sys.prefix), *_paths(places))}
        known |= {str(Path(path).resolve()) for path in known}
        self._known = sorted((path for path in known if len(Path(path).parts) > 1), key=len, reverse=True)

    def text(self, text: str) -> str:
        """A text without absolute paths."""
        return ABSOLUTE.sub(rf"\1{HIDDEN}", self._without_known(text, self._known))

    def page(self, page: str) -> str:
        """A page of HTML without the known ones; whatever else begins with a slash may be markup."""
        return self._without_known(page, [spelling for path in self._known for spelling in (html.escape(path), path)])

    @staticmethod
    def _without_known(text: str, known: Iterable[str]) -> str:
        for path in known:
            text = re.sub(rf"{re.escape(path)}(?![\w.-]*\w)", HIDDEN, text)
        return text


def _paths(value: Any) -> Iterator[str]:
    """The absolute paths in a value: itself, in a table or a list, or behind the colons of ``NAME:FOLDER``."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple, set)):
        for each in value:
            yield from _paths(each)
    elif isinstance(value, Path):
        yield str(value.absolute())
    elif isinstance(value, str):
        start = re.search(r"(^|[=:])(~[\\/]|[A-Za-z]:[\\/]|\\\\|/(?!/))", value)
        if start:
            yield value[start.start(2) :]
