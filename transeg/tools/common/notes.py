"""Notes of what is made in a folder, so that nothing else goes on there."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from transeg.core.errors import UsageError
from transeg.core.files import read_json


def read_note(note: Path, kind: str, choose: str = "choose another folder with --out") -> dict[str, Any]:
    """What the note in a folder says; nothing where the folder is new.

    Args:
        note: a JSON file in the folder.
        kind: of what is made there.
        choose: what a user is told to do.

    Raises:
        UsageError: the folder holds files, but no note.
    """
    if note.exists():
        return cast("dict[str, Any]", read_json(note))
    if note.parent.exists() and any(note.parent.iterdir()):
        raise UsageError(f"{note.parent} is not empty and holds no {kind}; {choose}.")
    return {}
