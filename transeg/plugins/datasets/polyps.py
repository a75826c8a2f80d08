"""The public polyp sets, in the layouts that their authors and PraNet offer for download.

All have two classes; masks are cut at half of their range, as JPEG smears them (Kvasir-SEG's white is 247 to 255).
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from transeg.core.data.file_dataset import (
    FileDataset,
    Pair,
    choose_split,
    group_by_folder,
    holds_splits,
    list_pairs,
    mask_values,
    split_folders,
)
from transeg.core.data.groups import group_by_file
from transeg.core.data.listing import IMAGES, MASKS, find_folder
from transeg.core.data.splits import RATIO, read_lists
from transeg.core.interfaces import Fault

Split = Literal["train", "val", "test", "all"]

PRANET = ("images", "masks", "")
"""The usual names of folders: :data:`~.listing.IMAGES` and :data:`~.listing.MASKS` are found for them."""
CLINIC_DB_FIRST_FRAMES = (
    1, 26, 51, 68, 79, 104, 127, 152, 178, 200, 206, 228, 253, 278, 298,
    318, 343, 364, 384, 409, 429, 448, 467, 479, 504, 529, 547, 572, 592,
)  # fmt: skip
"""What each sequence of CVC-ClinicDB begins with, from the authors' readme."""


def clinic_db_sequence(stem: str) -> str:
    """The sequence of a frame of CVC-ClinicDB, by its number; what has none is of its subfolder, or alone."""
    return str(bisect(CLINIC_DB_FIRST_FRAMES, int(stem))) if stem.isdigit() else group_by_folder(stem)


class PolypSet(FileDataset):
    """Polyp images and masks in two folders, or in two of each split's folder, as DUCK-Net and zh320 pack them.

    Args:
        root: the folder as downloaded.
        split: `train`, `val`, `test` or `all`.
        splits: a published split: a JSON file `{"train": [...], "val": [...], "test": [...]}` of file names, or a
            folder with `train.txt` and its like, or with `train/images/` and its like, whose names count.
        ratio: shares of train, val and test where no file decides; sequences are never cut.
        seed: of the shuffle before images are shared out.
        values: pixel values in the masks that stand for background and polyp; by default half of the range decides.
        groups: which frames belong to one sequence, where that is not known: JSON `{"name": "group", ...}`, or CSV with
            the columns `name` and `group`.
    """

    classes = ("background", "polyp")
    layouts: ClassVar[tuple[tuple[str, str, str], ...]] = (PRANET,)
    """Folders of images and masks, and what a mask's name has before its image's; the first that exist are read."""
    usual: ClassVar[tuple[float, float, float]] = RATIO
    """The usual shares of train, val and test."""

    @classmethod
    def is_divided(cls, root: Path, _options: Mapping[str, Any], /) -> bool:
        layout = cls._layout(root)
        return cls.usual != RATIO or bool(split_folders(root)) or (layout is not None and holds_splits(layout[0]))

    def __init__(
        self,
        root: Path,
        split: Split,
        *,
        splits: Path | None = None,
        ratio: tuple[float, float, float] | None = None,
        seed: int = 0,
        values: tuple[int, int] | None = None,
        groups: Path | None = None,
    ) -> None:
        self.values = mask_values(self.classes, values, None)
        group = self.group if groups is None else group_by_file(groups)
        by_folder = split_folders(root)
        if by_folder and splits is None:
            parts = [self._pairs(folder, group) for part, folder in by_folder.items() if split in (part, "all")]
            super().__init__([pair for pairs, _ in parts for pair in pairs], [f for _, faults in parts for f in faults])
            return
        pairs, faults = self._pairs(root, group)
        lists = None if splits is None else read_lists(splits)
        chosen = choose_split(pairs, split, lists=lists, where=str(splits), ratio=ratio or self.usual, seed=seed)
        super().__init__(chosen, faults)

    def _pairs(self, folder: Path, group: Callable[[str], str]) -> tuple[list[Pair], list[Fault]]:
        layout = self._layout(folder)
        if layout is None:
            wanted = " or ".join(f"{images}/ and {masks}/" for images, masks, _ in self.layouts)
            raise ValueError(f"{folder} does not have the folders {wanted}")
        images, masks, prefix = layout
        return list_pairs(images, masks, group=group, mask_stem=(lambda stem: prefix + stem) if prefix else None)

    def group(self, stem: str) -> str:
        """The sequence that a frame belongs to: its subfolder; each is its own where that is not known."""
        return group_by_folder(stem)

    @classmethod
    def _layout(cls, root: Path) -> tuple[Path, Path, str] | None:
        """The folders of images and masks that there are, and what a mask's name has before its image's."""
        for images, masks, prefix in cls.layouts:
            usual = (images, masks) == PRANET[:2]
            image_folder = find_folder(root, images, *(IMAGES if usual else ()))
            mask_folder = find_folder(root, masks, *(MASKS if usual else ()))
            if image_folder is not None and mask_folder is not None:
                return image_folder, mask_folder, prefix
        return None


