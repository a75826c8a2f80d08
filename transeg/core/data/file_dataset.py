"""Datasets of image files with mask files, matched by stem."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar, TypeVar

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
from transeg.core.data.listing import files_by_stem, find_folder, masks_by_image, stem_of
from transeg.core.data.splits import FOLDERS, SPLITS, split_by_lists, split_by_ratio
from transeg.core.data.tiff import open_tiff, said_range
from transeg.core.data.unread_endings import describe_unread
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
        more_masks: of further objects in the image; of masks of one class, what any of them shows is foreground.
        split: that its folder is for; '' where that does not say.
    """

    image: Path
    mask: Path | None
    group: str
    instances: Path | None = None
    target: Path | None = None
    called: str = ""
    pixel_size: tuple[float, float] | None = None
    page: int | None = None
    more_masks: tuple[Path, ...] = ()
    split: str = ""

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
        return self.called or stem_of(self.image.name)


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
            for path in pair.more_masks:
                mask = self._joined(mask, path)
        if pair.instances is None:
            return mask, None
        return mask, read_instances(pair.instances, pair.page_of(pair.instances))

    def _joined(self, mask: np.ndarray | None, path: Path) -> np.ndarray:
        """A mask with the objects of another of the same image.

        Raises:
            DataError: there are several classes, which may overlap, or the sizes differ.
        """
        more = read_binary_mask(path)
        if self.values is not None or mask is None:
            raise DataError(
                f"{path} is a further mask of one image; join masks of several classes to one file.", str(path)
            )
        if more.shape != mask.shape:
            raise DataError(f"{path} has {_size(more)} pixels, the first mask of its image {_size(mask)}.", str(path))
        return np.maximum(mask, more)

    def size_of(self, index: int) -> tuple[int, int]:
        return read_size(self.pairs[index].image, self.pairs[index].page)

    def files_of(self, index: int) -> dict[str, tuple[Path, ...]]:
        pair = self.pairs[index]
        found: dict[str, list[Path]] = {}
        for field in fields(pair):
            value = getattr(pair, field.name)
            paths = [path for path in (value if isinstance(value, tuple) else (value,)) if isinstance(path, Path)]
            if paths:
                found.setdefault("mask" if field.name == "more_masks" else field.name, []).extend(paths)
        return {what: tuple(paths) for what, paths in found.items()}

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
        by_itself = self._by_itself() or pair.instances or pair.target or pair.more_masks
        if by_itself or not alike or pair.page is not None:
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

    def place_of(self, index: int) -> tuple[Path, str]:
        pair = self.pairs[index]
        return pair.image, "" if pair.page is None else str(pair.page)

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
    group: Callable[[str], str] | None = None,
    mask_stem: Callable[[str], str] | None = None,
    mask_endings: Collection[str] = EXTENSIONS,
    instances: Path | None = None,
    targets: Path | None = None,
) -> tuple[list[Pair], list[Fault]]:
    """Match images with masks, and with what else belongs to them, by stem.

    Where a folder holds nothing but subfolders, the files in these count: a stem is ``patient1/3`` then, and the
    sample's name ``patient1_3``.

    Args:
        images: folder of images.
        masks: folder of masks, which may be that of the images, or None for images without labels.
        group: an image's group, from its stem; None for :func:`group_by_folder`.
        mask_stem: the stem of an image's mask, from its own; None where it is that, or with ``_mask`` or the like.
        mask_endings: of files that are masks.
        instances: folder of instance maps.
        targets: folder of counterparts in the other domain.

    Returns:
        Pairs in natural order of their names, and what does not fit: an image without a mask, a mask without an
        image, two files of one stem.

    Raises:
        ValueError: a folder does not exist, or no image has a mask.
    """
    image_files, faults = files_by_stem(images, deeper=True)
    if not image_files and (unread := describe_unread(images)):
        raise ValueError(f"{images} {unread}")
    stems = list(image_files)
    matched: dict[str, dict[str, tuple[Path, ...]]] = {}
    for what, folder, stem_of_mask, endings in (
        ("mask", masks, mask_stem, mask_endings),
        ("instance map", instances, str, EXTENSIONS),
        ("counterpart", targets, str, EXTENSIONS),
    ):
        if folder is None:
            continue
        together = what == "mask" and folder == images and mask_endings == EXTENSIONS
        files, more = (image_files, []) if together else files_by_stem(folder, endings, deeper=True)
        own = masks_by_image(stems, files, stem_of_mask or str, guess=stem_of_mask is None, together=together)
        used = {name for stem, names in own.items() for name in names if not (together and name == stem)}
        stems = [stem for stem in stems if not (together and stem in used)]
        missing = [stem for stem in stems if stem not in own]
        wanted = (stem_of_mask or str)("*") + ("_mask" if together and stem_of_mask is None else "")
        faults += more
        faults += [
            Fault(
                str(image_files[stem]),
                f"{image_files[stem]} has no {what} {wanted.replace('*', stem_of(image_files[stem].name))}.* in "
                f"{folder}.",
            )
            for stem in missing
        ]
        if not together:
            strays = [path for name, path in files.items() if name not in used]
            faults += [Fault(str(path), f"{path} is the {what} of no image in {images}.") for path in strays]
        if stems and not own:
            wanted_files = "image file" if endings == EXTENSIONS else f"{' or '.join(sorted(endings))} file"
            raise ValueError(
                f"no image in {images} has a {what} of the same name in {folder}: {_some(stems)} on one side, "
                f"{_some(files) if files else f'no {wanted_files}'} on the other"
            )
        stems = [stem for stem in stems if stem in own]
        matched[what] = {stem: tuple(files[name] for name in names) for stem, names in own.items()}
    return _pairs_of(stems, image_files, matched, group or group_by_folder, faults), faults


