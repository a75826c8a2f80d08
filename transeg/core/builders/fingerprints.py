"""What a data set consists of, wherever it lies."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from transeg.core.interfaces import Dataset


def fingerprint(dataset: Dataset, root: Path | None) -> str:
    """The number of samples, and a digest of the names and sizes of their files, in order.

    Of samples that are made of no files (phantoms), or of which their data set does not say so, only the number counts.

    Args:
        dataset: any.
        root: its folder; names of files count within it.
    """
    digest = hashlib.sha256()
    size_of = cache(lambda file: file.stat().st_size)
    for index in range(len(dataset)):
        origin = dataset.origin_of(index)
        if origin is None:
            return f"{len(dataset)} images"
        for file in origin.files:
            name = file.relative_to(root).as_posix() if root is not None and file.is_relative_to(root) else file.name
            digest.update(f"{name}\0{size_of(file)}\n".encode())
    return f"{len(dataset)} images, {digest.hexdigest()[:16]}"
