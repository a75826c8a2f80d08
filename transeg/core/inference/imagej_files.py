"""Predicted objects as ImageJ and napari open them: regions of interest (ROIs), and an image of their numbers."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

import numpy as np
import tifffile

from transeg.core.data.pixel_size_tags import pixel_size_tags, said_pixel_size
from transeg.core.errors import UsageError
from transeg.core.inference.pixel_size import PixelSize
from transeg.core.inference.predicted_objects import Documents, PredictedObject
from transeg.core.optional_packages import require

if TYPE_CHECKING:
    from roifile import ImagejRoi

IDS = UUID("d0b8bb0b-0d3a-4d39-8d4f-2a8ac4e2a0c5")
"""What ids of images are made from, with their names."""
MOVE, LINE, CLOSE = 0.0, 1.0, 4.0
"""Steps of the outline of a composite, each followed by the point that it leads to."""
NO_FILE_NAME = re.compile(r"[/\\]")


def imagej_documents(folder: Path, names: Sequence[str], pixel_size: PixelSize | None) -> Documents:
    """What writes ``NAME.zip`` of ROIs and ``NAME.ome.tif`` of object numbers for each image.

    Args:
        folder: where they go.
        names: of the classes, background first.
        pixel_size: of all images, in micrometres; by default what each says.

    Raises:
        UsageError: roifile is not installed, or cannot write the name of a class.
    """
    require("roifile", "polygons", "--format imagej")
    for name in names[1:]:
        if max(map(ord, name)) > 0xFFFF:  # its length would be counted wrong
            raise UsageError(f"--format imagej: the class {name!r} has a character that ROIs cannot hold; rename it.")
    return partial(_documents, folder, names, pixel_size)


def _documents(
    folder: Path,
    names: Sequence[str],
    pixel_size: PixelSize | None,
    image: Path,
    size: tuple[int, int],
    objects: Sequence[PredictedObject],
) -> dict[Path, bytes]:
    numbers = np.zeros(size, np.uint32)
    for number, found in enumerate(objects, start=1):
        rows, columns = found.inside.shape
        part = numbers[found.top : found.top + rows, found.left : found.left + columns]
        part[found.inside] = number
    return {
        folder / f"{image.stem}.ome.tif": _label_image(numbers, image.stem, pixel_size or said_pixel_size(image)),
        folder / f"{image.stem}.zip": _archive(names, objects),
    }


def _label_image(numbers: np.ndarray, name: str, pixel_size: PixelSize | None) -> bytes:
    """``(H, W)`` uint32, which napari takes for labels where it would take fewer bits for an image, as an OME-TIFF."""
    metadata: dict[str, object] = {"axes": "YX", "Name": name, "UUID": str(uuid5(IDS, name))}
    tags = pixel_size_tags(pixel_size)
    if pixel_size is not None and tags:
        for axis, side in zip("YX", pixel_size, strict=True):
            metadata |= {f"PhysicalSize{axis}": side, f"PhysicalSize{axis}Unit": "µm"}
    file = io.BytesIO()
    tifffile.imwrite(file, numbers, ome=True, photometric="minisblack", compression="zlib", metadata=metadata, **tags)
    return file.getvalue()


def _archive(names: Sequence[str], objects: Sequence[PredictedObject]) -> bytes:
    """A file of ROIs as ImageJ's ROI manager saves it: it shows the names of the archive's members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, found in enumerate(objects, start=1):
            roi = _roi(found, f"{names[found.label]} #{number}")
            member = zipfile.ZipInfo(f"{NO_FILE_NAME.sub('_', roi.name)}.roi")  # of 1980, so that files stay alike
            archive.writestr(member, roi.tobytes(), zipfile.ZIP_DEFLATED)
    return file.getvalue()


def _roi(found: PredictedObject, name: str) -> ImagejRoi:
    """An outline of an object as ImageJ traces them; a composite where it has holes or several parts."""
    from roifile import ROI_TYPE, ImagejRoi

    rings = [ring for part in found.parts for ring in part]
    if len(rings) == 1:
        roi = ImagejRoi.frompoints(rings[0])
        roi.roitype = ROI_TYPE.TRACED
    else:
        steps = np.concatenate([_steps(ring) for ring in rings])
        height, width = found.inside.shape
        roi = ImagejRoi(
            roitype=ROI_TYPE.RECT,
            top=found.top,
            left=found.left,
            bottom=found.top + height,
            right=found.left + width,
            shape_roi_size=len(steps),
            multi_coordinates=steps,
        )
    roi.name = name
    roi.group = found.label  # ImageJ draws each in a colour of its own
    roi.props = f"confidence: {found.shown_confidence}\n"
    return roi


def _steps(ring: np.ndarray) -> np.ndarray:
    """Of a closed outline: ``(3 P + 1,)`` float32."""
    kinds = np.full((len(ring), 1), LINE)
    kinds[0] = MOVE
    return np.append(np.hstack([kinds, ring]).ravel(), CLOSE).astype(np.float32)
