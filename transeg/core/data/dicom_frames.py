"""Frames of DICOM files: the one step by which datasets and predictions read them.

What a file says of a patient is never kept, named or repeated: patients, studies and series get numbers, and what a
library says of a damaged file, in which there may be names, is not passed on.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import unicodedata
import warnings
import zlib
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transeg.core.data.decoded_image import Range
from transeg.core.data.intensities import percentile_range, to_unit
from transeg.core.data.listing import is_left_by_system, natural_sort_key
from transeg.core.errors import DataError
from transeg.core.interfaces import Fault
from transeg.core.optional_packages import require

if TYPE_CHECKING:
    from pydicom import Dataset as Tags

ENDINGS = (".dcm", ".dicom")
"""That files may have; most have none."""
MAGIC = b"DICM"
BEFORE_MAGIC = 128
BEFORE_META = 144
"""Bytes before those that the length of a file's meta information counts."""
MOST_BYTES = 2**29
"""Of a frame, and of what a deflated file unpacks to."""
LEAST = 8
"""Bytes that a compressed frame takes at least: those of its item."""
LOOKED_AT = 16
"""Frames of a series of which the percentiles are taken, evenly spread."""
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


@dataclass(frozen=True, slots=True)
class _Header:
    """What is read of a file before its pixels."""

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
            header = _header(path, what)
            found += [] if header is None else _frames_of(path, name, header, numbers)
        except DataError as error:
            faults.append(Fault(error.file, str(error)))
    return found, faults


def read_dicom(frame: DicomFrame, range_: Range | None, series: tuple[DicomFrame, ...]) -> np.ndarray:
    """A frame as ``(H, W, C)``: uint8, uint16, or float32 in [0, 1], of which the smallest number is black.

    Args:
        frame: which one.
        range_: values behind rescaling (Hounsfield units, for instance) that become 0 and 1, of grey frames; None for
            the window that the file says, else all 8 bits, else the percentiles of the series.
        series: all frames of it.

    Raises:
        DataError: the file is damaged, or says something that cannot be.
    """
    header = _header(frame.path, "DICOM")
    assert header is not None
    if frame.coloured:
        return _colours(frame, header)
    said = _of_frame(header.tags, frame.index)
    stored = _decoded(frame, header)
    plain = range_ is None and stored.dtype == np.uint8 and not said.keys() & {*WINDOW, *RESCALE}
    if plain:
        shown = stored[:, :, None]
        return np.ascontiguousarray(255 - shown if _is_inverse(header) else shown)
    try:
        image = _windowed(_rescaled(stored, said), said, range_, frame, series)
    except DataError:
        raise
    except Exception:  # of whatever kind, with whatever of the file in its message
        raise DataError(
            f"{frame.path} says a window or rescaling that cannot be used; say range=[LOW, HIGH].", str(frame.path)
        ) from None
    return np.ascontiguousarray(1 - image if _is_inverse(header) else image)


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


def _frames_of(path: Path, name: str, header: _Header, numbers: dict[str, dict[Any, str]]) -> list[DicomFrame]:
    patient, study, series = (str(header.tags.get(tag, "")) for tag in IDENTITY)
    study = study or series or name
    keys = {"patient": patient or study, "study": study, "series": series or name}
    groups = {kind: known.setdefault(keys[kind], f"{kind}{len(known) + 1}") for kind, known in numbers.items()}
    coloured = str(header.tags.PhotometricInterpretation) in COLOURS
    try:
        said = [_of_frame(header.tags, index) for index in range(header.frames)]
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


def _header(path: Path, what: str) -> _Header | None:
    """What a file says before its pixels; None of a directory of other files.

    Raises:
        DataError: it is no DICOM image.
    """
    if not path.is_file():  # whoever opens a pipe may wait for ever
        raise DataError(f"{path} is no regular file, so it is not read.", str(path))
    state = path.stat()
    return _header_of(path, what, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=8192)
def _header_of(path: Path, what: str, size: int, _modified: int) -> _Header | None:
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


def _checked(path: Path, tags: Tags, syntax: str, kind: str, size: int) -> _Header:
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
    return _Header(tags, syntax, frames, (rows, columns))


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


def _decoded(frame: DicomFrame, header: _Header) -> np.ndarray:
    """A frame's pixels as they are stored, ``(H, W)`` or ``(H, W, C)`` in RGB.

    Raises:
        DataError: they cannot be decoded.
    """
    from pydicom.pixels import pixel_array
    from pydicom.uid import UID

    syntax = UID(header.syntax)
    if syntax.is_compressed:
        require("pylibjpeg", "dicom", "Decoding compressed DICOM files")
    try:
        source = pydicom_library("DICOM").dcmread(frame.path) if header.syntax == DEFLATED else frame.path
        pixels: np.ndarray = pixel_array(source, index=frame.index)
    except Exception:  # of whatever kind, with whatever of the file in its message
        kind = syntax.name if syntax.is_transfer_syntax else "an unknown encoding"
        raise DataError(
            f"The pixels of {frame.path} cannot be decoded ({kind}); they are missing, cut off, damaged or encrypted.",
            str(frame.path),
        ) from None
    if pixels.shape[:2] != header.size:
        raise DataError(f"{frame.path} holds other pixels than its header says.", str(frame.path))
    return pixels


