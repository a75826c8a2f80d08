"""Images in HDF5 files: the layouts of AxonDeepSynth and of SynDiff."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from transeg.core.data.file_dataset import mask_values
from transeg.core.data.labels import count_values, foreground_begins, number_classes
from transeg.core.data.listing import natural_sort_key
from transeg.core.data.splits import FOLDERS, RATIO, SPLITS, split_by_ratio
from transeg.core.data.writing import check_announced, file_name
from transeg.core.errors import DataError, no_such
from transeg.core.files import replacing
from transeg.core.interfaces import IGNORE, About, Dataset, Region, Sample, Writer, Written

ENDINGS = (".hdf5", ".h5", ".mat")
MATLAB_VARIABLE = "data_fs"
FOR_SPLIT = re.compile(rf"(.+)_({'|'.join(FOLDERS)})(?:_(.+))?")
"""The stem of a file that is for one split, with the domain where that is said, too."""
PARTS = ".parts"
"""Where written samples lie before they are put together, a file for each: one file cannot have several writers."""
LOWEST, HIGHEST = -1.0, 2.0
"""Of floats that are meant to lie between 0 and 1: filters overshoot."""

logger = logging.getLogger("transeg.data")
_said: set[Path] = set()


@dataclass(frozen=True, slots=True)
class Slot:
    """Where an image is.

    Attributes:
        file: that holds it.
        image: path of its data in the file.
        split: that the file is for; '' where it does not say.
        name: of the sample.
        group: of the sample.
        shape: height, width and channels.
        labels: path of its labels in the file.
        number: of the image, where the data hold many; they are turned over then, as MATLAB stores them.
        pixel_size: in micrometres.
    """

    file: Path
    image: str
    split: str
    name: str
    group: str
    shape: tuple[int, int, int]
    labels: str = ""
    number: int | None = None
    pixel_size: tuple[float, float] | None = None


class HDF5Writer(Writer):
    """Writes one HDF5 file for each split, as AxonDeepSynth has them, with a group for the domain.

    Images lie in `/<domain>/<number>`, or in `/<domain>/images/<number>` with labels in `/<domain>/labels/<number>`.
    Attributes keep names, groups and sizes of pixels.
    """

    keeps_splits_apart = True

    def __init__(self, root: Path, about: About) -> None:
        self._root = root
        self._about = about
        self._domain = file_name(about.domain or about.name)
        self._there = {
            (slot.name, slot.split)
            for path in _files(root)
            for slot in _slots(path)
            if slot.image.split("/")[1] == self._domain
        }

    def has(self, name: str, split: str) -> bool:
        return (name, split) in self._there or self._part(name, split).exists()

    def add(self, sample: Sample, split: str) -> None:
        check_announced(sample, self._about)
        part = self._part(sample.name, split)
        with replacing(part, durable=False) as unfinished, h5py.File(unfinished, "w") as file:
            pixels = sample.image[:, :, 0] if sample.image.shape[2] == 1 else sample.image
            image = file.create_dataset("image", data=pixels, chunks=True, compression="gzip", compression_opts=1)
            image.attrs.update({"name": sample.name, "group": sample.group})
            if sample.pixel_size is not None:
                image.attrs["pixel_size"] = sample.pixel_size
            if sample.mask is not None:
                labels = sample.mask.astype(np.uint8)
                file.create_dataset("labels", data=labels, chunks=True, compression="gzip", compression_opts=1)

    def finish(self, samples: Sequence[Written]) -> None:
        own = self._root / PARTS / self._domain
        for split in SPLITS:
            parts = sorted((own / split).glob("[!.]*.hdf5"), key=lambda p: natural_sort_key(p.stem))
            new = [path for path in parts if (_name(path), split) not in self._there]
            if new:  # whoever was killed after that could not remove the parts any more
                self._put_together(split, new)
        shutil.rmtree(own, ignore_errors=True)
        with suppress(OSError):  # there is none, or another domain is being written
            own.parent.rmdir()

    def _put_together(self, split: str, parts: Sequence[Path]) -> None:
        """Copy samples into the file of their split, which is replaced as a whole."""
        place = self._root / f"{file_name(self._about.name)}_{split}.hdf5"
        with replacing(place) as unfinished:
            if place.exists():
                shutil.copyfile(place, unfinished)
            with h5py.File(unfinished, "a") as file:
                group = file.require_group(self._domain)
                group.attrs["classes"] = json.dumps(self._about.classes)
                apart = "images" in group or any(map(_has_labels, parts))
                for path in parts:
                    with h5py.File(path) as part:
                        _append(part, group, apart=apart)

    def _part(self, name: str, split: str) -> Path:
        return self._root / PARTS / self._domain / split / f"{file_name(name)}.hdf5"


def _name(path: Path) -> str:
    with h5py.File(path) as part:
        return str(part["image"].attrs["name"])


def _has_labels(path: Path) -> bool:
    with h5py.File(path) as part:
        return "labels" in part


def _append(part: h5py.File, group: h5py.Group, *, apart: bool) -> None:
    """Copy a sample into the group of its domain; where some have labels, images and labels are apart there."""
    images = group.require_group("images") if apart else group
    number = str(len(images))
    part.copy("image", images, name=number)
    if "labels" in part:
        part.copy("labels", group.require_group("labels"), name=number)


class HDF5(Dataset):
    """Images in HDF5 files, whose domains are named by who made them: `hdf5:sem:FOLDER`.

    As AxonDeepSynth has them: `<name>_train.hdf5`, `_val` and `_test`, with a group for each domain that holds images
    by number, or `images/` and `labels/` of them. As SynDiff has them (Özbey et al., 2023): `data_train_<domain>.mat`
    and so on, or `<domain>.mat` alone, of MATLAB v7.3, in which `data_fs` holds images, their widths and their heights.
    Intensities keep their scale: they are never stretched image by image.

    Args:
        root: the folder of the files.
        split: `train`, `val`, `test` or `all`.
        domain: the group in the files, or the contrast in the names of files; by default the only one there is.
        range: the intensities that become 0 and 1, in all images; what lies outside is cut off. By default integers
            have the range of their type, and floats are taken to lie between 0 and 1.
        classes: names of the classes, background first; by default what the files say, else background and foreground.
        values: what stands for the classes in the labels, in the same order; by default 0, 1, 2, ...
        ignore: what stands for what is unknown.
        pixel_um: height and width of the pixels in micrometres, where files do not say it.
        ratio: shares of train, val and test, of files that are not for one of them.
        seed: of the shuffle before these images are shared out.
    """

    domains = ("*",)
    writer = HDF5Writer

    @classmethod
    def is_divided(cls, root: Path, _options: Mapping[str, Any], /) -> bool:
        return any(FOR_SPLIT.fullmatch(path.stem) for path in _files(root))

    def __init__(
        self,
        root: Path,
        split: Literal["train", "val", "test", "all"],
        *,
        domain: str = "*",
        range: tuple[float, float] | None = None,  # noqa: A002 - what users call it
        classes: tuple[str, ...] | None = None,
        values: tuple[int, ...] | None = None,
        ignore: int | None = None,
        pixel_um: float | None = None,
        ratio: tuple[float, float, float] = RATIO,
        seed: int = 0,
    ) -> None:
        if range is not None and not range[0] < range[1]:
            raise ValueError(f"the range {list(range)} must be increasing")
        by_domain: dict[str, list[Slot]] = {}
        said: dict[str, tuple[str, ...]] = {}
        for path in _files(root):
            for slot in _slots(path):
                by_domain.setdefault(_domain(slot), []).append(slot)
            said |= _classes(path)
        slots = by_domain[_chosen(domain, by_domain, root)]
        channels = {slot.shape[2] for slot in slots}
        if len(channels) > 1:
            raise ValueError(
                f"images of {root} have {' or '.join(map(str, sorted(channels)))} channels; they must agree"
            )
        (self.channels,) = channels
        known = said.get(_domain(slots[0]))
        self.classes = classes or known or Dataset.classes
        self._values = mask_values(
            self.classes, values, IGNORE if ignore is None and values is None and known else ignore
        )
        self._range = range
        size = None if pixel_um is None else (pixel_um, pixel_um)
        self._slots = [
            slot if slot.pixel_size else replace(slot, pixel_size=size) for slot in _of_split(slots, split, ratio, seed)
        ]
        self._open: dict[Path, h5py.File] = {}
        self._process = os.getpid()
        self._begins: dict[Slot, int] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, index: int) -> Sample:
        height, width, _ = self._slots[index].shape
        return self.read_region(index, Region(0, 0, height, width))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def size_of(self, index: int) -> tuple[int, int]:
        return self._slots[index].shape[:2]

    def files_of(self, index: int) -> dict[str, tuple[Path, ...]]:
        return {"image": (self._slots[index].file,)}

    def pixel_size_of(self, index: int) -> tuple[float, float] | None:
        return self._slots[index].pixel_size

    def place_of(self, index: int) -> tuple[Path, str]:
        slot = self._slots[index]
        return slot.file, slot.image if slot.number is None else f"{slot.image}/{slot.number}"

    def read_region(self, index: int, region: Region) -> Sample:
        slot = self._slots[index]
        rows, columns = slice(region.top, region.top + region.height), slice(region.left, region.left + region.width)
        try:
            file = self._file(slot.file)
            data = file[slot.image]
            if slot.number is None:
                pixels = data[rows, columns]
            else:
                pixels = np.swapaxes(data[(*([slice(None)] * (data.ndim - 3)), slot.number, columns, rows)], -2, -1)
                pixels = np.moveaxis(pixels, 0, 2) if pixels.ndim == 3 else pixels
            labels = file[slot.labels][rows, columns] if slot.labels else None
        except (OSError, KeyError, ValueError) as error:
            raise DataError(f"{slot.file} cannot be read: {error}.", str(slot.file)) from error
        image = self._unit(pixels if pixels.ndim == 3 else pixels[:, :, None], slot)
        mask = None if labels is None else self._mask(labels, slot)
        if mask is not None and mask.shape != image.shape[:2]:
            raise DataError(
                f"The labels of {slot.name} in {slot.file} have another size than the image.", str(slot.file)
            )
        return Sample(image, mask, slot.name, slot.group, pixel_size=slot.pixel_size)

    def _file(self, path: Path) -> h5py.File:
        """A file that is kept open, by each process for itself."""
        if self._process != os.getpid():
            for inherited in self._open.values():
                inherited.close()
            self._open, self._process = {}, os.getpid()
        if path not in self._open:
            self._open[path] = h5py.File(path, "r", locking=False)
        return self._open[path]

    def _unit(self, pixels: np.ndarray, slot: Slot) -> np.ndarray:
        """Intensities on the one scale of all images."""
        if self._range is not None and np.isfinite(pixels).all():
            low, high = self._range
            return ((pixels.astype(np.float32) - low) / (high - low)).clip(0, 1).astype(np.float32)
        if pixels.dtype in (np.uint8, np.uint16):
            return np.ascontiguousarray(pixels)
        if not np.isfinite(pixels).all():
            raise DataError(
                f"{slot.name} in {slot.file} has values that are not finite (NaN or infinity); replace them.",
                str(slot.file),
            )
        low, high = float(pixels.min(initial=0)), float(pixels.max(initial=0))
        if not np.issubdtype(pixels.dtype, np.floating) or low < LOWEST or high > HIGHEST:
            raise DataError(
                f"{slot.name} in {slot.file} has values of type {pixels.dtype} from {low:g} to {high:g}; "
                "say which become 0 and 1 with the dataset's option range=[LOW, HIGH].",
                str(slot.file),
            )
        if (low < 0 or high > 1) and slot.file not in _said:
            _said.add(slot.file)
            logger.warning("%s has values outside of [0, 1], which are cut off (see range).", slot.file)
        return np.ascontiguousarray(pixels, np.float32).clip(0, 1)

    def _mask(self, labels: np.ndarray, slot: Slot) -> np.ndarray:
        try:
            if self._values is not None:
                return number_classes(labels, self._values)
            if slot not in self._begins:  # as the whole says, of which this may be a part
                self._begins[slot] = foreground_begins(count_values(self._file(slot.file)[slot.labels][()]))
            return (labels >= self._begins[slot]).view(np.uint8)
        except ValueError as fault:
            raise DataError(
                f"The label map of {slot.name} in {slot.file} {fault}; see the options classes and values.",
                str(slot.file),
            ) from fault


def _files(root: Path) -> list[Path]:
    found = (path for path in root.glob("*") if path.suffix.lower() in ENDINGS and not path.name.startswith("."))
    return sorted(found, key=lambda path: natural_sort_key(path.name))


def _slots(path: Path) -> Iterator[Slot]:
    """Every image of a file.

    Raises:
        ValueError: it is not an HDF5 file, or holds something else.
    """
    stem, split = path.stem, ""
    parts = FOR_SPLIT.fullmatch(stem)
    if parts is not None:
        split = FOLDERS[parts[2]]
    with _opened(path) as file:
        if MATLAB_VARIABLE in file:
            yield from _matlab(path, _own(path, file, MATLAB_VARIABLE), split)
            return
        for domain in file:
            group = _own(path, file, domain)
            if not isinstance(group, h5py.Group):
                continue
            inner = _own(path, group, "images")
            images = inner if isinstance(inner, h5py.Group) else group
            for number in sorted(images, key=natural_sort_key):
                data = _own(path, images, number)
                if isinstance(data, h5py.Dataset) and data.ndim in (2, 3):
                    labels = f"{domain}/labels/{number}"
                    there = _own(path, group, "labels") is not None and _own(path, file, labels) is not None
                    yield _numbered(path, data, split, f"{stem}-{domain}-{number}", labels if there else "")


def _own(path: Path, group: h5py.Group, name: str) -> Any:
    """What a group holds under a name; None for nothing.

    Raises:
        ValueError: it lies in another file. A file from elsewhere could name any file of this machine, whose content
            would then be copied into what is made of the data set.
    """
    link = group.get(name, getlink=True)
    if link is None:
        return None
    outside = isinstance(link, h5py.ExternalLink)
    found = None if outside else group.get(name)
    if found is not None:
        outside = found.file.filename != str(path)
        outside |= isinstance(found, h5py.Dataset) and (found.is_virtual or bool(found.external))
    if outside:
        raise ValueError(f"{path}: {name} lies in another file, which is never read; write it into this one")
    return found


def _opened(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        version = "; save it in MATLAB with -v7.3" if path.suffix.lower() == ".mat" else ""
        raise ValueError(f"{path} is not an HDF5 file{version}") from error


def _numbered(path: Path, data: h5py.Dataset, split: str, name: str, labels: str) -> Slot:
    size = data.attrs.get("pixel_size")
    return Slot(
        path,
        data.name,
        split,
        str(data.attrs.get("name", name)),
        str(data.attrs.get("group", name)),
        (data.shape[0], data.shape[1], data.shape[2] if data.ndim == 3 else 1),
        labels,
        pixel_size=None if size is None else (float(size[0]), float(size[1])),
    )


def _matlab(path: Path, data: h5py.Dataset, split: str) -> Iterator[Slot]:
    """Slices of (images, widths, heights), or of (channels, images, widths, heights)."""
    if data.ndim not in (3, 4):
        raise ValueError(f"{path}: {MATLAB_VARIABLE} has the shape {data.shape}, not (images, width, height)")
    channels, (count, width, height) = (1 if data.ndim == 3 else data.shape[0]), data.shape[-3:]
    for number in range(count):
        name = f"{path.stem}-{number:04d}"
        yield Slot(path, data.name, split, name, name, (height, width, channels), number=number)


def _domain(slot: Slot) -> str:
    """A group's name, or what is left of the name of a MATLAB file."""
    if slot.number is None:
        return slot.image.split("/")[1]
    parts = re.fullmatch(rf".+_(?:{'|'.join(FOLDERS)})_(.+)", slot.file.stem)
    return parts[1] if parts else slot.file.stem


