"""The checks as cases of a test, for pytest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transeg.testing.collecting import checks_of
from transeg.testing.subject import Check, Tree

if TYPE_CHECKING:
    import pytest


def parametrize_with_checks(
    target: str | Path,
    *,
    kind: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    trees: Mapping[str, Tree] | None = None,
    where: Callable[[Check], bool] = lambda _check: True,
    slow: pytest.MarkDecorator | None = None,
) -> pytest.MarkDecorator:
    """Call a test of the argument ``check`` once for each contract of everything that a package offers.

    Args:
        target: the package, or a manifest; see :func:`.checks_of`, as of the next three.
        kind: likewise.
        options: likewise.
        trees: likewise.
        where: says of a check whether it is wanted.
        slow: a mark for checks that may take a minute, such as exports; by default none.

    Raises:
        UsageError: there is no such package.
    """
    import pytest

    marks = {True: (slow,) if slow is not None else (), False: ()}
    chosen = [check for check in checks_of(target, kind=kind, options=options, trees=trees) if where(check)]
    return pytest.mark.parametrize("check", [pytest.param(c, marks=marks[c.slow], id=str(c)) for c in chosen])
