"""Pixels of frames of DICOM files: the one step by which datasets and predictions read them."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from transeg.core.data.decoded_image import Range
from transeg.core.data.dicom_frames import DicomFrame
from transeg.core.data.dicom_header import (
    DEFLATED,
    RESCALE,
    WINDOW,
    DicomHeader,
    pydicom_library,
    read_header,
    said_of_frame,
)
from transeg.core.data.intensities import percentile_range, to_unit
from transeg.core.errors import DataError
from transeg.core.optional_packages import require

LOOKED_AT = 16
"""Frames of a series of which the percentiles are taken, evenly spread."""


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
    header = read_header(frame.path, "DICOM")
    assert header is not None
    if frame.coloured:
        return _colours(frame, header)
    said = said_of_frame(header.tags, frame.index)
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


def _decoded(frame: DicomFrame, header: DicomHeader) -> np.ndarray:
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


def _colours(frame: DicomFrame, header: DicomHeader) -> np.ndarray:
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
        header = read_header(frame.path, "DICOM")
        assert header is not None
        values.append(_rescaled(_decoded(frame, header), said_of_frame(header.tags, frame.index)).ravel())
    return percentile_range(np.concatenate(values))


def _is_inverse(header: DicomHeader) -> bool:
    return str(header.tags.PhotometricInterpretation) == "MONOCHROME1"


def _first(value: Any) -> float:
    """Of one value or several."""
    return float(value) if isinstance(value, (str, int, float)) else float(value[0])
