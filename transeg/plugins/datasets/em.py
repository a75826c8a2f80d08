"""Sections of electron microscopy, with a folder for each kind of label."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from transeg.core.data.file_dataset import (
    FileDataset,
    Pair,
    attach_records,
    choose_split,
    list_pairs,
    mask_values,
    recorded_lists,
)
from transeg.core.data.listing import IMAGES as USUAL_IMAGES
from transeg.core.data.listing import files_by_stem, find_folder
from transeg.core.data.splits import RATIO, SPLITS, read_lists, split_by_ratio
from transeg.core.data.writing import (
    check_announced,
    file_name,
    has_image,
    image_suffix,
    read_about,
    read_records,
    write_about,
    write_records,
    write_together,
)
from transeg.core.errors import DataError, no_such
from transeg.core.interfaces import IGNORE, About, Fault, Sample, Writer, Written

IMAGES, LABELS = "raw", "labels"
KNOWN: dict[str, tuple[tuple[str, ...], tuple[int, ...] | None]] = {
    "membranes": (("background", "membrane"), None),
    "mitochondria": (("background", "mitochondrion"), None),
    "synapses": (("background", "synapse"), None),
    LABELS: (
        (
            "intracellular",
            "membrane 0°",
            "membrane 45°",
            "membrane 90°",
            "membrane 135°",
            "membrane junction",
            "glia or extracellular",
            "mitochondrion",
            "synapse",
        ),
        (255, 0, 32, 64, 96, 128, 159, 191, 223),
    ),
}
"""Classes and pixel values of the folders that the nerve cord has."""


class EMWriter(Writer):
    """Writes `raw/` and `labels/`, whose values are class numbers, and files that say what the layout cannot."""

    def __init__(self, root: Path, about: About) -> None:
        self._root = root
        self._about = about

    def has(self, name: str, split: str) -> bool:
        return has_image(self._root / IMAGES, file_name(name))

    def add(self, sample: Sample, split: str) -> None:
        check_announced(sample, self._about)
        if sample.mask is None:
            raise DataError(f"{sample.name} has no mask, and this layout is one of images with labels.")
        name = file_name(sample.name)
        mask, image = self._root / LABELS / f"{name}.png", self._root / IMAGES / f"{name}{image_suffix(sample.image)}"
        write_together({mask: sample.mask.astype(np.uint8), image: sample.image})

    def finish(self, samples: Sequence[Written]) -> None:
        write_records(self._root, {file_name(sample.name): sample for sample in samples})
        write_about(self._root, self._about)


class EM(FileDataset):
    """Sections of a stack in electron microscopy: `raw/` and a folder for each kind of label, such as those of the
    nerve cord of a Drosophila larva, 20 sections of 1024 pixels of 4.6 nm (Gerhard et al., 2013).

    Masks belong to the images of their name, or of the number that their name ends in: `labels00000003.png` to
    `03.tif`. Sections are shared out in their order, because neighbours are alike: those of two splits meet only where
    one ends.

    Args:
        root: the folder that holds `raw/`.
        split: `train`, `val`, `test` or `all`.
        labels: the folder of labels: `membranes`, `mitochondria`, `synapses`, `labels` (nine classes) or one's own. By
            default `labels` of what transeg wrote, else `membranes`.
        classes: names of the classes, background first; by default those of the nerve cord, or background and
            foreground.
        values: pixel values that stand for the classes, in the same order.
        ignore: pixel value of what is unknown.
        channels: of the images.
        pixel_um: height and width of the pixels in micrometres; 0.0046 in the nerve cord.
        splits: a JSON file `{"train": [...], "val": [...], "test": [...]}` of file names.
        ratio: shares of train, val and test where nothing else decides.
    """

    channels = 1
    writer = EMWriter

    @classmethod
    def is_divided(cls, root: Path, _options: Mapping[str, Any], /) -> bool:
        return recorded_lists(read_records(root)) is not None

    def __init__(
        self,
        root: Path,
        split: Literal["train", "val", "test", "all"],
        *,
        labels: str | None = None,
        classes: tuple[str, ...] | None = None,
        values: tuple[int, ...] | None = None,
        ignore: int | None = None,
        channels: int | None = None,
        pixel_um: float | None = None,
        splits: Path | None = None,
        ratio: tuple[float, float, float] = RATIO,
    ) -> None:
        about = read_about(root)
        kind = labels or ("membranes" if about is None else LABELS)
        usual: tuple[tuple[str, ...], tuple[int, ...] | None] = KNOWN.get(kind, (self.classes, None))
        if about is not None:
            usual = about.classes, tuple(range(len(about.classes)))
            ignore = IGNORE if ignore is None else ignore
        self.channels = channels or (1 if about is None else about.channels)
        self.classes = classes or usual[0]
        self.values = mask_values(self.classes, values or (None if classes else usual[1]), ignore)
        pairs, faults = _sections(root, kind)
        if pixel_um is not None:
            pairs = [replace(pair, pixel_size=(pixel_um, pixel_um)) for pair in pairs]
        records = read_records(root)
        pairs = attach_records(pairs, [pair.name for pair in pairs], records)
        lists = recorded_lists(records) if splits is None else read_lists(splits)
        if lists is None:
            lists = _in_order([pair.name for pair in pairs], ratio)
        chosen = choose_split(pairs, split, lists=lists, where=str(splits or root), ratio=ratio, seed=0)
        super().__init__(chosen, faults)


def _sections(root: Path, kind: str) -> tuple[list[Pair], list[Fault]]:
    """Images with their masks.

    Raises:
        ValueError: one of the folders does not exist.
    """
    images, masks = find_folder(root, IMAGES, *USUAL_IMAGES), find_folder(root, kind, *_other_number(kind))
    if images is None:
        raise ValueError(f"{root} does not have the folder {IMAGES}/")
    if masks is None:
        raise ValueError(no_such("folder of labels", kind, [path.name for path in root.iterdir() if path.is_dir()]))
    stems = list(files_by_stem(masks)[0])
    by_number = {number: stem for stem in stems if (number := _number(stem)) is not None}

    def mask_stem(stem: str) -> str:
        number = _number(stem)
        return stem if stem in stems or number is None else by_number.get(number, stem)

    return list_pairs(images, masks, mask_stem=mask_stem)


def _other_number(kind: str) -> tuple[str, ...]:
    """A known kind of labels in the singular, or of a mitochondrion."""
    return {"membranes": ("membrane",), "mitochondria": ("mitochondrion",), "synapses": ("synapse",)}.get(
        kind, ("label",) if kind == LABELS else ()
    )


def _number(stem: str) -> int | None:
    """What a name ends in."""
    digits = re.search(r"\d+$", stem)
    return int(digits[0]) if digits else None


def _in_order(names: Sequence[str], ratio: Sequence[float]) -> dict[str, list[str]]:
    """Names by split, without mixing them; every split with a share gets one where there are enough."""
    by_ratio = split_by_ratio(names, ratio)
    ends = np.cumsum([0, *(len(by_ratio[split]) for split in SPLITS)])
    return {split: list(names[a:b]) for split, a, b in zip(SPLITS, ends, ends[1:], strict=False)}
