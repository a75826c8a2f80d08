"""Segmentation objects (DICOM-SEG) as masks of the images that they refer to.

As in :mod:`transeg.core.data.dicom_header`, nothing that a file says of a patient is kept or repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from transeg.core.data.dicom_frames import DicomFrame
from transeg.core.data.dicom_header import DEFLATED, SEGMENTATION, instance_digest, is_dicom, pydicom_library
from transeg.core.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset as Tags

WHAT = "DICOM-SEG"
"""Needs pydicom."""
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
NEAR = 0.01
"""Millimetres, and shares of a direction's length, by which what lies at one place may differ."""
GEOMETRY = {"PlaneOrientationSequence": "ImageOrientationPatient", "PlanePositionSequence": "ImagePositionPatient"}
"""By where it is said of single frames."""
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


@dataclass(frozen=True, slots=True)
class SegmentPlane:
    """What a frame of a segmentation says of an image.

    Attributes:
        path: the segmentation.
        index: of its frame, from 0.
        label: the segment's.
        number: the segment's.
    """

    path: Path
    index: int
    label: str
    number: int


@dataclass(frozen=True)
class Segmented:
    """What a segmentation is of.

    Attributes:
        planes: by the digest of an image's instance, and the number of its frame, from 1; 0 where all are meant.
        instances: digests of all images that it is of: where it has no plane of one, that is background.
    """

    planes: Mapping[tuple[str, int], Sequence[SegmentPlane]]
    instances: frozenset[str]


def is_segmentation(path: Path) -> bool:
    """Whether a file says that it is a segmentation."""
    if not path.is_file() or not is_dicom(path):
        return False
    try:
        tags = pydicom_library(WHAT).dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
    except Exception:
        return False
    return str(tags.get("SOPClassUID", "")) in (SEGMENTATION, LABEL_MAP)


def read_segmentation(path: Path) -> Segmented:
    """What a segmentation is of.

    Raises:
        DataError: it is damaged, not binary, or does not say which images it is of.
    """
    tags = _tags(path)
    kind = str(tags.get("SegmentationType", ""))
    if kind != "BINARY":
        raise DataError(f"{path} is a segmentation of another type than BINARY; save it as that, or as PNG.", str(path))
    planes: dict[tuple[str, int], list[SegmentPlane]] = {}
    try:
        labels = {int(segment.SegmentNumber): str(segment.SegmentLabel) for segment in tags.SegmentSequence}
        for index, groups in enumerate(tags.PerFrameFunctionalGroupsSequence):
            number = int(_group(tags, groups, "SegmentIdentificationSequence").ReferencedSegmentNumber)
            plane = SegmentPlane(path, index, labels[number], number)
            for source in _group(tags, groups, "DerivationImageSequence").SourceImageSequence:
                digest = instance_digest(str(source.ReferencedSOPInstanceUID))
                frame = int(source.get("ReferencedFrameNumber", 0) or 0)
                planes.setdefault((digest, frame), []).append(plane)
        referred = [
            instance_digest(str(instance.ReferencedSOPInstanceUID))
            for series in tags.get("ReferencedSeriesSequence") or ()
            for instance in series.ReferencedInstanceSequence
        ]
    except Exception:  # of whatever kind, with whatever of the file in its message
        raise DataError(
            f"{path} is damaged, or does not say which image each of its frames is of.", str(path)
        ) from None
    return Segmented(planes, frozenset(referred) | {digest for digest, _ in planes})


