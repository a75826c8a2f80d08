"""What constructors say of wrong arguments, as sentences for the user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transeg.core.errors import UsageError


def construct(make: Callable[[], Any], where: str) -> Any:
    """What a constructor makes, or what else a component does with what it is given; what it says of a wrong argument
    becomes the user's sentence.
    """
    try:
        return make()
    except ValueError as error:
        raise UsageError(f"{where}: {error}.") from error
