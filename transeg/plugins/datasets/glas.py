"""GlaS: glands of the colon."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Literal

import numpy as np

from transeg.core.data.file_dataset import FileDataset, Pair, keep_official_test
from transeg.core.data.images import read_instances
from transeg.core.data.listing import files_by_stem, find_folder
from transeg.core.interfaces import Fault

ANNOTATION = "_anno"


class GlaS(FileDataset):
    """GlaS, the Warwick-QU set: 165 images of 16 slides, 85 for training, 80 for tests (Sirinukunwattana et al., 2017).

    `train_1.bmp` with `train_1_anno.bmp`, which numbers the glands, and its like, in one folder as downloaded. With
    `Grade.csv` beside them, a group is a patient, and validation cuts none; without, it is an image. The published
    test images may show patients of the training images.

    Args:
        root: that folder, or the one it lies in.
        split: `train`, `val`, `test` or `all`.
        part: `testA` or `testB` for one of the two published test sets, whose results are published apart; by default
            both are for tests.
        val_share: of the training patients, kept for validation.
        seed: of the shuffle before they are chosen.
    """

    classes = ("background", "gland")
    reads_pairs_alone = True

    def __init__(
        self,
        root: Path,
        split: Literal["train", "val", "test", "all"],
        *,
        part: Literal["testA", "testB"] | None = None,
        val_share: float = 0.1,
        seed: int = 0,
    ) -> None:
        folder = find_folder(root, "Warwick QU Dataset (Released 2016_07_08)", "Warwick_QU_Dataset") or root
        files, faults = files_by_stem(folder)
        patients = _patients(folder / "Grade.csv")
        sets: dict[str, list[Pair]] = {"train": [], "testA": [], "testB": []}
        for stem, path in files.items():
            published = stem.partition("_")[0]
            if stem.endswith(ANNOTATION) or published not in sets:
                continue
            if f"{stem}{ANNOTATION}" in files:
                sets[published].append(Pair(path, files[f"{stem}{ANNOTATION}"], patients.get(stem, stem)))
            else:
                faults.append(Fault(str(path), f"{path} has no annotation {stem}{ANNOTATION}.* beside it."))
        if not any(sets.values()):
            raise ValueError(f"{folder} holds no train_1.bmp with train_1_anno.bmp and its like")
        tests = sets[part] if part else sets["testA"] + sets["testB"]
        super().__init__(
            keep_official_test(sets["train"], tests, split, val_share=val_share, seed=seed),
            faults,
        )

    def labels(self, pair: Pair, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        assert pair.mask is not None
        instances = read_instances(pair.mask)
        return (instances > 0).astype(np.uint8), instances


def _patients(table: Path) -> dict[str, str]:
    """The patient of every image."""
    if not table.is_file():
        return {}
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, skipinitialspace=True)
        return {row["name"].strip(): f"patient {row['patient ID'].strip()}" for row in rows if row.get("patient ID")}
