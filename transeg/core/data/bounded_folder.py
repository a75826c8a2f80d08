"""A folder of files that processes share, of which those used longest ago make room."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

import torch
from filelock import FileLock

from transeg.core.data.serialization import Buffer

BLOCK = 4096
"""Bytes in which disks are filled."""
LATELY = 3600.0
"""Seconds for which a file counts as used without being marked again, and unfinished ones as being written."""
SPARE = 2**30
"""Bytes of the disk that are left free: a run needs them for its checkpoints."""
ROOM = 0.95
"""Share of the limit that is left by making room, so that not every new file has to look for the oldest."""
ENDINGS = (".sample", ".key")
"""Of the files that are kept; the folder may be one that a user keeps other things in."""
PATIENCE = 10.0
"""Seconds to wait for another process to finish its writing."""

logger = logging.getLogger("transeg.data")
_said: set[Path] = set()


class BoundedFolder:
    """Files by name, whole or not there, of bounded size together.

    Files used since this object was made do not make room: those of one training, if they do not all fit, would else
    push each other out in turn, and hardly any would be there when it is wanted again.

    Where nothing can be written, one of the processes that share this object says so, and none tries again; so it is
    said once of a run, whose trainings have an object each.

    Args:
        path: the folder; made where it is missing.
        limit: bytes of all files together.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self._limit = limit
        self._began = time.time()
        self._full = False
        self._broken = torch.zeros(1, dtype=torch.uint8).share_memory_()
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=path):
                pass
        except OSError as error:
            self._give_up(error)

    def keep(self, name: str, parts: Sequence[Buffer]) -> None:
        """Write a file, if there is room or can be."""
        size = _on_disk(sum(map(len, parts)))
        if self._full or self._broken.item() or size > self._limit:
            return
        try:
            if shutil.disk_usage(self.path).free < size + SPARE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            unfinished = self._written(parts)
            try:
                with FileLock(self.path / ".lock", timeout=PATIENCE):
                    if self._has_room(size):
                        unfinished.replace(self.path / name)
            finally:
                unfinished.unlink(missing_ok=True)
        except (OSError, NotImplementedError) as error:
            self._give_up(error)

    def used(self, name: str, state: os.stat_result) -> None:
        """Note that a file in this state is used."""
        if state.st_mtime < max(self._began, time.time() - LATELY):
            try:
                os.utime(self.path / name)
            except OSError:  # a folder that one may only read
                return

    def _written(self, parts: Sequence[Buffer]) -> Path:
        with NamedTemporaryFile(dir=self.path, prefix=".", suffix=".part", delete=False) as file:
            try:
                file.writelines(parts)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        return Path(file.name)

    def _has_room(self, size: int) -> bool:
        """Whether this many bytes more are within the limit; then they count. Call it with the lock held."""
        count = self.path / ".bytes"
        try:
            total = int(count.read_text())
        except (FileNotFoundError, ValueError):
            total = self._limit
        if total + size > self._limit:
            total = self._make_room(size)
            self._full = total + size > self._limit
        count.write_text(str(total if self._full else total + size))
        return not self._full

    def _make_room(self, size: int) -> int:
        """Remove what was used longest ago, if this many bytes more would be beyond the limit; the bytes left."""
        files = list_contents(self.path)
        total = sum(length for _, length, _ in files)
        if total + size <= self._limit:
            return total  # processes that were killed, or wrote the same file, had counted too much
        for used, length, path in sorted(files):
            if used >= self._began or total + size <= self._limit * ROOM:
                break
            path.unlink(missing_ok=True)
            total -= length
        return total

    def _give_up(self, error: Exception) -> None:
        said = bool(self._broken.item()) or self.path in _said
        self._broken.fill_(1)
        _said.add(self.path)
        if not said:
            reason = getattr(error, "strerror", None) or str(error)
            logger.warning(
                "Decoded images cannot be kept in %s: %s. The run goes on and decodes what is not there each time; "
                "TRANSEG_CACHE names another folder, data.cache=off keeps nothing.",
                self.path,
                reason.rstrip("."),
            )


def list_contents(folder: Path) -> list[tuple[float, int, Path]]:
    """When each file in a folder was used, its bytes, and its path; what is being written does not count, nor what
    somebody else has put there.
    """
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                state = entry.stat()
            except FileNotFoundError:
                continue
            if entry.name.startswith("."):
                own = entry.name.endswith(".part") and state.st_mtime < time.time() - LATELY
            else:
                own = entry.name.endswith(ENDINGS)
            if own:
                found.append((state.st_mtime, _on_disk(state.st_size), Path(entry.path)))
    return found


def _on_disk(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
