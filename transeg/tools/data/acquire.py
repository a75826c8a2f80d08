"""Brings datasets onto this machine: whole and checked, or not at all."""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from transeg.core.builders.datasets import build_dataset
from transeg.core.data.archives import megabytes, unpack
from transeg.core.distributed.progress_bar import download_meter, progress_bar
from transeg.core.errors import DataError, TransegError, UsageError
from transeg.core.experiment.choices import DatasetChoice
from transeg.core.manifest import Archive, Component, DatasetEntry
from transeg.core.registry import Registry
from transeg.tools.data.inventory import is_nonempty_folder, require_data_root


def acquire_dataset(
    name: str, sources: Sequence[Path], registry: Registry, console: Console, *, root: Path | None
) -> dict[str, Any]:
    """Unpack archives or folders as they were downloaded into ``ROOT/NAME``.

    What is imported is opened as the dataset before it takes its place; until then, and whatever happens, what was in
    ``ROOT/NAME`` stays as it was. Further archives of the same dataset are added to what is there.

    Args:
        name: of the dataset.
        sources: archives or folders.
        registry: where components come from.
        console: for progress.
        root: the folder that holds a folder for each dataset; None for TRANSEG_DATA.

    Returns:
        ``dataset``, its ``folder``, ``images`` in it, ``added``: how many files are new, and ``faults`` by file.

    Raises:
        TransegError: it could not be imported.
    """
    component = registry.find("dataset", name)
    if not registry.describe(component).needs_root:
        raise UsageError(f"The dataset {name} reads no folder, so there is nothing to import.")
    place = require_data_root(root) / component.name
    if place.is_symlink():
        raise UsageError(f"{place} is a link; import into what it links to, with another --root.")
    with _staged(place) as staging:
        for source in sources:
            with progress_bar(console, f"reading {source.name}", megabytes(source), "megabytes") as advance:
                unpack(source, staging, advance)
        read = " and ".join(map(str, sources))
        _checked_or_unwrapped(component, staging, read, registry)
        added = _joined(staging, place, read)
        images, faults = _checked(component, staging, read, registry)
        if added:
            _exchange(staging, place)
    faults = [{key: text.replace(str(staging), str(place)) for key, text in fault.items()} for fault in faults]
    return {"dataset": name, "folder": str(place), "images": images, "added": added, "faults": faults}


def download_dataset(name: str, registry: Registry, console: Console, *, root: Path | None) -> dict[str, Any]:
    """Fetch a dataset's archives from its authors and import them; see :func:`acquire_dataset`.

    Raises:
        TransegError: it is not to be had by a program, or could not be fetched. The message says where it is.
    """
    component = registry.find("dataset", name)
    entry = component.entry
    assert isinstance(entry, DatasetEntry)
    terms = f" Its terms: {entry.licence}." if entry.licence else ""
    if not entry.archives:
        where = f"Get it from {entry.url}" if entry.url else "Its authors name no place"
        raise TransegError(
            f"The dataset {name} cannot be downloaded by a program. {where}, then run: "
            f"toolkit data import {name} ARCHIVE.{terms}"
        )
    base = require_data_root(root)
    if is_nonempty_folder(base / component.name):
        raise UsageError(f"{base / component.name} is there already; remove it to download {name} again.")
    console.print(f"{name}: {entry.url}.{terms}", highlight=False, soft_wrap=True)
    downloads = base / f".{component.name}.downloads"
    with _sentences(downloads):
        try:
            files = [_fetched(archive, downloads, console) for archive in entry.archives]
        except TransegError:
            with suppress(OSError):
                downloads.rmdir()  # what came whole stays for the next attempt
            raise
        try:
            return acquire_dataset(name, files, registry, console, root=base)
        finally:
            shutil.rmtree(downloads)


def _fetched(archive: Archive, folder: Path, console: Console) -> Path:
    """A file from the net, as its authors published it."""
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    if not archive.sha256:
        console.print(f"No checksum of {archive.url} is published, so only its readability is checked.", soft_wrap=True)
    try:
        with download_meter(console, archive.url.rpartition("/")[2]) as meter:
            path = pooch.retrieve(
                archive.url,
                known_hash=f"sha256:{archive.sha256}" if archive.sha256 else None,
                fname=archive.url.rpartition("/")[2],
                path=folder,
                downloader=pooch.HTTPDownloader(progressbar=meter, timeout=60),
            )
    except requests.RequestException as error:
        answer = error.response
        reason = "its server cannot be reached" if answer is None else f"its server answers {answer.status_code}"
        raise TransegError(f"{archive.url} cannot be downloaded: {reason}.") from error
    except ValueError as error:
        raise TransegError(
            f"{archive.url} is not what its authors published: its SHA-256 differs. Nothing of it is kept."
        ) from error
    return Path(path)


