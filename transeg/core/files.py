"""Files that are there whole or not at all, whenever the process that writes them is killed."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from transeg.core.errors import TransegError

FORGOTTEN = 24 * 3600.0
"""Seconds after which what another machine has left unfinished counts as abandoned: its processes cannot be asked."""

_UNFINISHED = re.compile(r"\.transeg-([0-9a-f]{8})-(\d+)")


class Guard(Protocol):
    """Decides what may be written into a folder; see :mod:`transeg.core.claims`."""

    def check(self, path: Path) -> None:
        """Whether a file may be written, and may take the place of what is there.

        Raises:
            UsageError: it may not.
        """

    def note(self, path: Path, content: Path) -> None:
        """What is in ``content`` will be at ``path`` in an instant."""


guards: list[Guard] = []
"""Of the folders that commands of this process write into now."""


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A place for a file, or for a folder, that is moved to ``path`` once it is complete, and is gone if it fails.

    It has the same name, in a hidden folder beside: programs that take every file of a folder for one of theirs see
    nothing of it. What a killed process leaves there, :func:`sweep_unfinished` removes.

    Args:
        path: where it goes; what is there is replaced.
        durable: wait until the disk has it, so that it outlives a loss of power, too.

    Raises:
        UsageError: a command claims the folder, and may not write there.
        TransegError: it cannot be written; whatever was there is still whole.
    """
    for guard in guards:
        guard.check(path)
    hidden = _hidden(path.parent)
    unfinished = hidden / path.name
    try:
        hidden.mkdir(parents=True, exist_ok=True)
        yield unfinished
        for guard in guards:
            guard.note(path, unfinished)
        if durable and unfinished.is_file():
            _sync(unfinished)
        unfinished.replace(path)
        if durable:
            with suppress(OSError):  # some file systems and Windows cannot, and need not
                _sync(path.parent)
    except OSError as error:
        raise TransegError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            unfinished.unlink(missing_ok=True)
        with suppress(OSError):
            hidden.rmdir()


def probe(folder: Path) -> None:
    """Make a folder, where there is none, and look whether it can be written to.

    Raises:
        OSError: it cannot.
    """
    hidden = _hidden(folder)
    hidden.mkdir(parents=True, exist_ok=True)
    hidden.rmdir()


def sweep_unfinished(folder: Path, *, deep: bool = True) -> None:
    """Remove what killed processes have left unfinished in a folder; what processes write just now stays.

    Args:
        folder: it need not exist.
        deep: in the folders below it, too.
    """
    for parent, names, _ in os.walk(folder):
        for name in names:
            if _is_abandoned(Path(parent, name)):
                shutil.rmtree(Path(parent, name), ignore_errors=True)
        names[:] = [name for name in names if deep and not _UNFINISHED.fullmatch(name)]


def write_json(path: Path, document: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(document, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        TransegError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TransegError(f"{path} cannot be read: {error}.") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all, its lines ended as they are."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", newline="")


def _hidden(folder: Path) -> Path:
    """Where this process keeps what will be files of a folder."""
    return folder / f".transeg-{_machine()}-{os.getpid()}"


def _machine() -> str:
    """Where a process number means something."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _is_abandoned(path: Path) -> bool:
    """Whether something was left unfinished by a process that is gone."""
    found = _UNFINISHED.fullmatch(path.name)
    if found is None:
        return False
    if found[1] != _machine() or os.name == "nt":  # where asking after a process would end it
        with suppress(OSError):
            return path.stat().st_mtime < time.time() - FORGOTTEN
        return False
    try:
        os.kill(int(found[2]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # somebody else's
        return False
    return False


def _sync(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
