"""Unpacks what data sets are handed out in, without letting anything leave the folder it goes to."""

from __future__ import annotations

import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from transeg.core.errors import DataError, UsageError

MEGABYTE = 2**20
LARGE = 2**30
RATIO = 200
"""Archives that unpack to more than :data:`LARGE` and more than this times their own size are refused: images, which
every data set has, hardly shrink."""

DAMAGES = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
)


@dataclass(frozen=True)
class Member:
    """A file in an archive or folder: its name with slashes, its size, and how to open it."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


@dataclass(frozen=True)
class Contents:
    """What is in an archive or folder, in the order in which it is read best.

    Attributes:
        members: regular files.
        position: bytes of the source that have been read so far.
    """

    members: Iterator[Member]
    position: Callable[[], int]


def unpack(source: Path, folder: Path, advance: Callable[[], None]) -> None:
    """Write the files of an archive or folder into a folder that exists.

    Args:
        source: a zip or tar archive, compressed or not, or a folder.
        folder: where to; nothing is written beside it, and nothing in it is overwritten.
        advance: called for each megabyte of the source.

    Raises:
        DataError: it is damaged, or holds what must not be unpacked; the message is a sentence.
        UsageError: it is neither an archive nor a folder.
    """
    inside = folder.resolve()
    limit = max(LARGE, RATIO * source.stat().st_size) if source.is_file() else None
    total = shown = 0
    try:
        with _opened(source) as contents:
            for member in contents.members:
                place = (folder / member.name).resolve()
                if not place.is_relative_to(inside) or place == inside:
                    raise DataError(f"{source} has the member {member.name!r}, which lies outside; it is not unpacked.")
                total += member.size
                if limit is not None and total > limit:
                    raise DataError(f"{source} unpacks to more than {RATIO} times its size; it is not unpacked.")
                if member.size > shutil.disk_usage(folder).free:
                    raise DataError(f"{source} needs more room than the disk of {folder.parent} has left.")
                for _ in _written(member, place, source):
                    while shown < contents.position() // MEGABYTE:
                        advance()
                        shown += 1
    except DAMAGES as error:
        raise DataError(f"{source} is truncated or damaged ({error}); download it again.") from error


def megabytes(source: Path) -> int:
    """How often :func:`unpack` advances."""
    files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files) // MEGABYTE


def _written(member: Member, place: Path, source: Path) -> Iterator[None]:
    """Write a member, piece by piece."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = place.open("xb")
    except FileExistsError as error:
        raise DataError(f"{source} has the member {member.name!r}, which is there already.") from error
    with file, member.open() as content:
        while piece := content.read(MEGABYTE):
            file.write(piece)
            yield


@contextmanager
def _opened(source: Path) -> Iterator[Contents]:
    if source.is_dir():
        read = [0]
        yield Contents(_in_folder(source, read), lambda: read[0])
        return
    try:
        file = source.open("rb")
    except OSError as error:
        raise UsageError(f"{source} cannot be read: {error.strerror}.") from error
    with file:
        beginning = file.read(4)
        file.seek(0)
        if beginning[:2] == b"PK":
            with zipfile.ZipFile(file) as archive:
                yield Contents(_in_zip(source, archive), file.tell)
        elif _is_tar(file):
            with tarfile.open(fileobj=file) as archive_of_tape:
                yield Contents(_in_tar(source, archive_of_tape), file.tell)
        else:
            raise UsageError(
                f"{source} is neither a folder nor a zip or tar archive; if it is a page that asks for a login, "
                "download again; if it is another kind of archive, unpack it and import the folder."
            )


def _is_tar(file: IO[bytes]) -> bool:
    try:
        return tarfile.is_tarfile(file)
    finally:
        file.seek(0)


def _in_zip(source: Path, archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _special(source, info.filename)
        if info.flag_bits & 1:
            raise DataError(f"{source} is encrypted; unpack it and import the folder.")
        if not info.is_dir() and not _clutter(info.filename):
            yield Member(info.filename, info.file_size, partial(archive.open, info))


def _in_tar(source: Path, archive: tarfile.TarFile) -> Iterator[Member]:
    for info in archive:
        if not (info.isreg() or info.isdir()):
            raise _special(source, info.name)
        if info.isreg() and not _clutter(info.name):
            yield Member(info.name, info.size, partial(_in_tape, archive, info))
    # tarfile takes a header that is cut short for the end, and does not read on to the checksum of the compression
    tape = archive.fileobj
    assert tape is not None
    tape.seek(archive.offset)
    if tape.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it has no end")
    while tape.read(MEGABYTE):
        pass


def _in_tape(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(info)
    assert content is not None  # only what is no file has none
    return content


def _in_folder(source: Path, read: list[int]) -> Iterator[Member]:
    for path in sorted(source.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise _special(source, str(path.relative_to(source)))
        if path.is_file() and not _clutter(path.name):
            size = path.stat().st_size
            read[0] += size
            yield Member(path.relative_to(source).as_posix(), size, partial(_file, path))


def _file(path: Path) -> IO[bytes]:
    return path.open("rb")


def _special(source: Path, name: str) -> DataError:
    return DataError(f"{source} has the member {name!r}, a link or a device; it is not unpacked.")


def _clutter(name: str) -> bool:
    """What the archivers of desktops leave behind."""
    return name.startswith("__MACOSX/") or name.rpartition("/")[2] in (".DS_Store", "Thumbs.db", "desktop.ini")
