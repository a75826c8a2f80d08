"""CryoNuSeg, in the layout of the segmentation_revisit tutorial."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from transeg.core.data.file_dataset import FileDataset, choose_split, list_pairs, mask_values
from transeg.core.data.listing import IMAGES, MASKS, find_folder
from transeg.core.data.splits import RATIO, read_lists

VALIDATION = "03"
"""What the names of the tutorial's validation images end in."""


class Tissue(FileDataset):
    """CryoNuSeg: nuclei in 30 images of 512 pixels from frozen sections of ten organs (Mahbod et al., 2021).

    `tissue_images/<Organ>_<NN>.tif` with `mask binary/<Organ>_<NN>.png`, as aribryan/segmentation_revisit expects
    them. By its split, the images whose names end in 03 validate, and the others train; none is left for tests.

    Args:
        root: the folder that holds both.
        split: `train`, `val`, `test` or `all`.
        splits: another split: a JSON file `{"train": [...], "val": [...], "test": [...]}` of file names, or a folder
            with `train.txt` and its like.
        ratio: shares of train, val and test in place of the tutorial's split.
        seed: of the shuffle before images are shared out.
        values: pixel values in the masks that stand for background and nucleus; by default half of the range decides.
    """

    classes = ("background", "nucleus")

    def __init__(
        self,
        root: Path,
        split: Literal["train", "val", "test", "all"],
        *,
        splits: Path | None = None,
        ratio: tuple[float, float, float] | None = None,
        seed: int = 0,
        values: tuple[int, int] | None = None,
    ) -> None:
        self.values = mask_values(self.classes, values, None)
        images = find_folder(root, "tissue images", *IMAGES)
        masks = find_folder(root, "mask binary", "masks binary", *MASKS)
        if images is None or masks is None:
            raise ValueError(f"{root} does not have the folders tissue_images/ and mask binary/")
        pairs, faults = list_pairs(images, masks)
        lists = None if splits is None else read_lists(splits)
        if lists is None and ratio is None:
            validates = {name: name.endswith(VALIDATION) for name in (pair.name for pair in pairs)}
            lists = {"train": [n for n in validates if not validates[n]], "val": [n for n in validates if validates[n]]}
        chosen = choose_split(pairs, split, lists=lists, where=str(splits), ratio=ratio or RATIO, seed=seed)
        super().__init__(chosen, faults)
