"""Frames of DICOM files: which there are, and what is said of each.

Patients, studies and series get numbers: see :mod:`transeg.core.data.dicom_header`.
"""

from __future__ import annotations

import math
import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transeg.core.data.dicom_header import (
    COLOURS,
    IDENTITY,
    PLACE,
    SPACING,
    DicomHeader,
    instance_digest,
    is_dicom,
    pydicom_library,
    read_header,
    said_of_frame,
)
from transeg.core.data.listing import is_left_by_system, natural_sort_key
from transeg.core.errors import DataError
from transeg.core.interfaces import Fault

ENDINGS = (".dcm", ".dicom")
"""That files may have; most have none."""


@dataclass(frozen=True, slots=True)
class DicomFrame:
    """A frame of a DICOM file.

    Attributes:
        path: the file.
        index: of the frame, from 0.
        name: the file's path in its folder, without ending, and the frame's number where there are several.
        patient: a number, as `patient1`, in the order of files.
        study: likewise.
        series: likewise.
        size: height and width in pixels.
        coloured: whether it has three channels, not one.
        pixel_size: in micrometres, height first; None where it is not said.
        instance: the digest of what the file is called among all DICOM objects.
        place: nine numbers: where the first pixel lies in the patient, in millimetres, and how rows and columns run
            there; None where they are not said.
    """

    path: Path
    index: int
    name: str
    patient: str
    study: str
    series: str
    size: tuple[int, int]
    coloured: bool
    pixel_size: tuple[float, float] | None
    instance: str
    place: tuple[float, ...] | None = None


def dicom_frames(place: Path, what: str) -> tuple[list[DicomFrame], list[Fault]]:
    """The frames of a file, or of all DICOM files in a folder and below, and what is wrong with others.

    Args:
        place: the file or folder. Of a folder, files count that begin as DICOM files do, whatever they are called.
        what: needs pydicom, for the sentence where it is missing.

    Raises:
        UsageError: pydicom is not installed.
    """
    pydicom_library(what)
    numbers: dict[str, dict[Any, str]] = {"patient": {}, "study": {}, "series": {}}
    found: list[DicomFrame] = []
    faults: list[Fault] = []
    named: dict[str, Path] = {}
    for path in _files(place):
        name = _name(path, place)
        first = named.setdefault(name, path)
        if first != path:
            faults.append(Fault(str(path), f"{first} and {path} share the name {name!r}; rename one of them."))
            continue
        try:
            header = read_header(path, what)
            found += [] if header is None else _frames_of(path, name, header, numbers)
        except DataError as error:
            faults.append(Fault(error.file, str(error)))
    return found, faults


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    found = []
    for inner, folders, files in os.walk(place):
        folders[:] = [name for name in folders if not is_left_by_system(name)]
        paths = [Path(inner, name) for name in files if not is_left_by_system(name)]
        found += [path for path in paths if path.suffix.lower() in ENDINGS or is_dicom(path)]
    return sorted(found, key=lambda path: natural_sort_key(path.relative_to(place).as_posix()))


def _name(path: Path, place: Path) -> str:
    """By which a file is called: there may be points in it that begin no ending."""
    stem = path.stem if path.suffix.lower() in ENDINGS else path.name
    folders = path.relative_to(place).parts[:-1] if place.is_dir() else ()
    return unicodedata.normalize("NFC", "_".join([*folders, stem]))


def _frames_of(path: Path, name: str, header: DicomHeader, numbers: dict[str, dict[Any, str]]) -> list[DicomFrame]:
    patient, study, series = (str(header.tags.get(tag, "")) for tag in IDENTITY)
    study = study or series or name
    keys = {"patient": patient or study, "study": study, "series": series or name}
    groups = {kind: known.setdefault(keys[kind], f"{kind}{len(known) + 1}") for kind, known in numbers.items()}
    coloured = str(header.tags.PhotometricInterpretation) in COLOURS
    try:
        said = [said_of_frame(header.tags, index) for index in range(header.frames)]
        geometry = [(_pixel_size(each), _place(each)) for each in said]
    except Exception:  # of whatever kind, with whatever of the file in its message
        raise DataError(f"{path} is damaged: what it says of its frames cannot be read.", str(path)) from None
    return [
        DicomFrame(
            path,
            index,
            name if header.frames == 1 else f"{name}_{index:04d}",
            groups["patient"],
            groups["study"],
            groups["series"],
            header.size,
            coloured,
            size,
            instance_digest(str(header.tags.get("SOPInstanceUID", ""))),
            place,
        )
        for index, (size, place) in enumerate(geometry)
    ]


def _pixel_size(said: dict[str, Any]) -> tuple[float, float] | None:
    sides = next((said[tag] for tag in SPACING if tag in said), None)
    if sides is None:
        return None
    height, width = float(sides[0]) * 1000, float(sides[1]) * 1000
    return (height, width) if 0 < height < math.inf and 0 < width < math.inf else None


def _place(said: dict[str, Any]) -> tuple[float, ...] | None:
    numbers = tuple(float(value) for tag in PLACE for value in said.get(tag, ()))
    return numbers if len(numbers) == 9 and all(map(math.isfinite, numbers)) else None
