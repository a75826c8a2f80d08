"""Datasets of image files with mask files, matched by stem."""

from __future__ import annotations

import pickle
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from transeg.core.data.decoded_image import Range
from transeg.core.data.decoding import count_pages
from transeg.core.data.images import (
    EXTENSIONS,
    read_binary_mask,
    read_image,
    read_instances,
    read_label_map,
    read_size,
)
from transeg.core.data.splits import FOLDERS, SPLITS, split_by_lists, split_by_ratio
from transeg.core.data.tiff import open_tiff, said_range
from transeg.core.data.unread import describe_unread, say_unread, unread_ending
from transeg.core.errors import DataError
from transeg.core.interfaces import IGNORE, Dataset, Fault, Origin, Region, Sample, Written


@dataclass(frozen=True)
class Pair:
    """An image file, the files of its name in other folders where there are any, and the group that splits never cut.

    Attributes:
        image: the image.
        mask: its mask.
        group: subject, slide or sequence.
        instances: its map of numbered objects.
        target: its counterpart in the other domain.
        called: its name, where that is not the image's stem.
        pixel_size: in micrometres, height first.
        page: which page or frame of the files, from 0; None where there is one.
    """

    image: Path
    mask: Path | None
    group: str
    instances: Path | None = None
    target: Path | None = None
    called: str = ""
    pixel_size: tuple[float, float] | None = None
    page: int | None = None

    def page_of(self, path: Path) -> int | None:
        """Which page of one of the files belongs to the image: the only one, or the one of the same number."""
        return None if self.page is None or (path != self.image and count_pages(path) == 1) else self.page

    @property
    def pictures(self) -> tuple[Path, ...]:
        """The files that hold intensities."""
        return (self.image,) if self.target is None else (self.image, self.target)

    @property
    def name(self) -> str:
        """The image's stem, or what it is called instead."""
        return self.called or self.image.stem


AnyPair = TypeVar("AnyPair", bound=Pair)


