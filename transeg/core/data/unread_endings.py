"""Files that hold pictures and are not read: what they are, and how they become files that are."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

VIDEO = "video", "name it as a dataset, video:{file}, or extract its frames: ffmpeg -i {file} frames/%06d.png"
NIFTI = (
    "NIfTI volume",
    "name it as a dataset, nifti:{file} or nifti: and its folder; toolkit predict takes it as it is",
)
VOLUME = "volume", "save it as NIfTI (.nii.gz), for instance with SimpleITK, or its slices as PNG or TIFF"
DICOM = "DICOM file", "name it as a dataset, dicom:{file} or dicom: and its folder; toolkit predict takes it as it is"
SCAN = (
    "whole slide",
    "name it as a dataset, slides:{file} or slides: and its folder; toolkit predict takes it as it is",
)
SLIDE = "slide or microscope file", "export the wanted regions as TIFF, for instance with QuPath or Fiji"
PHOTO = "photo", "convert it, for instance: magick {file} image.png"

logger = logging.getLogger("transeg.data")
_said: set[Path] = set()

KINDS = {
    ending: kind
    for kind, endings in (
        (VIDEO, ".mp4 .avi .mov .mkv .mpg .mpeg .m4v .wmv .webm .ts"),
        (NIFTI, ".nii .nii.gz"),
        (VOLUME, ".mha .mhd .nrrd"),
        (DICOM, ".dcm .dicom"),
        (SCAN, ".svs .ndpi"),
        (SLIDE, ".mrxs .scn .vsi .bif .czi .lif .nd2 .oib .oif .lsm .ims"),
        (PHOTO, ".heic .heif .avif .jxl .jfif .jpe .j2k .psd .dng .nef .cr2 .arw .exr"),
    )
    for ending in endings.split()
}
"""What files of an ending are called, and what to do with them."""


def unread_ending(path: Path) -> str:
    """The ending of a file that holds pictures but is not read; '' of any other."""
    endings = "".join(path.suffixes[-2:]).lower(), path.suffix.lower()
    return next((ending for ending in endings if ending in KINDS), "")


def count_unread(folder: Path) -> dict[str, int]:
    """How many files straight in a folder hold pictures but are not read, by their ending."""
    endings = (unread_ending(path) for path in sorted(folder.iterdir()) if not path.name.startswith("."))
    return dict(Counter(ending for ending in endings if ending))


def describe_unread(place: Path) -> str:
    """A clause on what a folder, or a file, holds that is not read, and what to do; '' where there is no such thing."""
    if not place.is_dir():
        ending = unread_ending(place)
        return f"is a {KINDS[ending][0]}, which transeg does not read as images; {_cure(place)}" if ending else ""
    counts = count_unread(place)
    if not counts:
        return ""
    listed = ", ".join(f"{n} {KINDS[ending][0]}{'s' * (n > 1)} ({ending})" for ending, n in counts.items())
    first = next(path for path in sorted(place.iterdir()) if unread_ending(path) and not path.name.startswith("."))
    return f"holds {listed}, which transeg does not read as images; {_cure(first)}"


def say_unread(folder: Path) -> None:
    """Say once of a folder which of its files are passed over."""
    unread = describe_unread(folder)
    if unread and folder not in _said:
        _said.add(folder)
        logger.warning("%s %s.", folder, unread)


def _cure(file: Path) -> str:
    return KINDS[unread_ending(file)][1].format(file=file)
