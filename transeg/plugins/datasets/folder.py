"""One's own images and masks in folders."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from transeg.core.data.file_dataset import (
    FileDataset,
    Pair,
    attach_records,
    choose_split,
    holds_splits,
    list_pairs,
    mask_values,
    split_folders,
)
from transeg.core.data.groups import group_by_file, patches_of_one_image
from transeg.core.data.images import renumber_instances
from transeg.core.data.listing import IMAGES, MASKS, files_by_stem, find_folder, has_masks_beside, is_left_by_system
from transeg.core.data.pages import Pages, choose_pages
from transeg.core.data.splits import RATIO, read_lists
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
from transeg.core.errors import did_you_mean
from transeg.core.interfaces import IGNORE, About, Dataset, Fault, Sample, Writer, Written

logger = logging.getLogger("transeg.data")
_said: set[Path] = set()


class FolderWriter(Writer):
    """Writes `train/images/`, `train/masks/` and so on, with what else belongs to the images, and two files about them.

    Masks hold class numbers. `manifest.json` says of each image its name, group and size of pixels, `about.json` which
    classes and how many channels there are.
    """

    keeps_splits_apart = True

    def __init__(self, root: Path, about: About) -> None:
        self._root = root
        self._about = about

    def has(self, name: str, split: str) -> bool:
        return has_image(self._root / split / "images", file_name(name))

    def add(self, sample: Sample, split: str) -> None:
        check_announced(sample, self._about)
        name, folder = file_name(sample.name), self._root / split
        files = {}
        for kind, labels in (("masks", sample.mask), ("instances", sample.instances)):
            if labels is not None:
                pixels = labels.astype(np.uint8) if kind == "masks" else renumber_instances(labels)
                files[folder / kind / f"{name}.png"] = pixels
        if sample.target is not None:
            files[folder / "targets" / f"{name}{image_suffix(sample.target)}"] = sample.target
        write_together({**files, folder / "images" / f"{name}{image_suffix(sample.image)}": sample.image})

    def finish(self, samples: Sequence[Written]) -> None:
        write_records(self._root, {file_name(sample.name): sample for sample in samples})
        write_about(self._root, self._about)


class Folder(FileDataset):
    """Images and masks matched by stem, in any common format; with counterparts in another domain it is paired.

    The layout is one of: `images/` and `masks/`; `train/images/`, `train/masks/`, `val/...` (or `validation/...`),
    `test/...`; or images straight in the folder, with `x_mask.png` beside `x.png`, or without labels. Other usual names
    of the folders are found, in any capitals (`imgs`, `labels`, `GT`, ...), and of masks (`x_mask`, `x_segmentation`,
    ...); several numbered masks of one image are joined. In subfolders of `images/` and `masks/`, which are groups
    (patients), files count where there are none beside them. `splits` decides the splits; else subfolders do; else
    `ratio` does. Where transeg wrote the folder, it says itself which classes, channels, groups and sizes of pixels
    there are.

    Args:
        root: the folder.
        split: `train`, `val`, `test` or `all`.
        images: name of the subfolder of images; `.` for the folder itself.
        masks: name of the subfolder of masks, likewise.
        mask_prefix: what a mask's name has before its image's.
        mask_suffix: what follows its image's name in a mask's, before the extension.
        instances: name of the subfolder of instance maps, of 8 or 16 bits: each object has a number, 0 is none.
        targets: name of the subfolder of counterparts, the same scenes in the other domain.
        classes: names of the classes, background first; by default background and foreground.
        values: pixel values in the masks that stand for the classes, in the same order; by default 0, 1, 2, ... for
            several classes, and half of the range for one.
        ignore: pixel value in the masks of what is unknown: neither losses nor metrics look there.
        channels: of the images: 1 for grey, 3 for colour, or as many as the files have; by default 3.
        target_channels: of the counterparts; by default as many as the images have.
        splits: a published split: a JSON file `{"train": [...], "val": [...], "test": [...]}` of file names, or a
            folder with `train.txt` and its like, or with `train/images/` and its like, whose names count.
        ratio: shares of train, val and test where nothing else decides.
        seed: of the shuffle before images are shared out.
        page: which page of TIFF stacks, or which frame of animations, from 0; or `all`, where masks have as many: each
            is an image, and all of a file are a group. By default files of several pages are refused, and of an
            animation the first frame is taken.
        group: a regular expression whose match in a file's name is its group; groups are never split. By default
            subfolders say, or `manifest.json` where transeg wrote one.
        groups: a file that says it instead: JSON `{"name": "group", ...}`, or CSV with the columns `name` and `group`.
    """

    writer = FolderWriter

    @classmethod
    def is_divided(cls, root: Path, options: Mapping[str, Any], /) -> bool:
        images = str(options.get("images", "images"))
        by_folder = any(_find(folder, images) for folder in split_folders(root).values())
        return by_folder or holds_splits(_find(root, images))

    def __init__(
        self,
        root: Path,
        split: Literal["train", "val", "test", "all"],
        *,
        images: str = "images",
        masks: str = "masks",
        mask_prefix: str = "",
        mask_suffix: str = "",
        instances: str | None = None,
        targets: str | None = None,
        classes: tuple[str, ...] | None = None,
        values: tuple[int, ...] | None = None,
        ignore: int | None = None,
        channels: int | None = None,
        target_channels: int | None = None,
        splits: Path | None = None,
        ratio: tuple[float, float, float] = RATIO,
        seed: int = 0,
        page: int | Literal["all"] | None = None,
        group: str | None = None,
        groups: Path | None = None,
    ) -> None:
        about = read_about(root)
        if about is not None and values is None and ignore is None:
            ignore = IGNORE
        self.classes = classes or (Dataset.classes if about is None else about.classes)
        self.channels = channels or (Dataset.channels if about is None else about.channels)
        self.values = mask_values(self.classes, values, ignore)
        self.target_channels = target_channels or self.channels
        self.paired = targets is not None
        group_of = _grouping(group, groups)
        records = {} if group_of else read_records(root)

        def pairs_in(folder: Path) -> tuple[list[Pair], list[Fault]]:
            image_folder = _named(folder, images, IMAGES) or _with_images(folder)
            pairs, faults = list_pairs(
                image_folder,
                _named(folder, masks, MASKS) or _beside(image_folder, mask_prefix, mask_suffix),
                group=group_of,
                mask_stem=(lambda stem: f"{mask_prefix}{stem}{mask_suffix}") if mask_prefix or mask_suffix else None,
                instances=_named(folder, instances) if instances else None,
                targets=_named(folder, targets) if targets else None,
            )
            return attach_records(pairs, [pair.name for pair in pairs], records), faults

        by_folder = {part: folder for part, folder in split_folders(root).items() if _find(folder, images)}
        if by_folder and splits is None:
            found = [pairs_in(folder) for part, folder in by_folder.items() if split in (part, "all")]
            chosen = [pair for part, _ in found for pair in part]
            faults = [fault for _, faults in found for fault in faults]
            super().__init__(*_with_pages(chosen, faults, page))
            return
        everything, faults = pairs_in(root)
        lists = None if splits is None else read_lists(splits)
        if lists is None and split != "all" and not (group_of or records):
            _warn_of_patches(root, [pair.name for pair in everything])
        chosen = choose_split(everything, split, lists=lists, where=str(splits), ratio=ratio, seed=seed)
        super().__init__(*_with_pages(chosen, faults, page))


def _with_pages(pairs: list[Pair], faults: list[Fault], page: Pages | None) -> tuple[list[Pair], list[Fault]]:
    """The images of a split, once pages are chosen: splits are of files."""
    if page is None:
        return pairs, faults
    chosen, more = choose_pages(pairs, page)
    return chosen, [*faults, *more]


def _named(folder: Path, name: str, usual: tuple[str, ...] = ()) -> Path | None:
    """The subfolder of a name; for a usual one any that is called likewise, or None.

    Raises:
        ValueError: there is no folder of an unusual name.
    """
    found = find_folder(folder, name, *(usual if name in usual else ()))
    if found is None and name not in usual:
        there = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        raise ValueError(f"the folder {folder / name} does not exist{did_you_mean(name, there).rstrip('.')}")
    return found


def _with_images(folder: Path) -> Path:
    """The folder itself, for images straight in it.

    Raises:
        ValueError: there are none, but subfolders, of which nothing says whether they hold images or masks.
    """
    inside = sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_left_by_system(path.name))
    if inside and not files_by_stem(folder)[0]:
        raise ValueError(
            f"{folder} holds no folder images/ and no image of its own, but the folders {', '.join(inside[:5])}"
            f"{', ...' if len(inside) > 5 else ''}; say which, as in images={inside[0]} masks={inside[-1]}, or images=."
            " for all images in them"
        )
    return folder


def _find(folder: Path, images: str) -> Path | None:
    """The subfolder of images, by its name or, for a usual one, any that is called likewise."""
    return find_folder(folder, images, *(IMAGES if images in IMAGES else ()))


def _beside(images: Path, prefix: str, suffix: str) -> Path | None:
    """The folder of images where their masks lie among them."""
    if not images.is_dir():
        return None
    stems = files_by_stem(images)[0]
    if prefix or suffix:
        return images if any(f"{prefix}{stem}{suffix}" in stems for stem in stems) else None
    return images if has_masks_beside(stems) else None


def _grouping(pattern: str | None, file: Path | None) -> Callable[[str], str] | None:
    """What gives an image's group by its name, where a pattern or a file says so.

    Raises:
        ValueError: both do.
    """
    if pattern and file:
        raise ValueError("group and groups both say which images belong together; leave one of them out")
    if file is not None:
        return group_by_file(file)
    if not pattern:
        return None
    compiled = re.compile(pattern, re.DOTALL)

    def group_of(stem: str) -> str:
        match = compiled.search(stem)
        return match[0] if match else stem

    return group_of


def _warn_of_patches(root: Path, names: Sequence[str]) -> None:
    """Say once that shares of images by chance may take patches of one image apart."""
    parents = patches_of_one_image(names)
    if parents and root not in _said:
        _said.add(root)
        parent = next(iter(parents))
        logger.warning(
            "%d images in %s are called like patches of one image, such as the %d of %s, and are shared out one by "
            "one: say which belong together with group=REGEX or groups=FILE.",
            sum(parents.values()),
            root,
            parents[parent],
            parent,
        )
