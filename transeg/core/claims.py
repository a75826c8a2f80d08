"""Folders that commands write into without harm: nothing is written over but what the same command has written there.

A hidden file in such a folder notes each file that is written, before it gets its name, with a digest of its content:
so a command that was killed knows its own files again, and what a user has put there or changed since is left alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from transeg.core.errors import UsageError
from transeg.core.files import guards, read_json, replacing, sweep_unfinished

NOTE = ".transeg-written.jsonl"
"""A line for each file: which command has written it, where it is in the folder, and the digest of its content."""


@contextmanager
def claimed(folder: Path, command: str, inputs: Iterable[Path] = (), *, deep: bool = True) -> Iterator[None]:
    """Write into a folder for as long as this lasts, and over nothing there but the command's own files.

    All that goes through :func:`transeg.core.files.replacing` is held to it.

    Args:
        folder: it need not exist.
        command: the name of the one that writes.
        inputs: files that it reads: they are never written over, even where the same command has made them.
        deep: whether it writes into folders below, too, so that what was left unfinished there is removed.
    """
    sweep_unfinished(folder, deep=deep)
    claim = _Claim(folder, command, inputs)
    guards.append(claim)
    try:
        yield
    finally:
        guards.remove(claim)
    claim.tidy()


def read_note(note: Path, kind: str, choose: str = "choose another folder with --out") -> dict[str, Any]:
    """What the note in a folder says that is all made by one command; nothing where the folder is new.

    Args:
        note: a JSON file in the folder.
        kind: of what is made there.
        choose: what a user is told to do.

    Raises:
        UsageError: the folder holds files, but no note.
    """
    if note.exists():
        return cast("dict[str, Any]", read_json(note))
    sweep_unfinished(note.parent)  # all that is left of a command that was killed before it had written its note
    check_new(note.parent, f"holds no {kind}", choose)
    return {}


def check_made_alike(note: Path, kind: str, made_by: Mapping[str, Any]) -> dict[str, Any]:
    """What the note in a folder says, where what is there is made as the rest shall be; nothing where it is new.

    Args:
        note: a JSON file in the folder.
        kind: of what is made there.
        made_by: what it is made with, as the note says it.

    Raises:
        UsageError: the folder holds something else.
    """
    found = read_note(note, kind)
    for key, value in made_by.items():
        if found and found.get(key) != value:
            raise UsageError(
                f"{note.parent} holds another {kind}: its {key} is {found.get(key)}, not {value}; choose another "
                "folder with --out."
            )
    sweep_unfinished(note.parent)
    return found


def check_new(folder: Path, lacks: str, choose: str) -> None:
    """Whether a folder is new, or nothing is in it that could be written over.

    Args:
        folder: it need not exist.
        lacks: the clause that says why it is not the command's own.
        choose: what a user is told to do.

    Raises:
        UsageError: it holds files.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise UsageError(f"{folder} is a file, not a folder; {choose}.")
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty and {lacks}; {choose}.")


class _Claim:
    """What a command may write into a folder."""

    def __init__(self, folder: Path, command: str, inputs: Iterable[Path]) -> None:
        self._folder = folder.absolute()
        self._command = command
        self._inputs = {identity for path in inputs if (identity := _identity(path)) is not None}
        self._digests: dict[tuple[str, str], set[str]] = {}
        self._noted = False
        for line in _lines(self._folder / NOTE):
            command, name, digest = line
            self._digests.setdefault((command, name), set()).add(digest)

    def check(self, path: Path) -> None:
        name = self._name(path)
        if name is None or not os.path.lexists(path):
            return
        if _identity(path) in self._inputs:
            raise UsageError(f"{path} is read, so nothing is written over it; choose another folder with --out.")
        if not path.is_file() or _digest(path) not in self._digests.get((self._command, name), ()):
            raise UsageError(
                f"{path} is there already, and toolkit {self._command} has not written it, or it was changed since; "
                "move it away, or choose another folder with --out."
            )

    def note(self, path: Path, content: Path) -> None:
        name = self._name(path)
        if name is None:
            return
        digest = _digest(content)
        found = self._digests.setdefault((self._command, name), set())
        if digest not in found:
            found.add(digest)
            with (self._folder / NOTE).open("a", encoding="utf-8") as file:
                file.write("\n" + json.dumps([self._command, name, digest]))  # whatever a kill has left before it
        self._noted = True

    def tidy(self) -> None:
        """Keep of each file one line, now that it is known which of its contents it has."""
        if not self._noted:
            return
        lines = []
        for (command, name), digests in sorted(self._digests.items()):
            path = self._folder / name
            if len(digests) > 1 and path.is_file():
                digests = digests & {_digest(path)}
            lines += [json.dumps([command, name, digest]) for digest in sorted(digests)]
        with replacing(self._folder / NOTE) as unfinished:
            unfinished.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def _name(self, path: Path) -> str | None:
        """Of a file within the folder; None for any other, and for the note itself."""
        place = path.absolute()
        if not place.is_relative_to(self._folder) or place.name == NOTE:
            return None
        return place.relative_to(self._folder).as_posix()


def _lines(note: Path) -> Iterator[tuple[str, str, str]]:
    """What a note says; a line that a kill has cut short says nothing."""
    if not note.is_file():
        return
    for text in note.read_text(encoding="utf-8", errors="replace").splitlines():
        with suppress(ValueError, TypeError):
            command, name, digest = json.loads(text)
            yield str(command), str(name), str(digest)


def _identity(path: Path) -> tuple[int, int] | None:
    """Of a file, whatever links lead to it; None where there is none."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