class Kvasir(PolypSet):
    """Kvasir-SEG: 1,000 polyp images (Jha et al., MMM 2020). There is no official split; the usual one is 80/10/10."""

    layouts = (PRANET, ("Kvasir-SEG/images", "Kvasir-SEG/masks", ""))


class ClinicDB(PolypSet):
    """CVC-ClinicDB: 612 frames of 29 sequences (Bernal et al., CMIG 2015), split by sequence."""

    layouts = (
        ("Original", "Ground Truth", ""),
        ("PNG/Original", "PNG/Ground Truth", ""),
        ("TIF/Original", "TIF/Ground Truth", ""),
        PRANET,
    )

    def group(self, stem: str) -> str:
        return clinic_db_sequence(stem)


class ColonDB(PolypSet):
    """CVC-ColonDB: 380 frames (Bernal et al., Pattern Recognition 2012); all of them are for tests."""

    usual = (0.0, 0.0, 1.0)


class Etis(PolypSet):
    """ETIS-LaribPolypDB: 196 frames (Silva et al., IJCARS 2014); all of them are for tests."""

    layouts = (PRANET, ("ETIS-LaribPolypDB", "Ground Truth", "p"))
    usual = (0.0, 0.0, 1.0)


class CVC300(PolypSet):
    """CVC-300: the 60 test frames of EndoScene that PraNet ships (Vazquez et al., 2017); all are for tests."""

    usual = (0.0, 0.0, 1.0)


class SynthColon(PolypSet):
    """Synth-Colon: 20,000 renders of a synthetic colon (Moreu et al., arXiv:2202.08680); 1 % are for validation."""

    usual = (0.99, 0.01, 0.0)


class PolypBenchmark(FileDataset):
    """PraNet's packing of the polyp benchmark: one training set, five test sets (arXiv:2006.11392).

    `TrainDataset/` holds 1,450 images of Kvasir-SEG and CVC-ClinicDB, with `image/` and `mask/` or the plural;
    `TestDataset/` holds the test sets with `images/` and `masks/`. The protocol has no validation images.

    Args:
        root: the folder that holds both.
        split: `train`, `val`, `test` or `all`.
        domain: `TrainDataset`, or a test set.
        values: pixel values in the masks that stand for background and polyp; by default half of the range decides.
        groups: which frames belong to one sequence, as for the single sets; by default those of CVC-ClinicDB are known,
            in its test set and in `TrainDataset`.
    """

    classes = ("background", "polyp")
    domains = ("TrainDataset", "Kvasir", "CVC-ClinicDB", "CVC-ColonDB", "ETIS-LaribPolypDB", "CVC-300")

    def __init__(
        self,
        root: Path,
        split: Split,
        *,
        domain: str = "TrainDataset",
        values: tuple[int, int] | None = None,
        groups: Path | None = None,
    ) -> None:
        self.values = mask_values(self.classes, values, None)
        if domain not in self.domains:
            raise ValueError(f"the polyp benchmark has {', '.join(self.domains)}, not {domain!r}")
        trains = domain == "TrainDataset"
        base = find_folder(root, domain if trains else f"TestDataset/{domain}")
        if base is None:
            raise ValueError(f"{root} does not hold {'' if trains else 'TestDataset/'}{domain}")
        images, masks = find_folder(base, *IMAGES), find_folder(base, *MASKS)
        if images is None or masks is None:
            raise ValueError(f"{base} has no folders images and masks")
        known = clinic_db_sequence if domain in ("TrainDataset", "CVC-ClinicDB") else group_by_folder
        pairs, faults = list_pairs(images, masks, group=known if groups is None else group_by_file(groups))
        super().__init__(pairs if split in ("train" if trains else "test", "all") else [], faults)
