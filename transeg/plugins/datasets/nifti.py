"""Slices of volumes in NIfTI files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from transeg.core.data.decoded_image import Range
from transeg.core.data.file_dataset import FileDataset, Pair, choose_split, keep_official_test, mask_values
from transeg.core.data.labels import number_classes
from transeg.core.data.listing import (
    IMAGES,
    MASKS,
    find_folder,
    has_masks_beside,
    is_left_by_system,
    masks_by_image,
    natural_sort_key,
)
from transeg.core.data.splits import RATIO
from transeg.core.data.volume_file import ENDINGS, VolumeFile, is_volume, open_volume, volume_stem
from transeg.core.errors import DataError
from transeg.core.interfaces import Dataset, Fault

WHAT = "The dataset nifti"
"""Needs nibabel."""
Axis = Literal[0, 1, 2]
CHANNEL = re.compile(r"(.+)_\d{4}")
"""The stem of an image of nnU-Net, whose labels are called after the case alone."""


@dataclass(frozen=True)
class Slice(Pair):
    """A slice of a volume, whose number is its ``page``, and of its labels.

    Attributes:
        size: height and width.
    """

    size: tuple[int, int] = (0, 0)


class NIfTI(FileDataset):
    """Slices of volumes in `.nii` and `.nii.gz` files, with volumes of labels where there are any.

    The layout is one of: `images/` and `labels/` (or other usual names), with labels called as the images, or with
    `_seg` or the like behind; `imagesTr/` and `labelsTr/`, as nnU-Net and the Medical Segmentation Decathlon have it,
    with labelled test volumes in `imagesTs/` and `labelsTs/` where there are any, and class names in `dataset.json`;
    volumes straight in the folder, with `x_seg.nii.gz` beside `x.nii.gz`, or without labels; or one file. A volume is a
    group, which splits never cut.

    Slices lie across an axis of the body, whichever axis of the file is closest to it, and are turned as radiologists
    see them: the head or the front is up; in axial and coronal slices the right of the body is left, in sagittal ones
    its front. Slice 17 of `case.nii.gz` is called `case_0017`. Its pixels are as large as the affine says, and are not
    resampled. A fourth axis of two to four volumes holds channels.

    Intensities are those that the file means, with its slope and intercept. Without `range`, black and white are the
    0.5th and 99.5th percentiles of the voxels of a volume that are not 0, for each channel, as MedSAM has them (Ma et
    al., 2024, arXiv:2304.12306): right for MR, whose numbers mean nothing by themselves. Those of CT do: say which
    Hounsfield units are wanted, for instance `range=[-160, 240]` for soft tissue.

    Needs nibabel: `pip install 'transeg[nifti]'`.

    Args:
        root: the folder, or a file.
        split: `train`, `val`, `test` or `all`.
        axis: that slices lie across: 0 sagittal, 1 coronal, 2 axial.
        range: intensities that become 0 and 1; what lies outside is cut off.
        classes: names of the classes, background first; by default what `dataset.json` says, else background and
            foreground.
        values: numbers in the labels that stand for the classes, in the same order; by default 0, 1, 2, ...
        ignore: number in the labels of what is unknown: neither losses nor metrics look there.
        ratio: shares of train, val and test, of the number of volumes; with labelled test volumes, of train and val.
        seed: of the shuffle before volumes are shared out.
    """

    reads_pairs_alone = True

    @classmethod
    def is_divided(cls, root: Path, _options: Mapping[str, Any], /) -> bool:
        return root.is_dir() and find_folder(root, "labelsTs") is not None

    def __init__(
        self,
        root: Path,
        split: Literal["train", "val", "test", "all"],
        *,
        axis: Axis = 2,
        range: Range | None = None,  # noqa: A002 -- the option that all datasets have
        classes: tuple[str, ...] | None = None,
        values: tuple[int, ...] | None = None,
        ignore: int | None = None,
        ratio: tuple[float, float, float] = RATIO,
        seed: int = 0,
    ) -> None:
        if range is not None and not range[0] < range[1]:
            raise ValueError(f"the range {list(range)} must be increasing")
        said, unknown = _described(root)
        self.classes = classes or said or Dataset.classes
        numbered = tuple(number for number, _ in enumerate(self.classes))
        self.values = mask_values(self.classes, values or numbered, unknown if ignore is None else ignore)
        self._axis: Axis = axis
        self._range = range
        images, labels, test_images, test_labels = _folders(root)
        train, faults = _slices(images, labels, axis)
        test, more = _slices(test_images, test_labels, axis) if test_images is not None else ([], [])
        found = [*train, *test]
        if not found and not faults:
            raise ValueError(f"{root} holds no volume in {' or '.join(ENDINGS)} files")
        self.channels = open_volume(found[0].image, WHAT).channels if found else 1
        if test:
            chosen = keep_official_test(train, test, split, val_share=ratio[1] / (ratio[0] + ratio[1]), seed=seed)
        else:
            chosen = choose_split(train, split, lists=None, where=str(root), ratio=ratio, seed=seed)
        super().__init__(chosen, [*faults, *more, *_of_other_channels(found, self.channels)])

    def pixels(self, pair: Pair) -> np.ndarray:
        assert pair.page is not None
        return open_volume(pair.image, WHAT).image(self._axis, pair.page, self._range)

    def labels(self, pair: Pair, size: tuple[int, int]) -> tuple[np.ndarray | None, None]:
        if pair.mask is None:
            return None, None
        assert pair.page is not None
        assert self.values is not None
        try:
            return number_classes(open_volume(pair.mask, WHAT).labels(self._axis, pair.page), self.values), None
        except ValueError as fault:
            raise DataError(f"{pair.mask} {fault}; see the options classes and values.", str(pair.mask)) from fault

    def size_of(self, index: int) -> tuple[int, int]:
        pair = self.pairs[index]
        assert isinstance(pair, Slice)
        return pair.size

    def slice_distance_of(self, index: int) -> float:
        return open_volume(self.pairs[index].image, WHAT).spacing[self._axis]

    def ranges_of(self, index: int) -> tuple[None, None]:
        return None, None

    def place_of(self, index: int) -> tuple[Path, str]:
        pair = self.pairs[index]
        return pair.image, f"{self._axis} {pair.page}"


def _folders(root: Path) -> tuple[Path, Path | None, Path | None, Path | None]:
    """Where images and labels lie, and those of a published test set."""
    if root.is_file():
        return root, None, None, None
    images, labels = find_folder(root, "imagesTr"), find_folder(root, "labelsTr")
    if images is not None:
        test_images, test_labels = find_folder(root, "imagesTs"), find_folder(root, "labelsTs")
        return images, labels, test_images if test_labels else None, test_labels
    images = find_folder(root, *IMAGES)
    return (root, None, None, None) if images is None else (images, find_folder(root, *MASKS), None, None)


def _slices(images: Path, labels: Path | None, axis: Axis) -> tuple[list[Slice], list[Fault]]:
    """The slices of all volumes of a folder, or of one, and what does not fit."""
    volumes, faults = _volumes(images)
    matched, more = _matched(volumes, images, labels)
    faults += more
    found = []
    for name, (path, mask) in matched.items():
        try:
            volume = open_volume(path, WHAT)
            if mask is not None:
                volume.check_alike(open_volume(mask, WHAT))
        except DataError as error:
            faults.append(Fault(error.file, str(error)))
            continue
        found += _slices_of(volume, name, mask, axis)
    return found, faults


def _slices_of(volume: VolumeFile, name: str, mask: Path | None, axis: Axis) -> list[Slice]:
    size, pixel_size = volume.size_of(axis), volume.pixel_size_of(axis)
    return [
        Slice(volume.path, mask, name, called=f"{name}_{number:04d}", pixel_size=pixel_size, page=number, size=size)
        for number in range(volume.shape[axis])
    ]


def _volumes(folder: Path) -> tuple[dict[str, Path], list[Fault]]:
    """Volumes by name, in natural order, and those whose names are alike.

    Raises:
        ValueError: the folder does not exist.
    """
    if folder.is_file():
        return {volume_stem(folder): folder}, []
    if not folder.is_dir():
        raise ValueError(f"the folder {folder} does not exist")
    found: dict[str, Path] = {}
    faults = []
    for inner, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_left_by_system(name))
        for path in sorted(Path(inner, name) for name in files if not is_left_by_system(name)):
            if not is_volume(path):
                continue
            name = "_".join([*path.relative_to(folder).parts[:-1], volume_stem(path)])
            first = found.setdefault(name, path)
            if first != path:
                faults.append(Fault(str(path), f"{first} and {path} share the name {name!r}; rename one of them."))
    return {name: found[name] for name in sorted(found, key=natural_sort_key)}, faults


def _matched(
    volumes: Mapping[str, Path], images: Path, labels: Path | None
) -> tuple[dict[str, tuple[Path, Path | None]], list[Fault]]:
    """Each volume with its labels, by its name, and what does not fit."""
    together = labels is None and has_masks_beside(volumes)
    if labels is None and not together:
        return {name: (path, None) for name, path in volumes.items()}, []
    files, faults = (dict(volumes), []) if labels is None else _volumes(labels)
    cases, more = _cases(volumes, files)
    masks = masks_by_image(cases, files, str, guess=True, together=together)
    used = {name for names in masks.values() for name in names}
    cases = {name: path for name, path in cases.items() if not (together and name in used)}
    faults += more
    faults += [
        Fault(str(path), f"{path} has no labels {name}.nii or {name}.nii.gz in {labels or images}.")
        for name, path in cases.items()
        if name not in masks
    ]
    if not together:
        faults += [
            Fault(str(path), f"{path} holds the labels of no image in {images}.")
            for name, path in files.items()
            if name not in used
        ]
    return {name: (path, files[masks[name][0]]) for name, path in cases.items() if name in masks}, faults


def _cases(volumes: Mapping[str, Path], labels: Mapping[str, Path]) -> tuple[dict[str, Path], list[Fault]]:
    """Volumes by the names of their labels: nnU-Net's are called after the case, and its images after the channel."""
    cases: dict[str, Path] = {}
    faults = []
    for name, path in volumes.items():
        match = CHANNEL.fullmatch(name)
        case = match[1] if match is not None and name not in labels and match[1] in labels else name
        first = cases.setdefault(case, path)
        if first != path:
            faults.append(
                Fault(
                    str(path),
                    f"{first} and {path} are channels of one case; join them along a fourth axis, for instance with "
                    "fslmerge -t.",
                )
            )
    return cases, faults