class FileDataset(Dataset):
    """Images in files, with masks, instance maps and counterparts where there are any.

    Args:
        pairs: of the chosen split.
        faults: found while they were listed.
    """

    values: Mapping[int, int] | None = None
    """Class of every mask value; None for masks of one class, which are cut at half of their range."""
    reads_pairs_alone: ClassVar[bool] = False
    """Said by a subclass that decodes in its own way and looks at no file but those of the pair, so that what it
    decodes may be kept."""

    def __init__(self, pairs: Sequence[Pair], faults: Sequence[Fault] = ()) -> None:
        self.pairs = list(pairs)
        self.faults = list(faults)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        pair = self.pairs[index]
        image = self.pixels(pair)
        mask, instances = self.labels(pair, (image.shape[0], image.shape[1]))
        target = None
        if pair.target is not None:
            target = read_image(pair.target, self.target_channels, page=pair.page_of(pair.target))
        for what, pixels, path in (
            ("mask", mask, pair.mask),
            ("instance map", instances, pair.instances or pair.mask),
            ("counterpart", target, pair.target),
        ):
            if pixels is not None and pixels.shape[:2] != image.shape[:2]:
                raise DataError(
                    f"{pair.image} has {_size(image)} pixels, but its {what} {path} has {_size(pixels)}; "
                    "they must agree.",
                    str(pair.image),
                )
        return Sample(image, mask, pair.name, pair.group, target, instances, pixel_size=pair.pixel_size)

    def pixels(self, pair: Pair) -> np.ndarray:
        """The image, ``(H, W, C)``."""
        return read_image(pair.image, self.channels, page=pair.page)

    def labels(self, pair: Pair, size: tuple[int, int]) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Mask and instance map of an image of that height and width, or None."""
        mask = None
        if pair.mask is not None:
            values, page = self.values, pair.page_of(pair.mask)
            mask = (
                read_binary_mask(pair.mask, page=page)
                if values is None
                else read_label_map(pair.mask, values, page=page)
            )
        if pair.instances is None:
            return mask, None
        return mask, read_instances(pair.instances, pair.page_of(pair.instances))

    def size_of(self, index: int) -> tuple[int, int]:
        return read_size(self.pairs[index].image, self.pairs[index].page)

    def pixel_size_of(self, index: int) -> tuple[float, float] | None:
        return self.pairs[index].pixel_size

    def ranges_of(self, index: int) -> tuple[Range | None, Range | None]:
        pair = self.pairs[index]
        return said_range(pair.image), None if pair.target is None else said_range(pair.target)

    def group_of(self, index: int) -> str:
        return self.pairs[index].group

    def read_region(self, index: int, region: Region) -> Sample | None:
        pair = self.pairs[index]
        files = [open_tiff(path) for path in (pair.image, pair.mask) if path is not None]
        alike = None not in files and len({file.size for file in files if file is not None}) == 1
        if self._by_itself() or pair.instances or pair.target or not alike or pair.page is not None:
            return None  # decoding the whole also says where sizes do not agree
        image, mask = read_image(pair.image, self.channels, region), None
        if pair.mask is not None:
            values = self.values
            mask = read_binary_mask(pair.mask, region) if values is None else read_label_map(pair.mask, values, region)
        return Sample(image, mask, pair.name, pair.group, pixel_size=pair.pixel_size)

    def origin_of(self, index: int) -> Origin | None:
        if self._by_itself() and not self.reads_pairs_alone:
            return None
        pair = self.pairs[index]
        values = [getattr(pair, field.name) for field in fields(pair)]
        parts = [part for value in values for part in (value if isinstance(value, tuple) else (value,))]
        known = [... if isinstance(part, Path) else part for part in parts]  # and which of the files there are
        options = [item for item in sorted(vars(self).items()) if item[0] not in ("pairs", "faults")]
        try:
            how = [pickle.dumps(value).hex() for value in (pair.name, *known, *options)]
        except (pickle.PicklingError, AttributeError, TypeError):
            return None
        return Origin(tuple(part for part in parts if isinstance(part, Path)), " ".join(how), type(self))

    def _by_itself(self) -> bool:
        """Whether a subclass reads files in a way of its own; who knows what they are."""
        cls = type(self)
        return any(getattr(cls, name) is not getattr(FileDataset, name) for name in ("__getitem__", "labels", "pixels"))


def mask_values(classes: Sequence[str], values: Sequence[int] | None, ignore: int | None) -> Mapping[int, int] | None:
    """The class of every mask value, or None for masks of one class that are cut at half of their range.

    Args:
        classes: names, background first.
        values: what stands for the classes in the masks, in their order; None for 0, 1, 2, ...
        ignore: what stands for what is unknown.

    Raises:
        ValueError: they do not fit each other.
    """
    if len(classes) < 2 or (values is not None and len(values) != len(classes)):
        raise ValueError(f"{len(values or ())} mask values cannot stand for the classes {', '.join(classes)}")
    if values is None and ignore is None and len(classes) == 2:
        return None
    table = {value: index for index, value in enumerate(values or range(len(classes)))}
    if ignore in table:
        raise ValueError(f"the mask value {ignore} cannot be ignored and stand for a class")
    return table if ignore is None else {**table, ignore: IGNORE}


def list_pairs(
    images: Path,
    masks: Path | None,
    *,
    group: Callable[[str], str] = lambda stem: stem,
    mask_stem: Callable[[str], str] = lambda stem: stem,
    mask_endings: Collection[str] = EXTENSIONS,
    instances: Path | None = None,
    targets: Path | None = None,
) -> tuple[list[Pair], list[Fault]]:
    """Match images with masks, and with what else belongs to them, by stem.

    Args:
        images: folder of images.
        masks: folder of masks, or None for images without labels.
        group: an image's group, from its stem.
        mask_stem: the stem of an image's mask, from its own.
        mask_endings: of files that are masks.
        instances: folder of instance maps.
        targets: folder of counterparts in the other domain.

    Returns:
        Pairs in natural order of their names, and what does not fit: an image without a mask, a mask without an
        image, two files of one stem.

    Raises:
        ValueError: a folder does not exist, or no image has a mask.
    """
    image_files, faults = files_by_stem(images)
    if not image_files and (unread := describe_unread(images)):
        raise ValueError(f"{images} {unread}")
    stems = list(image_files)
    matched: dict[str, dict[str, Path]] = {}
    for what, folder, stem_of, endings in (
        ("mask", masks, mask_stem, mask_endings),
        ("instance map", instances, str, EXTENSIONS),
        ("counterpart", targets, str, EXTENSIONS),
    ):
        if folder is None:
            continue
        files, more = files_by_stem(folder, endings)
        own = {stem: files.pop(stem_of(stem)) for stem in stems if stem_of(stem) in files}
        missing = [stem for stem in stems if stem not in own]
        faults += more
        faults += [
            Fault(str(image_files[stem]), f"{image_files[stem]} has no {what} {stem_of(stem)}.* in {folder}.")
            for stem in missing
        ]
        faults += [Fault(str(path), f"{path} is the {what} of no image in {images}.") for path in files.values()]
        if not own:
            raise ValueError(f"no image in {images} has a {what} of the same name in {folder}")
        stems, matched[what] = list(own), own
    pairs = [
        Pair(
            image_files[stem],
            matched.get("mask", {}).get(stem),
            group(stem),
            instances=matched.get("instance map", {}).get(stem),
            target=matched.get("counterpart", {}).get(stem),
        )
        for stem in stems
    ]
    return pairs, faults


def attach_records(pairs: Sequence[AnyPair], stems: Sequence[str], records: Mapping[str, Written]) -> list[AnyPair]:
    """Pairs with what the manifest of a written tree says of them, which their files cannot.

    Args:
        pairs: as their files are.
        stems: of their files, one for each.
        records: by stem; see :func:`transeg.core.data.writing.read_records`.
    """
    return [
        pair
        if (record := records.get(stem)) is None
        else replace(
            pair,
            called=record.name if record.split else pair.called,
            group=record.group or pair.group,
            pixel_size=record.pixel_size or pair.pixel_size,
        )
        for pair, stem in zip(pairs, stems, strict=True)
    ]


def recorded_lists(records: Mapping[str, Written]) -> dict[str, list[str]] | None:
    """Names by split, as a tree was written; None where it does not say."""
    lists: dict[str, list[str]] = {split: [] for split in SPLITS}
    for record in records.values():
        if record.split:
            lists[record.split].append(record.name)
    return lists if any(lists.values()) else None


def split_folders(root: Path) -> dict[str, Path]:
    """Subfolders of a root that are splits, by split."""
    found = [(split, find_folder(root, name)) for name, split in FOLDERS.items()]
    return {split: folder for split, folder in found if folder is not None}


def choose_split(
    pairs: Sequence[AnyPair],
    split: str,
    *,
    lists: Mapping[str, Sequence[str]] | None,
    where: str,
    ratio: Sequence[float],
    seed: int,
) -> list[AnyPair]:
    """The pairs of a split, by lists of names where there are any, else by ratio."""
    if split == "all":
        return list(pairs)
    if lists is not None:
        members = split_by_lists([pair.name for pair in pairs], lists, where)
    else:
        members = split_by_ratio([pair.group for pair in pairs], ratio, seed)
    return [pairs[index] for index in members[split]]


def keep_official_test(
    train: Sequence[AnyPair], test: Sequence[AnyPair], split: str, *, val_share: float, seed: int
) -> list[AnyPair]:
    """The pairs of a split where a training and a test set are published: validation is taken out of the former.

    Args:
        train: of the published training set.
        test: of the published test set.
        split: `train`, `val`, `test` or `all`.
        val_share: of the groups in the training set that validation gets.
        seed: of the shuffle before groups are shared out.
    """
    if split in ("test", "all"):
        return [*(train if split == "all" else ()), *test]
    members = split_by_ratio([pair.group for pair in train], (1 - val_share, val_share, 0.0), seed)
    return [train[index] for index in members[split]]


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


def files_by_stem(folder: Path, endings: Collection[str] = EXTENSIONS) -> tuple[dict[str, Path], list[Fault]]:
    """Files of a folder by stem, in natural order, and which of them share one.

    Raises:
        ValueError: the folder does not exist.
    """
    if not folder.is_dir():
        raise ValueError(f"the folder {folder} does not exist")
    files = defaultdict(list)
    unread = False
    for path in folder.iterdir():
        if path.suffix.lower() in endings and not path.name.startswith("."):
            files[path.stem].append(path)
        unread = unread or bool(unread_ending(path))
    if unread:
        say_unread(folder)
    faults = [
        Fault(str(paths[1]), f"{paths[0]} and {paths[1].name} share the name {stem!r}; only the first is used.")
        for stem, paths in ((stem, sorted(paths)) for stem, paths in files.items())
        if len(paths) > 1
    ]
    return {stem: min(files[stem]) for stem in sorted(files, key=natural_sort_key)}, faults


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
