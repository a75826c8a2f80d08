"""Which files there are in folders that people have named and filled in their own ways."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from transeg.core.data.images import EXTENSIONS
from transeg.core.data.unread_endings import say_unread, unread_ending
from transeg.core.interfaces import Fault

IMAGES = ("images", "image", "imgs", "img")
MASKS = (
    "masks",
    "mask",
    "labels",
    "label",
    "ground truth",
    "ground truths",
    "gt",
    "gts",
    "annotations",
    "annotation",
    "segmentations",
    "segmentation",
)
"""What people call their folders; :func:`find_folder` takes them in any capitals, the first that exists."""
MASK_ENDS = tuple(
    f"{gap}{word}"
    for gap in "_-"
    for word in ("mask", "masks", "segmentation", "seg", "label", "labels", "gt", "groundtruth", "annotation", "anno")
)
"""What the name of a mask may have behind that of its image, in any capitals."""
SYSTEM = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx"})
"""Names of files and folders that systems leave, beside those that begin with a dot."""


def plain_name(name: str) -> str:
    """A name by which those that look alike are equal: composed characters, no capitals."""
    return unicodedata.normalize("NFC", name).casefold()


def is_left_by_system(name: str) -> bool:
    """Whether a file or folder is hidden, or none that a person made."""
    return name.startswith(".") or name.casefold() in SYSTEM


def find_folder(root: Path, *choices: str) -> Path | None:
    """The first of the named folders in a root; ``a/b`` goes down.

    Capitals do not matter, nor whether words are apart by a space, ``_``, ``-`` or nothing; but a folder that is called
    just as one of the choices comes first.
    """
    inside: dict[Path, dict[str, Path]] = {}
    for alike in (False, True):
        for choice in choices:
            folder: Path | None = root
            for part in choice.split("/"):
                if folder is None or part == ".":
                    continue
                if folder not in inside:
                    inside[folder] = _folders_in(folder)
                folder = inside[folder].get(part) or (inside[folder].get(_without_gaps(part)) if alike else None)
            if folder is not None:
                return folder
    return None


def _folders_in(folder: Path) -> dict[str, Path]:
    """Folders by name, and by :func:`_without_gaps` of it; where that is equal, the first counts."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:  # which asks the system once, where a call for each takes 50,000
        names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    alike = {_without_gaps(name): folder / name for name in reversed(names)}
    return alike | {name: folder / name for name in names}


def _without_gaps(name: str) -> str:
    return plain_name(name).translate({ord(gap): None for gap in " _-"})


def natural_sort_key(text: str) -> list[tuple[int, Any]]:
    """A sort key by which ``frame10`` comes after ``frame9``."""
    parts: list[tuple[int, Any]] = []
    digits = ""
    for character in [*text, ""]:
        if character.isdigit():
            digits += character
            continue
        if digits:
            parts.append((0, int(digits)))
            digits = ""
        parts.append((1, character))
    return parts


def files_by_stem(
    folder: Path, endings: Collection[str] = EXTENSIONS, deeper: bool = False
) -> tuple[dict[str, Path], list[Fault]]:
    """Files of a folder by stem, in natural order, and which of them share one.

    Stems are composed (NFC): a Mac decomposes the accents in names, others do not, and they look the same.

    Args:
        folder: of the files.
        endings: that count, in lower case.
        deeper: whether those in subfolders count where the folder itself holds none; their stems have the subfolder
            before them, as in ``patient1/3``.

    Raises:
        ValueError: the folder does not exist.
    """
    if not folder.is_dir():
        raise ValueError(f"the folder {folder} does not exist")
    files: dict[str, list[Path]] = defaultdict(list)
    with os.scandir(folder) as entries:  # a link to nothing stays, so that it is named when it is opened
        paths = [folder / entry.name for entry in entries if not entry.is_dir()]
    for path in _with_ending(paths, endings):
        files[stem_of(path.name)].append(path)
    if not EXTENSIONS.isdisjoint(endings) and any(unread_ending(path) not in ("", *endings) for path in paths):
        say_unread(folder)
    if not files and deeper:
        for inner, folders, names in os.walk(folder):
            folders[:] = sorted(name for name in folders if not is_left_by_system(name))
            for path in _with_ending((Path(inner, name) for name in names), endings):
                files[f"{Path(inner).relative_to(folder).as_posix()}/{stem_of(path.name)}"].append(path)
    faults = [
        Fault(str(paths[1]), f"{paths[0]} and {paths[1].name} share the name {stem!r}; only the first is used.")
        for stem, paths in ((stem, sorted(paths)) for stem, paths in files.items())
        if len(paths) > 1
    ]
    return {stem: min(files[stem]) for stem in sorted(files, key=natural_sort_key)}, faults


def stem_of(name: str) -> str:
    """A file's name without its ending, composed."""
    return unicodedata.normalize("NFC", Path(name).stem)


def _with_ending(paths: Iterable[Path], endings: Collection[str]) -> Iterable[Path]:
    return (path for path in paths if path.suffix.lower() in endings and not is_left_by_system(path.name))


def masks_by_image(
    images: Collection[str],
    masks: Collection[str],
    mask_stem: Callable[[str], str],
    *,
    guess: bool,
    together: bool = False,
) -> dict[str, tuple[str, ...]]:
    """The stems of the masks of every image that has some.

    Args:
        images: stems of images.
        masks: stems of what may be their masks.
        mask_stem: what a mask is called, by its image.
        guess: whether, where nothing is called so, masks are looked for that have something of :data:`MASK_ENDS` behind
            the names of their images, or of its like before them.
        together: whether the masks are among the images, so that none is a mask of itself, unless all are: drawn label
            maps are images of themselves.

    Returns:
        By stem of the image; one mask each, but where further ones are numbered: ``x_mask_1``, ``x_mask_2``.
    """
    by_plain: dict[str, str] = {}
    for name in masks:
        by_plain.setdefault(plain_name(name), name)
    forms = [mask_stem, *_forms()] if guess else [mask_stem]
    for form in forms:
        found: dict[str, tuple[str, ...]] = {}
        for stem in images:
            parent, slash, name = stem.rpartition("/")
            wanted = f"{parent}{slash}{form(name)}"
            mask = wanted if wanted in masks else by_plain.get(plain_name(wanted))
            if mask is not None and not (together and mask == stem):
                found[stem] = (mask,) if mask == stem else (mask, *_numbered(mask, by_plain))
        if found:
            return found
    return {stem: (stem,) for stem in images} if together and guess else {}


def has_masks_beside(stems: Collection[str]) -> bool:
    """Whether among images of one folder there are some with a mask of their name and something of
    :data:`MASK_ENDS`.
    """
    ends = tuple(MASK_ENDS)
    plain = {plain_name(stem) for stem in stems}
    return any(stem.endswith(end) and stem.removesuffix(end) in plain for stem in plain for end in ends)


def _forms() -> Iterator[Callable[[str], str]]:
    """What a mask may be called, by its image."""
    for end in MASK_ENDS:
        yield partial(_around, "", end)
    for end in MASK_ENDS:
        yield partial(_around, f"{end[1:]}{end[0]}", "")


def _around(before: str, behind: str, name: str) -> str:
    return f"{before}{name}{behind}"


def _numbered(mask: str, by_plain: Mapping[str, str]) -> Iterator[str]:
    """``x_mask_1``, ``x_mask_2``, ... of ``x_mask``."""
    number = 1
    while (name := by_plain.get(plain_name(f"{mask}_{number}"))) is not None:
        yield name
        number += 1
