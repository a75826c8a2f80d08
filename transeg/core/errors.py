"""Errors that the user can mend: one sentence that names what is wrong and what to do."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class TransegError(Exception):
    """A failure while running (exit code 1)."""

    exit_code = 1


class UsageError(TransegError):
    """A command, option or experiment that cannot be run as given (exit code 2)."""

    exit_code = 2


class DataError(TransegError):
    """A file of a dataset that cannot be used.

    Args:
        message: a sentence.
        file: its path.
    """

    def __init__(self, message: str, file: str = "") -> None:
        # a data loader's worker re-raises an exception with its traceback as the message: the sentence ends it
        super().__init__(message.rsplit(f"{type(self).__name__}: ", 1)[-1].strip())
        self.file = file


class Failures:
    """Files that could not be used, for commands that go on with the others and say at the end which failed."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Go on behind this where a file cannot be used."""
        try:
            yield
        except DataError as error:
            self.reasons.append(str(error))

    def conclude(self, doing: str) -> None:
        """Say what failed.

        Args:
            doing: what could not be done with these files, as in `segmented`.

        Raises:
            TransegError: anything did.
        """
        if self.reasons:
            count = len(self.reasons)
            images = "1 image" if count == 1 else f"{count} images"
            raise TransegError("\n".join([f"{images} could not be {doing}; everything else was.", *self.reasons]))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """' Did you mean X?' for the nearest known name, else the list of all, else nothing."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" There are: {', '.join(names)}." if names else ""


def describe_exit_code(code: int) -> str:
    """The clause of a child: ``its process was killed, as happens where memory runs out``, from its exit code."""
    if code == -signal.SIGKILL:
        return "its process was killed, as happens where memory runs out"
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code}"


def no_such(what: str, name: str, known: Iterable[str]) -> str:
    """The clause of a constructor: ``there is no tissue 'Colom' (did you mean 'Colon'?)``."""
    hint = did_you_mean(name, known).strip(" .")
    return f"there is no {what} {name!r} ({hint[:1].lower()}{hint[1:]})"