def group_by_folder(stem: str) -> str:
    """The group of an image by the subfolder that it lies in, if that is no split's; else each is its own."""
    folders = stem.split("/")[:-1]
    return "/".join(folders) if any(folder.lower() not in FOLDERS for folder in folders) else stem


def _pairs_of(
    stems: Sequence[str],
    images: Mapping[str, Path],
    matched: Mapping[str, Mapping[str, tuple[Path, ...]]],
    group: Callable[[str], str],
    faults: list[Fault],
) -> list[Pair]:
    """Pairs by the stems of their files; of two that would be called alike, the second becomes a fault."""
    published = _are_in_splits(stems)
    nothing: dict[str, tuple[Path, ...]] = {}
    masks, instances, targets = (matched.get(what, nothing) for what in ("mask", "instance map", "counterpart"))
    pairs: dict[str, Pair] = {}
    for stem in stems:
        name = stem.replace("/", "_")
        if name in pairs:
            faults.append(
                Fault(str(images[stem]), f"{images[stem]} and {pairs[name].image} would both be called {name}.")
            )
            continue
        mask, *more = masks.get(stem, (None,))
        pairs[name] = Pair(
            images[stem],
            mask,
            group(stem),
            instances=instances.get(stem, (None,))[0],
            target=targets.get(stem, (None,))[0],
            called=name if "/" in stem else "",
            more_masks=tuple(path for path in more if path is not None),
            split=FOLDERS[stem.partition("/")[0].lower()] if published else "",
        )
    return list(pairs.values())


def holds_splits(images: Path | None) -> bool:
    """Whether the images of a folder lie in subfolders that are splits, such as `train/` and `test/`."""
    return images is not None and images.is_dir() and _are_in_splits(files_by_stem(images, deeper=True)[0])


def _are_in_splits(stems: Collection[str]) -> bool:
    return bool(stems) and all("/" in stem and stem.partition("/")[0].lower() in FOLDERS for stem in stems)


def _some(names: Iterable[str]) -> str:
    """Three of many names."""
    shown = list(itertools.islice(names, 4))
    return ", ".join(shown[:3]) + (", ..." if len(shown) > 3 else "")


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
    """The pairs of a split, by lists of names where there are any, else by folders that say it, else by ratio."""
    if split == "all":
        return list(pairs)
    if lists is None and pairs and all(pair.split for pair in pairs):
        return [pair for pair in pairs if pair.split == split]
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


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