@contextmanager
def _staged(place: Path) -> Iterator[Path]:
    """A folder beside a place, alone there and gone in the end, whatever earlier attempts have left."""
    staging, replaced = place.with_name(f".{place.name}.importing"), _replaced(place)
    with _sentences(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(place.with_name(f".{place.name}.lock"), timeout=0):
                if replaced.exists() and not place.exists():
                    replaced.rename(place)  # stopped between the two renames of an exchange
                for stale in (staging, _lifted(staging), replaced):
                    shutil.rmtree(stale, ignore_errors=True)
                staging.mkdir()
                try:
                    yield staging
                finally:
                    shutil.rmtree(staging, ignore_errors=True)
        except Timeout as error:
            raise UsageError(f"Another process is importing into {place}; wait for it.") from error


@contextmanager
def _sentences(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TransegError(
                f"The disk of {place.parent} is full, so nothing was imported; make room or choose another --root."
            ) from error
        raise TransegError(f"{place} cannot be written: {error.strerror or error}.") from error


def _checked_or_unwrapped(component: Component, staging: Path, read: str, registry: Registry) -> None:
    """Open the dataset, and where that fails and one folder holds everything, in that folder, which is moved up."""
    try:
        _checked(component, staging, read, registry)
    except TransegError:
        inner = list(staging.iterdir())
        if len(inner) != 1 or not inner[0].is_dir():
            raise
        lifted = inner[0].rename(_lifted(staging))
        staging.rmdir()
        lifted.rename(staging)
        _checked(component, staging, read, registry)


def _checked(component: Component, folder: Path, read: str, registry: Registry) -> tuple[int, list[dict[str, str]]]:
    """The number of a dataset's images, and what is wrong with its list of files.

    Raises:
        TransegError: it cannot be opened, or has no image.
    """
    images, faults = 0, []
    for domain in component.domains or (None,):
        choice = DatasetChoice(name=component.name, root=folder, domain=domain, split="all")
        try:
            dataset = build_dataset(choice, "test", registry)
            if len(dataset):
                dataset[0]
        except TransegError as error:
            reason = str(error).replace(str(folder), read)
            raise DataError(f"This is not {component.name} in a known layout: {reason}") from error
        images += len(dataset)
        faults += [{"file": fault.file, "reason": fault.reason} for fault in dataset.faults]
    if not images:
        raise DataError(f"This is not {component.name} in a known layout: {read} holds none of its images.")
    return images, faults


def _joined(staging: Path, place: Path, read: str) -> int:
    """Add to a folder what a place already holds, without copying it; gives how many files are new.

    Raises:
        DataError: a file is there with another content.
    """
    added = sum(path.is_file() for path in staging.rglob("*"))
    for old in sorted(place.rglob("*")) if place.is_dir() else ():
        new = staging / old.relative_to(place)
        if old.is_dir() and not old.is_symlink():
            new.mkdir(exist_ok=True)
        elif not new.exists():
            new.parent.mkdir(parents=True, exist_ok=True)
            _link(old, new)
        elif filecmp.cmp(old, new, shallow=False):
            added -= 1
        else:
            raise DataError(f"{old} is there already and is not the same as in {read}; remove one of the two.")
    return added


def _link(old: Path, new: Path) -> None:
    try:
        os.link(old, new, follow_symlinks=False)
    except OSError:  # not every file system has links
        shutil.copy2(old, new, follow_symlinks=False)


def _exchange(staging: Path, place: Path) -> None:
    replaced = _replaced(place)
    if place.exists():
        place.rename(replaced)
    staging.rename(place)
    shutil.rmtree(replaced, ignore_errors=True)


def _lifted(staging: Path) -> Path:
    return staging.with_name(f"{staging.name}.inner")


def _replaced(place: Path) -> Path:
    return place.with_name(f".{place.name}.replaced")
