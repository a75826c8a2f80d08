"""Which files of a folder no sample of a dataset is read from, and why."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from transeg.core.data.images import EXTENSIONS
from transeg.core.data.listing import is_left_by_system
from transeg.core.data.unread_endings import KINDS, unread_ending


@dataclass(frozen=True, slots=True)
class UnreadFiles:
    """Files of one folder that are not read for one reason.

    Attributes:
        folder: relative to that of the dataset.
        reason: why, in a few words.
        files: their paths.
    """

    folder: str
    reason: str
    files: tuple[Path, ...]

    @property
    def are_images(self) -> bool:
        """Whether they would be read if they lay or were called otherwise."""
        return self.files[0].suffix.lower() in EXTENSIONS and not is_left_by_system(self.files[0].name)


def unread_files(root: Path, read: Collection[Path]) -> list[UnreadFiles]:
    """Files below a folder that are not among those that are read, by folder and reason; the most first."""
    known = set(read)
    folders = {path.parent for path in known}
    found: dict[tuple[str, str], list[Path]] = {}
    for path, hidden in _below(root):
        if path not in known:
            folder = path.parent.relative_to(root).as_posix()
            found.setdefault((folder, _reason(path, hidden, folders)), []).append(path)
    unread = [UnreadFiles(folder, reason, tuple(files)) for (folder, reason), files in found.items()]
    return sorted(unread, key=lambda each: (-len(each.files), each.folder, each.reason))


def _below(root: Path) -> Iterator[tuple[Path, bool]]:
    """All files, and whether one lies in a hidden folder."""
    for inner, folders, names in os.walk(root):
        folders.sort()
        hidden = any(is_left_by_system(part) for part in Path(inner).relative_to(root).parts)
        for name in sorted(names):
            yield Path(inner, name), hidden


def _reason(path: Path, hidden: bool, read: Collection[Path]) -> str:
    if hidden or is_left_by_system(path.name):
        return "hidden, or left by a system"
    if ending := unread_ending(path):
        return f"{KINDS[ending][0]}, {ending}"
    if path.suffix.lower() not in EXTENSIONS:
        return f"no image, {path.suffix.lower() or 'no ending'}"
    if path.parent in read:
        return "called otherwise than what is read there"
    if any(folder in read for folder in path.parents):
        return "in a folder below one that is read"
    return "in a folder that is not read"
