"""Files that are there whole or not at all, names for them, and what the layout of a dataset cannot say."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from transeg.core.data.images import write_image
from transeg.core.errors import DataError
from transeg.core.files import replacing, write_json, write_text
from transeg.core.interfaces import IGNORE, About, Sample, Written

MANIFEST = "manifest.json"
"""What a written tree says of its samples, by the stem of their files."""
ABOUT = "about.json"
"""What it says of all of them."""
SUFFIXES = (".png", ".tif")
"""Of the formats that images are written in."""


def file_name(name: str) -> str:
    """A file name without separators or anything else that a file system may refuse.

    Names that differ stay different: where something had to be replaced, a checksum of the name follows.
    """
    safe = "".join(c if c.isalnum() or c in "-_.() " else "_" for c in name)[:100].strip(". ")
    return safe if safe == name else f"{safe}-{zlib.crc32(name.encode()):08x}"


def image_suffix(pixels: np.ndarray) -> str:
    """The ending of a lossless format that holds ``(H, W, C)`` of its type."""
    eight_bits, channels = pixels.dtype == np.uint8, pixels.shape[2]
    grey = pixels.dtype == np.uint16 and channels == 1
    return SUFFIXES[0] if (eight_bits and channels in (1, 3)) or grey else SUFFIXES[1]


def write_atomically(path: Path, pixels: np.ndarray) -> None:
    """Write an image whole or not at all; see :func:`transeg.core.data.images.write_image`."""
    write_together({path: pixels})


def write_together(files: Mapping[Path, np.ndarray | bytes]) -> None:
    """Write the files of one sample, pixels as images, each whole or not at all; where the last is there, all are.

    They get their names at once when all are written, so that a kill hardly ever leaves one without the others. Nobody
    waits for the disk: of a hundred thousand files that would take hours.
    """
    with ExitStack() as stack:  # leaves in the reverse order
        for path, content in reversed(list(files.items())):
            unfinished = stack.enter_context(replacing(path, durable=False))
            if isinstance(content, bytes):
                unfinished.write_bytes(content)
            else:
                write_image(unfinished, content)


def has_image(folder: Path, name: str) -> bool:
    """Whether an image of a name is in a folder, in one of the formats of :func:`image_suffix`."""
    return any((folder / f"{name}{suffix}").exists() for suffix in SUFFIXES)


def read_records(root: Path) -> dict[str, Written]:
    """What a tree's ``manifest.json`` says of its samples, by stem; nothing where there is none, or another program's.

    Manifests of images that were made from others say of each what it was made of, but no split: there, names are not
    the samples' own.

    Raises:
        DataError: it cannot be used.
    """
    path = root / MANIFEST
    if not path.is_file():
        return {}
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(table, dict) or not all(isinstance(e, dict) and "name" in e for e in table.values()):
            return {}
        return {stem: _record(entry) for stem, entry in table.items()}
    except (OSError, ValueError, TypeError, IndexError) as error:
        raise DataError(f"{path} cannot be read: {error}.", str(path)) from error


def _record(entry: dict[str, Any]) -> Written:
    size = entry.get("pixel_size")
    sides = None if size is None else (float(size[0]), float(size[1]))
    return Written(str(entry["name"]), str(entry.get("split", "")), str(entry.get("group", "")), sides)


def write_records(root: Path, records: Mapping[str, Written]) -> None:
    """Say of samples in ``manifest.json`` what files cannot; what it says of others stays.

    Args:
        root: of the tree.
        records: by the stem of their files.
    """
    together = {**read_records(root), **records}
    write_json(root / MANIFEST, {stem: asdict(together[stem]) for stem in sorted(together)})


def read_about(root: Path) -> About | None:
    """What a tree's ``about.json`` says; None where there is none.

    Raises:
        DataError: it cannot be used.
    """
    path = root / ABOUT
    if not path.is_file():
        return None
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return About(tuple(map(str, said["classes"])), int(said["channels"]), str(said["name"]))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} cannot be read: {error}.", str(path)) from error


def write_about(root: Path, about: About) -> None:
    """Say in ``about.json`` what holds for a whole tree: its classes, by which masks are numbered, and its channels."""
    write_json(root / ABOUT, {"name": about.name, "classes": about.classes, "channels": about.channels})


def write_table(path: Path, head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Write a table whose cells are apart by tabs, whole or not at all."""
    write_text(path, "".join("\t".join(line) + "\n" for line in [head, *rows]))


def check_announced(sample: Sample, about: About) -> None:
    """Whether a sample has the channels and classes that were announced.

    Raises:
        DataError: it has not.
    """
    if sample.image.shape[2] != about.channels:
        raise DataError(f"{sample.name} has {sample.image.shape[2]} channels, not {about.channels}.")
    if sample.mask is not None:
        largest = int(np.where(sample.mask == IGNORE, 0, sample.mask).max(initial=0))
        if largest >= len(about.classes):
            raise DataError(f"{sample.name} has the class {largest}, but there are {len(about.classes)}.")
