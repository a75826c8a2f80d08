"""Folders that a run reads and writes: datasets, cache, and where it is called."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryFile

from transeg.core.cache_folder import cache_folder
from transeg.core.registry import Registry
from transeg.tools.doctor.finding import Finding, in_gib

ROOM = 2**30
"""Bytes of a disk that a run may need for its checkpoints."""
BLOCK = 4096


def check_data_root(registry: Registry) -> Finding:
    """The folder of TRANSEG_DATA, and which datasets lie in it by name."""
    said = os.environ.get("TRANSEG_DATA")
    if not said:
        return Finding("data", "ok", "TRANSEG_DATA is not set; datasets are named with their folders: kvasir:FOLDER.")
    root, advice = Path(said), "Set TRANSEG_DATA to the folder that holds a folder for each dataset, or unset it."
    try:
        there = {path.name for path in root.iterdir()}
    except OSError as error:
        return Finding("data", "fault", f"TRANSEG_DATA names {root}, which cannot be read: {error.strerror}.", advice)
    named = sorted({component.name for component in registry.components("dataset")} & there)
    unread = [name for name in named if (root / name).is_dir() and not _is_readable(root / name)]
    if unread:
        found = f"TRANSEG_DATA names {root}, where these cannot be read: {', '.join(unread)}."
        return Finding("data", "fault", found, "Ask their owner for the right to read them: chmod -R a+rX FOLDER")
    if not named:
        found = f"TRANSEG_DATA names {root}, in which no folder has the name of a dataset."
        return Finding("data", "note", found, advice)
    return Finding("data", "ok", f"TRANSEG_DATA names {root}, which holds {', '.join(named)}.")


def check_cache() -> Finding:
    """Where decoded images and artifacts are kept on request: how much it is, and whether there can be more."""
    folder = cache_folder("")
    refusal = _refusal_to_write(folder)
    if refusal:
        found = f"{folder} cannot be written to: {refusal}. Runs go on, and keep nothing there."
        return Finding("cache", "note", found, "Let TRANSEG_CACHE name a folder of yours.")
    size = sum(_sizes(folder))
    advice = "`toolkit data cache --clear` empties it." if size else ""
    return Finding("cache", "ok", f"{folder} holds {in_gib(size)}, and can be written to.", advice)


def check_current_folder() -> Finding:
    """Where `runs/` will be: whether it can be written to, and how much of the disk is free."""
    here = Path.cwd()
    folder = here / "runs"
    refusal = _refusal_to_write(folder)
    if refusal:
        found = f"Runs are written to {folder} unless --run-dir is given, and nothing can be written there: {refusal}."
        return Finding("runs", "fault", found, "Change to a folder of yours, or say --run-dir FOLDER.")
    free = shutil.disk_usage(here).free
    found = f"{folder} can be written to; the disk has {in_gib(free)} free."
    if free < ROOM:
        found += " Checkpoints of a run may not fit."
        return Finding("runs", "note", found, "Make room, or say --run-dir FOLDER on another disk.")
    return Finding("runs", "ok", found)


def _is_readable(folder: Path) -> bool:
    try:
        next(folder.iterdir(), None)
    except OSError:
        return False
    return True


def _refusal_to_write(folder: Path) -> str:
    """Why no file can be made in a folder, or in the one in which it would be made; '' where one can.

    One is made and gone again: what rights say is not all, as on a disk that is full or a network's.
    """
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with TemporaryFile(dir=there) as file:
            file.write(bytes(BLOCK))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _sizes(folder: Path) -> list[int]:
    """Bytes of all files below a folder; of what disappears meanwhile, none."""
    sizes = []
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                sizes.append(Path(parent, name).lstat().st_size)
            except OSError:
                continue
    return sizes
