"""Datasets of image files with mask files, matched by stem."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transeg.core.data.images import EXTENSIONS, read_binary_mask, read_image, read_label_map
from transeg.core.data.splits import FOLDERS, split_by_lists, split_by_ratio
from transeg.core.errors import DataError
from transeg.core.interfaces import Dataset, Fault, Sample


@dataclass(frozen=True)
class Pair:
    """An image file, its mask file or None, and the group that splits never cut."""

    image: Path
    mask: Path | None
    group: str

    @property
    def name(self) -> str:
        """The image's stem."""
        return self.image.stem


class FileDataset(Dataset):
    """Images and masks in files.

    Args:
        pairs: of the chosen split.
        faults: found while they were listed.
    """

    values: Mapping[int, int] | None = None
    """Class of every mask value; None for masks of one class, which are cut at half of their range."""

    def __init__(self, pairs: Sequence[Pair], faults: Sequence[Fault] = ()) -> None:
        self.pairs = list(pairs)
        self.faults = list(faults)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        pair = self.pairs[index]
        image = read_image(pair.image, self.channels)
        mask = None if pair.mask is None else self._read_mask(pair.mask)
        if mask is not None and mask.shape != image.shape[:2]:
            raise DataError(
                f"{pair.image} has {_size(image)} pixels, but its mask {pair.mask} has {_size(mask)}; they must agree.",
                str(pair.image),
            )
        return Sample(image, mask, pair.name, pair.group)

    def _read_mask(self, path: Path) -> np.ndarray:
        return read_binary_mask(path) if self.values is None else read_label_map(path, self.values)


def list_pairs(
    images: Path,
    masks: Path | None,
    *,
    group: Callable[[str], str] = lambda stem: stem,
    mask_stem: Callable[[str], str] = lambda stem: stem,
) -> tuple[list[Pair], list[Fault]]:
    """Match images with masks by stem.

    Args:
        images: folder of images.
        masks: folder of masks, or None for images without labels.
        group: an image's group, from its stem.
        mask_stem: the stem of an image's mask, from its own.

    Returns:
        Pairs in natural order of their names, and what does not fit: an image without a mask, a mask without an
        image, two files of one stem.

    Raises:
        ValueError: a folder does not exist, or no image has a mask.
    """
    image_files, faults = _by_stem(images)
    if masks is None:
        return [Pair(path, None, group(stem)) for stem, path in image_files.items()], faults
    mask_files, mask_faults = _by_stem(masks)
    faults += mask_faults
    pairs = []
    for stem, path in image_files.items():
        mask = mask_files.pop(mask_stem(stem), None)
        if mask is None:
            faults.append(Fault(str(path), f"{path} has no mask {mask_stem(stem)}.* in {masks}."))
        else:
            pairs.append(Pair(path, mask, group(stem)))
    faults += [Fault(str(path), f"{path} is the mask of no image in {images}.") for path in mask_files.values()]
    if not pairs:
        raise ValueError(f"no image in {images} has a mask of the same name in {masks}")
    return pairs, faults


def split_folders(root: Path) -> dict[str, Path]:
    """Subfolders of a root that are splits, by split."""
    found = [(split, find_folder(root, name)) for name, split in FOLDERS.items()]
    return {split: folder for split, folder in found if folder is not None}


def choose_split(
    pairs: Sequence[Pair],
    split: str,
    *,
    lists: Mapping[str, Sequence[str]] | None,
    where: str,
    ratio: Sequence[float],
    seed: int,
) -> list[Pair]:
    """The pairs of a split, by lists of names where there are any, else by ratio."""
    if split == "all":
        return list(pairs)
    if lists is not None:
        members = split_by_lists([pair.name for pair in pairs], lists, where)
    else:
        members = split_by_ratio([pair.group for pair in pairs], ratio, seed)
    return [pairs[index] for index in members[split]]


def find_folder(root: Path, *choices: str) -> Path | None:
    """The first of the named folders in a root, whatever their capitals; ``a/b`` goes down."""
    for choice in choices:
        folder: Path | None = root
        for part in choice.split("/"):
            names = (
                {entry.name.lower(): entry for entry in sorted(folder.iterdir()) if entry.is_dir()} if folder else {}
            )
            folder = names.get(part.lower())
        if folder is not None:
            return folder
    return None


def natural(text: str) -> list[tuple[int, Any]]:
    """A sort key by which ``frame10`` comes behind ``frame9``."""
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


def _by_stem(folder: Path) -> tuple[dict[str, Path], list[Fault]]:
    if not folder.is_dir():
        raise ValueError(f"the folder {folder} does not exist")
    files = defaultdict(list)
    for path in folder.iterdir():
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith("."):
            files[path.stem].append(path)
    faults = [
        Fault(str(paths[1]), f"{paths[0]} and {paths[1].name} share the name {stem!r}; only the first is used.")
        for stem, paths in ((stem, sorted(paths)) for stem, paths in files.items())
        if len(paths) > 1
    ]
    return {stem: min(files[stem]) for stem in sorted(files, key=natural)}, faults


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
