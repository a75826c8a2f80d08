"""PanNuke: nuclei of 19 tissues, in NumPy arrays too large for memory."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from transeg.core.data.listing import IMAGES, MASKS, find_folder
from transeg.core.errors import DataError, no_such
from transeg.core.interfaces import Dataset, Sample

FOLDS = (1, 2, 3)
PROTOCOL = {1: (1, 2, 3), 2: (2, 1, 3), 3: (3, 2, 1)}
"""The folds that train, validate and test in each of the three official runs."""

logger = logging.getLogger("transeg.data")


@dataclass(frozen=True)
class Fold:
    """The arrays of one fold.

    Attributes:
        number: 1, 2 or 3.
        images: file of ``(N, 256, 256, 3)`` in 0..255.
        masks: file of ``(N, 256, 256, 6)``: numbered objects of the five classes, and the background.
        tissues: of the N images.
    """

    number: int
    images: Path
    masks: Path
    tissues: tuple[str, ...]


class PanNuke(Dataset):
    """PanNuke: 7,901 patches of 256 pixels at 40x from 19 tissues (Gamper et al., ECDP 2019, arXiv:2003.10778).

    `Fold 1/images/fold1/images.npy` and its like are read as downloaded, one patch at a time: a fold takes 12 GB in
    memory. Where objects of two classes overlap, the first class counts. The set does not say which slide a patch comes
    from, so every patch is a group of its own and intervals that resample groups are too narrow.

    Args:
        root: the folder that holds `Fold 1/`, `Fold 2/` and `Fold 3/`; the splits of missing folds are empty.
        split: `train`, `val`, `test` or `all`.
        protocol: which of the three official runs: 1 trains on fold 1, validates on 2 and tests on 3; 2 takes the folds
            2, 1, 3; and 3 takes 3, 2, 1. The published numbers are means over the three.
        tissue: one tissue or several, such as `Colon`; capitals and underscores do not matter. By default all.
    """

    classes = ("background", "neoplastic", "inflammatory", "connective", "dead", "epithelial")

    def __init__(
        self,
        root: Path,
        split: Literal["train", "val", "test", "all"],
        *,
        protocol: Literal[1, 2, 3] = 1,
        tissue: str | tuple[str, ...] | None = None,
    ) -> None:
        folds = {fold.number: fold for fold in (_fold(root, number) for number in FOLDS) if fold is not None}
        if not folds:
            raise ValueError(f"{root} holds none of the folders Fold 1, Fold 2 and Fold 3")
        wanted = FOLDS if split == "all" else (PROTOCOL[protocol][("train", "val", "test").index(split)],)
        if not set(wanted) & set(folds):
            logger.warning("PanNuke's fold %d is not in %s, so the split %s is empty.", wanted[0], root, split)
        chosen = _known_tissues((tissue,) if isinstance(tissue, str) else tissue, folds.values())
        self._places = [
            (folds[number], row)
            for number in wanted
            if number in folds
            for row, name in enumerate(folds[number].tissues)
            if chosen is None or _plain(name) in chosen
        ]

    def __len__(self) -> int:
        return len(self._places)

    def files_of(self, index: int) -> dict[str, tuple[Path, ...]]:
        fold, _ = self._places[index]
        return {"image": (fold.images,), "labels": (fold.masks, fold.images.with_name("types.npy"))}

    def __getitem__(self, index: int) -> Sample:
        fold, row = self._places[index]
        # opened anew for each patch: an open array would be sent to data loader workers as a whole
        pixels = np.asarray(_opened(fold.images)[row])
        if not (pixels.min() >= 0 and pixels.max() <= 255):
            raise DataError(
                f"{fold.images} has values outside of 0 to 255, or not finite, in its image {row}.", str(fold.images)
            )
        mask, instances = flatten_labels(np.asarray(_opened(fold.masks)[row]))
        name = f"fold{fold.number}_{row:04d}_{fold.tissues[row]}"
        return Sample(np.rint(pixels).astype(np.uint8), mask, name, name, instances=instances)

    def place_of(self, index: int) -> tuple[Path, str]:
        fold, row = self._places[index]
        return fold.images, str(row)


def flatten_labels(channels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(H, W, 6)`` of numbered objects per class -> classes, uint8, and numbers that no two objects share, int32."""
    mask = np.zeros(channels.shape[:2], np.uint8)
    instances = np.zeros(channels.shape[:2], np.int32)
    count = 0
    for index in range(5):
        inside = (channels[:, :, index] > 0) & (mask == 0)
        numbers, places = np.unique(channels[:, :, index][inside], return_inverse=True)
        mask[inside] = index + 1
        instances[inside] = count + 1 + places
        count += len(numbers)
    return mask, instances


def _fold(root: Path, number: int) -> Fold | None:
    folder = find_folder(root, f"Fold {number}", f"fold_{number}/Fold {number}", f"fold_{number}", f"fold{number}")
    if folder is None:
        return None
    inside = (f"fold{number}", f"fold {number}")
    image_folder, mask_folder = (
        find_folder(folder, *(f"{kind}/{fold}" for kind in kinds for fold in inside)) for kinds in (IMAGES, MASKS)
    )
    if image_folder is None or mask_folder is None:
        raise ValueError(f"{folder} does not have the folders images/fold{number}/ and masks/fold{number}/")
    images, masks = image_folder / "images.npy", mask_folder / "masks.npy"
    types = images.with_name("types.npy")
    try:
        pixels, labels, tissues = (np.load(path, mmap_mode="r") for path in (images, masks, types))
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{folder} cannot be read: {error}") from error
    count = len(tissues)
    if pixels.shape != (count, *pixels.shape[1:3], 3) or labels.shape != (count, *pixels.shape[1:3], 6):
        raise ValueError(
            f"{folder} has images of the shape {pixels.shape}, masks of {labels.shape} and {count} tissues, "
            "not (N, H, W, 3), (N, H, W, 6) and N"
        )
    return Fold(number, images, masks, tuple(map(str, tissues)))


def _opened(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}.", str(path)) from error


def _known_tissues(wanted: tuple[str, ...] | None, folds: Iterable[Fold]) -> set[str] | None:
    """Plain names of the wanted tissues, or None for all."""
    if wanted is None:
        return None
    known = {_plain(name): name for fold in folds for name in fold.tissues}
    for name in wanted:
        if _plain(name) not in known:
            raise ValueError(no_such("tissue", name, known.values()))
    return {_plain(name) for name in wanted}


def _plain(tissue: str) -> str:
    return "".join(filter(str.isalnum, tissue.lower()))
