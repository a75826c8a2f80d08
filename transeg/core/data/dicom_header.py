"""What a DICOM file says before its pixels.

What it says of a patient is never kept, named or repeated, and what a library says of a damaged file, in which there
may be names, is not passed on.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
import zlib
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transeg.core.errors import DataError
from transeg.core.optional_packages import require

if TYPE_CHECKING:
    from pydicom import Dataset as Tags

MAGIC = b"DICM"
BEFORE_MAGIC = 128
BEFORE_META = 144
"""Bytes before those that the length of a file's meta information counts."""
MOST_BYTES = 2**29
"""Of a frame, and of what a deflated file unpacks to."""
LEAST = 8
"""Bytes that a compressed frame takes at least: those of its item."""
IDENTITY = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")
WINDOW = ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence")
RESCALE = ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence")
SPACING = ("PixelSpacing", "ImagerPixelSpacing")
PLACE = ("ImagePositionPatient", "ImageOrientationPatient")
WANTED = (
    *IDENTITY,
    *WINDOW,
    *RESCALE,
    *SPACING,
    *PLACE,
    "SOPClassUID",
    "SOPInstanceUID",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PixelRepresentation",
    "BitsAllocated",
    "BitsStored",
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    *(
        f"{colour}PaletteColorLookupTable{part}"
        for colour in ("Red", "Green", "Blue")
        for part in ("Descriptor", "Data")
    ),
)
"""Of all that a file says, what is read."""
IN_FRAMES = (
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
)
"""In which files of several frames say of each what others say of themselves."""
DEFLATED = "1.2.840.10008.1.2.1.99"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
DIRECTORY = "1.2.840.10008.1.3.10"
COLOURS = ("RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
GREYS = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True, slots=True)
class DicomHeader:
    """What is read of a file before its pixels.

    Attributes:
        tags: those of :data:`WANTED`.
        syntax: the UID of how its pixels are encoded.
        frames: their number.
        size: height and width in pixels.
    """

    tags: Tags
    syntax: str
    frames: int
    size: tuple[int, int]


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do."""
    try:
        with path.open("rb") as file:
            return path.is_file() and file.read(BEFORE_MAGIC + len(MAGIC))[BEFORE_MAGIC:] == MAGIC
    except OSError:
        return False


def instance_digest(uid: str) -> str:
    """What files can be compared by that refer to each other, in place of what identifies a patient's image."""
    return hashlib.blake2b(uid.encode(), digest_size=16).hexdigest()


def read_header(path: Path, what: str) -> DicomHeader | None:
    """What a file says before its pixels; None of a directory of other files.

    Raises:
        DataError: it is no DICOM image.
    """
    if not path.is_file():  # whoever opens a pipe may wait for ever
        raise DataError(f"{path} is no regular file, so it is not read.", str(path))
    state = path.stat()
    return _header_of(path, what, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=8192)
def _header_of(path: Path, what: str, size: int, _modified: int) -> DicomHeader | None:
    if not size:
        raise DataError(f"{path} is empty.", str(path))
    if not is_dicom(path):
        raise DataError(f"{path} is no DICOM file; it may be cut off or encrypted.", str(path))
    pydicom = pydicom_library(what)
    try:
        meta = pydicom.filereader.read_file_meta_info(path)
        syntax = str(meta.get("TransferSyntaxUID", ""))
        if syntax == DEFLATED and _unpacks_to_more(path, BEFORE_META + int(meta.FileMetaInformationGroupLength)):
            raise DataError(f"{path} unpacks to more than {MOST_BYTES >> 20} MiB, so it is not read.", str(path))
        tags = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(WANTED))
        for tag in WANTED:
            tags.get(tag)  # which decodes it, here and now
        kind = str(tags.get("SOPClassUID", ""))
        if kind == DIRECTORY or path.name.upper().startswith("DICOMDIR"):
            return None
        return _checked(path, tags, syntax, kind, size)
    except DataError:
        raise
    except Exception:  # of whatever kind, with whatever of the file in its message
        raise DataError(f"{path} is damaged: what it says of itself cannot be read.", str(path)) from None


def _checked(path: Path, tags: Tags, syntax: str, kind: str, size: int) -> DicomHeader:
    """The header of an image.

    Raises:
        DataError: it is none, or none that is read.
    """
    if kind == SEGMENTATION:
        raise DataError(f"{path} is a segmentation, not an image; put it into masks/.", str(path))
    if any(tag not in tags for tag in ("Rows", "Columns", "BitsAllocated", "PhotometricInterpretation")):
        raise DataError(
            f"{path} holds no pixels: it is a report or plan, for instance, or cut off; take it away.", str(path)
        )
    if not syntax:
        raise DataError(f"{path} does not say how its pixels are encoded (its transfer syntax).", str(path))
    colour = str(tags.PhotometricInterpretation)
    if colour not in (*COLOURS, *GREYS):
        raise DataError(f"{path} has pixels of a kind that is not read; save it as RGB or MONOCHROME2.", str(path))
    rows, columns, frames = int(tags.Rows), int(tags.Columns), int(tags.get("NumberOfFrames", None) or 1)
    needed = rows * columns * int(tags.get("SamplesPerPixel", 1)) * int(tags.BitsAllocated) / 8
    if rows < 1 or columns < 1 or frames < 1 or needed > MOST_BYTES:
        raise DataError(
            f"{path} says that it holds {frames} frames of {columns}x{rows} pixels, which is not read.", str(path)
        )
    packed = tags.file_meta.TransferSyntaxUID.is_compressed
    if (
        frames * (LEAST if packed else needed * (2 / 3 if colour == "YBR_FULL_422" else 1)) > size
        and syntax != DEFLATED
    ):
        raise DataError(f"{path} is cut off: it is shorter than its header says.", str(path))
    int(tags.get("BitsStored", tags.BitsAllocated))
    return DicomHeader(tags, syntax, frames, (rows, columns))


def _unpacks_to_more(path: Path, begin: int) -> bool:
    """Whether what follows the header of a deflated file is more than there is room for."""
    with path.open("rb") as file:
        file.seek(begin)
        unpacking, found = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while not unpacking.eof and (packed := unpacking.unconsumed_tail or file.read(2**16)):
            found += len(unpacking.decompress(packed, 2**20))
            if found > MOST_BYTES:
                return True
    return False


def said_of_frame(tags: Tags, index: int) -> dict[str, Any]:
    """What a file says of the intensities and pixels of a frame, wherever it does: for itself, for all, or for each."""
    said = {}
    groups = [tags]
    for name, place in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", index)):
        items = tags.get(name) or ()
        if place < len(items):
            for inner in IN_FRAMES:
                groups += list(items[place].get(inner) or ())[:1]
    for group in groups:
        for tag in (*WINDOW, *RESCALE, *SPACING, *PLACE):
            value = group.get(tag)
            if value is not None and value != "":
                said[tag] = value
    return said


@cache
def pydicom_library(what: str) -> Any:
    """pydicom, which says nothing by itself: there may be names in what it would say.

    Raises:
        UsageError: it is not installed.
    """
    require("pydicom", "dicom", what)
    import pydicom

    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module=r"pydicom|pylibjpeg|openjpeg|libjpeg|highdicom")
    return pydicom