def _of_other_channels(slices: Sequence[Slice], channels: int) -> list[Fault]:
    """Volumes that have not the channels of the first."""
    faults = []
    for path in dict.fromkeys(pair.image for pair in slices):
        found = open_volume(path, WHAT).channels
        if found != channels:
            faults.append(
                Fault(str(path), f"{path} has {found} channels, but {slices[0].image} has {channels}; they must agree.")
            )
    return faults


def _described(root: Path) -> tuple[tuple[str, ...] | None, int | None]:
    """Class names and the number of what is unknown, as ``dataset.json`` says them, of either version of nnU-Net.

    Raises:
        ValueError: it cannot be read, or numbers its classes in another way.
    """
    path = root / "dataset.json"
    if not path.is_file():
        return None, None
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))["labels"]
        numbers = {
            (str(name), int(number)) if str(key).isdigit() else (str(key), int(value))
            for key, value in labels.items()
            for name, number in [(value, key)]
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} does not say labels as nnU-Net does; name them with classes") from error
    unknown = next((number for name, number in numbers if name == "ignore"), None)
    names = {number: name for name, number in numbers if name != "ignore"}
    if len(names) < 2 or sorted(names) != [*range(len(names))]:
        raise ValueError(f"the labels in {path} are not 0 for the background, 1, 2 and so on")
    return tuple(names[number] for number in sorted(names)), unknown