def _colours(frame: DicomFrame, header: _Header) -> np.ndarray:
    """``(H, W, 3)`` in RGB.

    Raises:
        DataError: they cannot be decoded.
    """
    pixels, bits = _decoded(frame, header), int(header.tags.get("BitsStored", header.tags.BitsAllocated))
    if str(header.tags.PhotometricInterpretation) == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        try:
            pixels = apply_color_lut(pixels, header.tags)
        except Exception:  # of whatever kind, with whatever of the file in its message
            raise DataError(f"{frame.path} has a damaged palette.", str(frame.path)) from None
        bits = 8 * pixels.dtype.itemsize
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise DataError(f"{frame.path} says that it has colours, but holds one channel.", str(frame.path))
    if bits == 8 * pixels.dtype.itemsize and pixels.dtype in (np.uint8, np.uint16):
        return np.ascontiguousarray(pixels)
    return (pixels.astype(np.float64) / (2**bits - 1)).clip(0, 1).astype(np.float32)


def _rescaled(stored: np.ndarray, said: dict[str, Any]) -> np.ndarray:
    """What stored values mean, as float64: Hounsfield units, for instance."""
    if "ModalityLUTSequence" in said:
        from pydicom import Dataset as Tags
        from pydicom.pixels import apply_modality_lut

        tags = Tags()
        tags.ModalityLUTSequence = said["ModalityLUTSequence"]
        return np.asarray(apply_modality_lut(stored, tags), np.float64)
    return stored.astype(np.float64) * float(said.get("RescaleSlope", 1)) + float(said.get("RescaleIntercept", 0))


def _windowed(
    values: np.ndarray, said: dict[str, Any], range_: Range | None, frame: DicomFrame, series: tuple[DicomFrame, ...]
) -> np.ndarray:
    """``(H, W, 1)`` float32 in [0, 1] of what stored values mean.

    Raises:
        DataError: they are not finite.
    """
    if range_ is None and "VOILUTSequence" in said:
        from pydicom import Dataset as Tags
        from pydicom.pixels import apply_voi

        tags = Tags()
        tags.VOILUTSequence = said["VOILUTSequence"]
        values = np.asarray(apply_voi(values.astype(np.int64), tags), np.float64)
        range_ = 0.0, 2.0 ** int(said["VOILUTSequence"][0].LUTDescriptor[2]) - 1
    elif range_ is None and "WindowCenter" in said and "WindowWidth" in said:
        centre, width = (_first(said[tag]) for tag in ("WindowCenter", "WindowWidth"))
        if not (width > 0 and math.isfinite(centre) and math.isfinite(width)):
            raise ValueError
        function = str(said.get("VOILUTFunction", "LINEAR"))
        if function == "SIGMOID":
            values, range_ = 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -80, 80))), (0.0, 1.0)
        else:
            middle, half = (centre, width / 2) if function == "LINEAR_EXACT" else (centre - 0.5, (width - 1) / 2)
            half = max(half, 1e-6)
            range_ = middle - half, middle + half
    elif range_ is None:
        range_ = _range_of(series)
    try:
        return to_unit(values[:, :, None], range_, lambda _: None)
    except ValueError as fault:
        raise DataError(f"{frame.path} {fault}.", str(frame.path)) from None


@lru_cache(maxsize=256)
def _range_of(series: tuple[DicomFrame, ...]) -> Range:
    """The percentiles of a series of grey frames, without window."""
    grey = [frame for frame in series if not frame.coloured]
    values = []
    for frame in grey[:: max(1, math.ceil(len(grey) / LOOKED_AT))]:
        header = _header(frame.path, "DICOM")
        assert header is not None
        values.append(_rescaled(_decoded(frame, header), _of_frame(header.tags, frame.index)).ravel())
    return percentile_range(np.concatenate(values))


def _of_frame(tags: Tags, index: int) -> dict[str, Any]:
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


def _pixel_size(said: dict[str, Any]) -> tuple[float, float] | None:
    sides = next((said[tag] for tag in SPACING if tag in said), None)
    if sides is None:
        return None
    height, width = float(sides[0]) * 1000, float(sides[1]) * 1000
    return (height, width) if 0 < height < math.inf and 0 < width < math.inf else None


def _place(said: dict[str, Any]) -> tuple[float, ...] | None:
    numbers = tuple(float(value) for tag in PLACE for value in said.get(tag, ()))
    return numbers if len(numbers) == 9 and all(map(math.isfinite, numbers)) else None


def _is_inverse(header: _Header) -> bool:
    return str(header.tags.PhotometricInterpretation) == "MONOCHROME1"


def _first(value: Any) -> float:
    """Of one value or several."""
    return float(value) if isinstance(value, (str, int, float)) else float(value[0])


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