def segmented_mask(frame: DicomFrame, planes: Sequence[SegmentPlane], classes: Sequence[str]) -> np.ndarray:
    """``(H, W)`` uint8 of classes; where segments overlap, the later class counts.

    Args:
        frame: the image.
        planes: of it.
        classes: background first.

    Raises:
        DataError: a label is no class, or a plane does not lie where the image does.
    """
    mask = np.zeros(frame.size, np.uint8)
    files: dict[str, Path] = {}
    for plane in planes:
        if files.setdefault(plane.label, plane.path) != plane.path:
            raise DataError(
                f"{files[plane.label]} and {plane.path} both have the segment {plane.label!r} of {frame.path}; take "
                "one of them away.",
                str(plane.path),
            )
        if plane.label not in classes[1:]:
            raise DataError(
                f"{plane.path} has the segment {plane.label!r}, which is none of {', '.join(classes)}.",
                str(plane.path),
            )
    for plane in sorted(planes, key=lambda plane: classes.index(plane.label)):
        inside = _inside(plane)
        if inside.shape != frame.size or not _lies_on(plane, frame):
            raise DataError(
                f"{plane.path} has another size, place or direction than {frame.path}, which it refers to; save it "
                "with the geometry of the images.",
                str(plane.path),
            )
        mask[inside] = classes.index(plane.label)
    return mask


def _inside(plane: SegmentPlane) -> np.ndarray:
    """``(H, W)`` truth values."""
    tags = _tags(plane.path)
    try:
        rows, columns = int(tags.Rows), int(tags.Columns)
        begin, count = plane.index * rows * columns, rows * columns
        packed = np.frombuffer(_packed(plane.path, *_state(plane.path)), np.uint8)
        part = packed[begin // 8 : -(-(begin + count) // 8)]
        bits = np.unpackbits(part, bitorder="little")[begin % 8 :][:count]
        return bits.reshape(rows, columns).astype(bool)
    except Exception:  # of whatever kind, with whatever of the file in its message
        raise DataError(
            f"{plane.path} is cut off, damaged or compressed; save it again, uncompressed.", str(plane.path)
        ) from None


def _lies_on(plane: SegmentPlane, frame: DicomFrame) -> bool:
    """Whether a plane has the place and direction of its image, as far as both say them."""
    wanted = [*GEOMETRY.values(), *GROUPS]
    try:
        image = pydicom_library(WHAT).dcmread(frame.path, stop_before_pixels=True, specific_tags=wanted)
        both = zip(_geometry(_tags(plane.path), plane.index), _geometry(image, frame.index), strict=True)
        return all(one is None or other is None or np.allclose(one, other, rtol=0, atol=NEAR) for one, other in both)
    except Exception:  # of whatever kind, with whatever of the files in its message
        return False


def _geometry(tags: Tags, index: int) -> Iterator[list[float] | None]:
    """Direction and place of a frame."""
    frames = tags.get(GROUPS[1]) or ()
    for sequence, tag in GEOMETRY.items():
        try:
            said = (_group(tags, frames[index], sequence) if index < len(frames) else tags).get(tag)
        except (KeyError, IndexError):
            said = None
        yield None if not said else [float(value) for value in said]


def _group(tags: Tags, groups: Tags, name: str) -> Tags:
    """What is said of a frame, or of all.

    Raises:
        KeyError: nothing.
        IndexError: likewise.
    """
    shared = tags.get(GROUPS[0])
    return (shared[0] if shared and name not in groups else groups)[name][0]


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _tags(path: Path) -> Tags:
    return _tags_of(path, *_state(path))


@lru_cache(maxsize=64)
def _tags_of(path: Path, _size: int, _modified: int) -> Tags:
    """All but the pixels.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return pydicom_library(WHAT).dcmread(path, stop_before_pixels=True)
    except Exception:  # of whatever kind, with whatever of the file in its message
        raise DataError(f"{path} is damaged: what it says of itself cannot be read.", str(path)) from None


@lru_cache(maxsize=4)
def _packed(path: Path, _size: int, _modified: int) -> bytes:
    """The frames, eight pixels in a byte."""
    tags = pydicom_library(WHAT).dcmread(path)
    syntax = tags.file_meta.TransferSyntaxUID
    if syntax.is_compressed or syntax == DEFLATED or not syntax.is_little_endian or int(tags.BitsAllocated) != 1:
        raise ValueError
    return bytes(tags.PixelData)
