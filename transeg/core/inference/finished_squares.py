"""The finished squares of a mask, in a file that grows: whoever is killed goes on behind the last of them."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from transeg.core.errors import TransegError, UsageError

HEAD = b"transeg squares 1\n"
RECORD = struct.Struct("<QQQI")
"""Height and width of a square, bytes of it compressed, and their checksum."""


@contextmanager
def finishing_squares(path: Path, identity: bytes) -> Iterator[FinishedSquares]:
    """Keep squares in a file that is gone once all has gone well.

    Args:
        path: see :class:`FinishedSquares`.
        identity: likewise.

    Raises:
        UsageError: another process adds to the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f"{path.name}.lock")
    try:
        with FileLock(lock, timeout=0):
            try:
                yield FinishedSquares(path, identity)
                path.unlink(missing_ok=True)
            finally:
                lock.unlink(missing_ok=True)
    except Timeout as error:
        raise UsageError(f"Another process writes {path}; wait for it, or choose another folder with --out.") from error


class FinishedSquares:
    """Squares of a label map, in their order.

    Args:
        path: the file; one that another computation has begun is begun anew.
        identity: of the computation, 16 bytes.
    """

    def __init__(self, path: Path, identity: bytes) -> None:
        self._path = path
        self._head = HEAD + identity
        self._ends = [len(self._head)]
        if not self._is_own():
            path.write_bytes(self._head)
            return
        self._ends += self._found()
        os.truncate(path, self._ends[-1])  # what was being written

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, square: np.ndarray) -> None:
        """Keep the next square, ``(h, w)`` uint8.

        Raises:
            TransegError: it cannot be written.
        """
        content = zlib.compress(np.ascontiguousarray(square).data, 1)
        record = RECORD.pack(*square.shape, len(content), zlib.crc32(content)) + content
        try:
            with self._path.open("ab") as file:
                file.write(record)
        except OSError as error:
            raise TransegError(f"{self._path} cannot be written: {error.strerror or error}.") from error
        self._ends.append(self._ends[-1] + len(record))

    def __iter__(self) -> Iterator[np.ndarray]:
        with self._path.open("rb") as file:
            for begin in self._ends[:-1]:
                file.seek(begin)
                height, width, length, _ = RECORD.unpack(file.read(RECORD.size))
                yield np.frombuffer(zlib.decompress(file.read(length)), np.uint8).reshape(height, width)

    def _is_own(self) -> bool:
        if not self._path.is_file():
            return False
        with self._path.open("rb") as file:
            return file.read(len(self._head)) == self._head

    def _found(self) -> Iterator[int]:
        """Where each square ends that is whole in the file."""
        with self._path.open("rb") as file:
            file.seek(len(self._head))
            while len(record := file.read(RECORD.size)) == RECORD.size:
                _, _, length, checksum = RECORD.unpack(record)
                if length > self._path.stat().st_size or zlib.crc32(file.read(length)) != checksum:
                    return
                yield file.tell()
