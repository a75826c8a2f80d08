"""CoNSeP: nuclei of seven types in colorectal tissue."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from scipy.io import loadmat

from transeg.core.data.file_dataset import FileDataset, Pair, keep_official_test, list_pairs
from transeg.core.data.listing import IMAGES, MASKS, find_folder
from transeg.core.errors import DataError

TYPES = (
    "other",
    "inflammatory",
    "healthy epithelial",
    "malignant epithelial",
    "fibroblast",
    "muscle",
    "endothelial",
)
MERGED = ("other", "inflammatory", "epithelial", "spindle")
MERGE = (1, 2, 3, 3, 4, 4, 4)
"""What each type becomes."""


class CoNSeP(FileDataset):
    """CoNSeP: 41 tiles of 1,000 pixels at 40x, 27 for training, 14 for tests (Graham et al., MedIA 2019).

    `Train/Images/*.png` with `Train/Labels/*.mat`, likewise `Test/`, as downloaded. Each tile is a group of its own:
    the set does not say which of its 16 slides a tile comes from.

    Args:
        root: the folder that holds `CoNSeP/`, or `Train/` and `Test/`.
        split: `train`, `val`, `test` or `all`.
        merge: whether the seven types are merged to four, as HoVer-Net does: healthy and malignant epithelial cells to
            `epithelial`; fibroblasts, muscle and endothelial cells to `spindle`.
        val_share: of the training tiles, kept for validation.
        seed: of the shuffle before they are chosen.
    """

    reads_pairs_alone = True

    def __init__(
        self,
        root: Path,
        split: Literal["train", "val", "test", "all"],
        *,
        merge: bool = True,
        val_share: float = 0.1,
        seed: int = 0,
    ) -> None:
        self.classes = ("background", *(MERGED if merge else TYPES))
        self._class_of_type = np.array([0, *(MERGE if merge else range(1, len(TYPES) + 1))], np.uint8)
        folders = [find_folder(root, f"CoNSeP/{part}", part) for part in ("Train", "Test")]
        if not any(folders):
            raise ValueError(f"{root} holds neither CoNSeP/ nor Train/ and Test/")
        listed = [
            list_pairs(
                find_folder(folder, *IMAGES) or folder / "Images",
                find_folder(folder, "labels", *MASKS) or folder / "Labels",
                mask_endings={".mat"},
            )
            if folder
            else ([], [])
            for folder in folders
        ]
        (train, _), (test, _) = listed
        super().__init__(
            keep_official_test(train, test, split, val_share=val_share, seed=seed),
            [fault for _, faults in listed for fault in faults],
        )

    def labels(self, pair: Pair, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        assert pair.mask is not None
        try:
            content = loadmat(str(pair.mask), variable_names=("inst_map", "type_map"))
            instances, types = content["inst_map"], content["type_map"]
        except KeyError as error:
            raise DataError(f"{pair.mask} has no {error.args[0]}.", str(pair.mask)) from error
        except Exception as error:
            raise DataError(f"{pair.mask} cannot be decoded: {error}.", str(pair.mask)) from error
        unknown = sorted(set(np.unique(types).tolist()) - set(range(len(self._class_of_type))))
        if unknown or types.shape != instances.shape:
            wrong = f"the types {unknown}" if unknown else "maps of two sizes"
            raise DataError(f"{pair.mask} has {wrong}; there are the types 0 to {len(TYPES)}.", str(pair.mask))
        return self._class_of_type[types.astype(np.intp)], instances.astype(np.int32)
