"""Files that are there whole or not at all, and names for them."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from transeg.core.data.images import write_image
from transeg.core.errors import TransegError


def file_name(name: str) -> str:
    """A file name without separators or anything else that a file system may refuse.

    Names that differ stay different: where something had to be replaced, a checksum of the name follows.
    """
    safe = "".join(c if c.isalnum() or c in "-_.() " else "_" for c in name)[:100]
    return safe if safe == name else f"{safe}-{zlib.crc32(name.encode()):08x}"


def image_suffix(pixels: np.ndarray) -> str:
    """The ending of a lossless format that holds ``(H, W, C)`` of its type."""
    eight_bits, channels = pixels.dtype == np.uint8, pixels.shape[2]
    grey = pixels.dtype == np.uint16 and channels == 1
    return ".png" if (eight_bits and channels in (1, 3)) or grey else ".tif"


def write_whole(path: Path, pixels: np.ndarray) -> None:
    """Write an image beside its place and rename it."""
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    write_image(temporary, pixels)
    temporary.replace(path)


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
    """Write a text file beside its place and rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise TransegError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        temporary.unlink(missing_ok=True)