def _classes(path: Path) -> dict[str, tuple[str, ...]]:
    """The classes of each domain in a file that says them."""
    with _opened(path) as file:
        return {
            domain: tuple(map(str, json.loads(group.attrs["classes"])))
            for domain in file
            if isinstance(group := _own(path, file, domain), h5py.Group) and "classes" in group.attrs
        }


def _chosen(domain: str, there: Mapping[str, Any], root: Path) -> str:
    if not there:
        raise ValueError(f"{root} holds no images in {', '.join(ENDINGS)} files")
    if domain in there:
        return domain
    if domain != "*":
        raise ValueError(no_such("domain", domain, there))
    if len(there) > 1:
        raise ValueError(f"{root} holds the domains {', '.join(sorted(there))}; say which, as in hdf5:DOMAIN:FOLDER")
    return next(iter(there))


def _of_split(slots: Sequence[Slot], split: str, ratio: Sequence[float], seed: int) -> list[Slot]:
    """Images of a split: by their files where these are for one, else by ratio."""
    if split == "all":
        return list(slots)
    open_ones = [slot for slot in slots if not slot.split]
    members = split_by_ratio([slot.group for slot in open_ones], ratio, seed)
    shared = {open_ones[index].name for index in members[split]}
    return [slot for slot in slots if slot.split == split or (not slot.split and slot.name in shared)]
