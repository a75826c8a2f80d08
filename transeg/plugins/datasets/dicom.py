"""Images in DICOM files."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from transeg.core.data.decoded_image import Range
from transeg.core.data.dicom_frames import DicomFrame, dicom_frames
from transeg.core.data.dicom_pixels import read_dicom
from transeg.core.data.dicom_seg_reading import (
    Segmented,
    SegmentPlane,
    is_segmentation,
    read_segmentation,
    segmented_mask,
)
from transeg.core.data.dicom_stack import slice_distance
from transeg.core.data.file_dataset import FileDataset, Pair, choose_split, mask_values
from transeg.core.data.images import EXTENSIONS, fit_channels
from transeg.core.data.listing import IMAGES, MASKS, find_folder, is_left_by_system, masks_by_image, stem_of
from transeg.core.data.splits import RATIO
from transeg.core.errors import DataError
from transeg.core.interfaces import Dataset, Fault, Origin

WHAT = "The dataset dicom"
"""Needs pydicom."""
Group = Literal["patient", "study", "series"]


@dataclass(frozen=True)
class FramePair(Pair):
    """A frame, with a mask where there is one.

    Attributes:
        frame: what it is.
        planes: what segmentations say of it; None where its mask is a picture.
    """

    frame: DicomFrame | None = None
    planes: tuple[SegmentPlane, ...] | None = None


class Dicom(FileDataset):
    """Images in DICOM files, of one frame or several, whatever the files are called and however deep they lie.

    The layout is one of: `images/` with files and folders as scanners and archives write them, and `masks/` with a PNG
    file for each image in the same folders: `masks/scan/IM0001.png` of `images/scan/IM0001.dcm`, or with DICOM-SEG
    objects that refer to the images; files and folders without masks; or one file. Of a file of several frames each is
    an image, with its number, from 0, behind the name: `IM0001_0000`. Other files are passed over, but not those that
    end in `.dcm` or begin as DICOM files do and hold no image: these are faults.

    Grey values are rescaled as the file says (Hounsfield units, for instance), and cut to `range`, or else to the
    file's first window or table (VOI LUT); where it has none, 8 bits are taken as they are, and of more the 0.5th and
    99.5th percentiles of what is not 0 in the series become black and white. MONOCHROME1 is turned over, so that black
    is small. Colours are RGB: palettes and YBR are converted; `range` does not concern them. Compressed files are
    decoded by pylibjpeg: docs/how-to/volumes.md says which. Pixels are as large as `PixelSpacing` says, or else
    `ImagerPixelSpacing`, which is that of the detector.

    Of DICOM-SEG, binary segments are classes by their labels. Where they overlap, the later class counts; an image that
    an object refers to without a frame of it is background.

    Where each group has one series, of slices at even distances, evaluations measure it as a volume, too. Slices are in
    the order of their names, which must be that of their places in the patient.

    Nothing that a file says of a patient leaves it: groups are called `patient1`, `patient2` and so on, in the order of
    files. Names of files and folders do appear; see that they name nobody.

    Needs pydicom: `pip install 'transeg[dicom]'`.

    Args:
        root: the folder, or a file.
        split: `train`, `val`, `test` or `all`.
        group: what splits never cut: a `patient`, or, where files that were made anonymous all say the same one, a
            `study` or a `series`.
        range: grey values behind rescaling that become 0 and 1; what lies outside is cut off.
        classes: names of the classes, background first; by default background and foreground, or the labels of segments
            in their order.
        values: pixel values in masks as PNG that stand for the classes, in the same order; by default 0, 1, 2, ... for
            several classes, and half of the range for one.
        ignore: pixel value in masks as PNG of what is unknown: neither losses nor metrics look there.
        ratio: shares of train, val and test, of the number of groups.
        seed: of the shuffle before groups are shared out.
    """

    reads_pairs_alone = True

    @classmethod
    def is_divided(cls, _root: Path, _options: Mapping[str, Any], /) -> bool:
        return False

    def __init__(
        self,
        root: Path,
        split: Literal["train", "val", "test", "all"],
        *,
        group: Group = "patient",
        range: Range | None = None,  # noqa: A002 -- the option that all datasets have
        classes: tuple[str, ...] | None = None,
        values: tuple[int, ...] | None = None,
        ignore: int | None = None,
        ratio: tuple[float, float, float] = RATIO,
        seed: int = 0,
    ) -> None:
        if range is not None and not range[0] < range[1]:
            raise ValueError(f"the range {list(range)} must be increasing")
        images = find_folder(root, *IMAGES) if root.is_dir() else None
        masks = find_folder(root, *MASKS) if images is not None else None
        frames, faults = dicom_frames(images or root, WHAT)
        segmented, damaged = _segmentations(masks)
        if segmented and not (values is None and ignore is None):
            raise ValueError(f"values and ignore are for masks as PNG, and {masks} holds DICOM-SEG")
        if segmented and masks and any(path.suffix.lower() in EXTENSIONS for path in masks.rglob("*")):
            raise ValueError(f"{masks} holds masks both as pictures and as DICOM-SEG; take one of them away")
        self.classes = classes or (_labels(segmented) if segmented else Dataset.classes)
        self.values = mask_values(self.classes, values, ignore)
        self._range = range
        if not frames and not faults:
            raise ValueError(f"{images or root} holds no DICOM file")
        self.channels = 3 if any(frame.coloured for frame in frames) else 1
        pairs, more = _segmented_pairs(frames, segmented, group) if segmented else _pairs(frames, masks, group)
        series: dict[str, list[DicomFrame]] = defaultdict(list)
        for frame in frames:
            series[frame.series].append(frame)
        self._series = {name: tuple(found) for name, found in series.items()}
        chosen = choose_split(pairs, split, lists=None, where=str(root), ratio=ratio, seed=seed)
        super().__init__(chosen, [*faults, *damaged, *more])

    def pixels(self, pair: Pair) -> np.ndarray:
        frame = _frame(pair)
        image = read_dicom(frame, self._range, self._series[frame.series])
        fitted = fit_channels(image, self.channels, lambda _: None, alpha=False)
        assert fitted is not None  # one channel or three
        return fitted

    def labels(self, pair: Pair, size: tuple[int, int]) -> tuple[np.ndarray | None, np.ndarray | None]:
        if isinstance(pair, FramePair) and pair.planes is not None:
            return segmented_mask(_frame(pair), pair.planes, self.classes), None
        return super().labels(pair, size)

    def size_of(self, index: int) -> tuple[int, int]:
        return _frame(self.pairs[index]).size

    def slice_distance_of(self, index: int) -> float | None:
        return self._distances[self.pairs[index].group]

    @cached_property
    def _distances(self) -> dict[str, float | None]:
        groups: dict[str, list[DicomFrame]] = defaultdict(list)
        for pair in self.pairs:
            groups[pair.group].append(_frame(pair))
        return {group: slice_distance(frames) for group, frames in groups.items()}

    def ranges_of(self, index: int) -> tuple[None, None]:
        return None, None

    def origin_of(self, index: int) -> Origin:
        pair = self.pairs[index]
        frame = _frame(pair)
        files = (pair.image, *((pair.mask,) if pair.mask else ()), *pair.more_masks)
        others = dict.fromkeys(other.path for other in self._series[frame.series])  # which say what is black
        how: tuple[object, ...] = (frame.index, pair.name, pair.group, self._range, self.values, self.channels)
        planes = pair.planes if isinstance(pair, FramePair) else None
        said = planes and (self.classes, [(files.index(plane.path), plane.index, plane.label) for plane in planes])
        how += (pair.mask is None, said)
        return Origin((*files, *(path for path in others if path not in files)), repr(how), type(self))

    def place_of(self, index: int) -> tuple[Path, str]:
        frame = _frame(self.pairs[index])
        return frame.path, str(frame.index)


def _frame(pair: Pair) -> DicomFrame:
    assert isinstance(pair, FramePair)
    assert pair.frame is not None
    return pair.frame


def _segmentations(masks: Path | None) -> tuple[dict[Path, Segmented], list[Fault]]:
    """The segmentations in a folder and below, and what is wrong with others."""
    found: dict[Path, Segmented] = {}
    faults = []
    for path in sorted(masks.rglob("*")) if masks is not None else ():
        if not is_left_by_system(path.name) and is_segmentation(path):
            try:
                found[path] = read_segmentation(path)
            except DataError as error:
                faults.append(Fault(error.file, str(error)))
    return found, faults


def _labels(segmented: Mapping[Path, Segmented]) -> tuple[str, ...]:
    """Background, and the labels of all segments by their numbers."""
    planes = [plane for found in segmented.values() for several in found.planes.values() for plane in several]
    ordered = sorted({(plane.number, plane.label) for plane in planes})
    return "background", *dict.fromkeys(label for _, label in ordered)


def _segmented_pairs(
    frames: list[DicomFrame], segmented: Mapping[Path, Segmented], group: Group
) -> tuple[list[FramePair], list[Fault]]:
    """Each frame with what segmentations say of it, and what does not fit."""
    several = {frame.instance for frame in frames if frame.index}
    pairs, faults = [], []
    for frame in frames:
        files = [path for path, found in segmented.items() if frame.instance in found.instances]
        if not files:
            faults.append(Fault(str(frame.path), f"No DICOM-SEG in masks/ refers to {frame.path}."))
            continue
        whole = [segmented[path].planes.get((frame.instance, 0), ()) for path in files]
        if frame.instance in several and any(whole):
            faults.append(Fault(str(files[0]), f"{files[0]} does not say which frames of {frame.path} it is of."))
            continue
        single = [segmented[path].planes.get((frame.instance, frame.index + 1), ()) for path in files]
        pairs.append(
            FramePair(
                frame.path,
                files[0],
                getattr(frame, group),
                called=frame.name,
                pixel_size=frame.pixel_size,
                more_masks=tuple(files[1:]),
                frame=frame,
                planes=tuple(plane for planes in (*whole, *single) for plane in planes),
            )
        )
    unused = [path for path, found in segmented.items() if not found.instances & {frame.instance for frame in frames}]
    return pairs, [*faults, *(Fault(str(path), f"{path} refers to none of the images.") for path in unused)]


def _pairs(frames: list[DicomFrame], masks: Path | None, group: Group) -> tuple[list[FramePair], list[Fault]]:
    """Each frame with its mask, by its name, and what does not fit."""
    files: dict[str, Path] = {}
    for inner, folders, names in os.walk(masks) if masks is not None else ():
        folders[:] = sorted(name for name in folders if not is_left_by_system(name))
        for path in sorted(Path(inner, name) for name in names if not is_left_by_system(name)):
            if path.suffix.lower() in EXTENSIONS:
                assert masks is not None
                files["_".join([*path.relative_to(masks).parts[:-1], stem_of(path.name)])] = path
    matched = masks_by_image([frame.name for frame in frames], files, str, guess=True)
    used = {name for found in matched.values() for name in found}
    faults = [Fault(str(path), f"{path} is the mask of no image.") for name, path in files.items() if name not in used]
    pairs = []
    for frame in frames:
        if masks is not None and frame.name not in matched:
            faults.append(Fault(str(frame.path), f"{frame.path} has no mask {frame.name}.png in {masks}."))
            continue
        own = [files[name] for name in matched.get(frame.name, ())]
        pairs.append(
            FramePair(
                frame.path,
                own[0] if own else None,
                getattr(frame, group),
                called=frame.name,
                pixel_size=frame.pixel_size,
                more_masks=tuple(own[1:]),
                frame=frame,
            )
        )
    return pairs, faults
