"""Slices of volumes in NIfTI files: the one step by which datasets and predictions read them, and label maps are made.

The header alone is read by nibabel, voxels by NumPy: a slice of a plain file is read without the rest of it, and what a
damaged header claims is checked before anything is made room for. Extensions, which may hold whole DICOM headers, are
never looked at.
"""

from __future__ import annotations

import gzip
import math
import threading
import zlib
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transeg.core.data.decoded_image import Range
from transeg.core.data.intensities import percentile_range, to_unit
from transeg.core.data.lru_cache import LRUCache
from transeg.core.errors import DataError
from transeg.core.files import replacing
from transeg.core.optional_packages import require

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

ENDINGS = (".nii", ".nii.gz")
AXIAL = 2
"""The axis that slices lie across where nobody says another."""
SIZES = (348, 540)
"""Bytes of the headers of NIfTI-1 and NIfTI-2."""
MOST_CHANNELS = 4
"""Along the fourth axis: what has more is a series in time, not an image of several channels."""
MOST_BYTES = 3 * 2**28
"""Of voxels, in a compressed file: such a file is unpacked whole, and could claim to hold any number. A CT of
1,500 slices of 512 x 512 pixels has that many."""
FURTHEST = 2**24
"""Bytes of a compressed file before its first voxel."""
LOOKED_AT = 2**22
"""Voxels of a volume of which the percentiles are taken, evenly spread."""
APART = 0.1
"""Of a voxel, as far as the corners of a volume and those of its labels may lie from each other."""
MICROMETRES = {1: 1e6, 2: 1e3, 3: 1.0}
"""In a unit of space, by its number; where none is said, it is the millimetre."""

_unpacked: LRUCache[np.ndarray] = LRUCache(MOST_BYTES, lambda voxels: voxels.nbytes)
_unpacking = threading.Lock()


def is_volume(path: Path) -> bool:
    """Whether a file is called as NIfTI files are."""
    return path.name.lower().endswith(ENDINGS)


def volume_stem(path: Path) -> str:
    """A file's name without ``.nii`` or ``.nii.gz``."""
    ending = next((ending for ending in reversed(ENDINGS) if path.name.lower().endswith(ending)), "")
    return path.name[: len(path.name) - len(ending)]


class VolumeFile:
    """A NIfTI file of three axes, or of four with at most :data:`MOST_CHANNELS` channels along the last.

    Slices lie along the axes of the body that are closest to those of the file: 0 from left to right, 1 from the back
    to the front, 2 from the feet to the head (nibabel's RAS+). They are turned as radiologists see them: the head or
    the front is up; in axial (2) and coronal (1) slices the right of the body is left, in sagittal ones (0) its front.

    Args:
        path: the file.
        what: needs it, for the sentence where nibabel is missing.

    Raises:
        UsageError: nibabel is not installed.
        DataError: it is no such file, or is cut off.
    """

    def __init__(self, path: Path, what: str) -> None:
        require("nibabel", "nifti", what)
        self.path = path
        self._header = _header(path)
        try:
            self._lay_out()
        except DataError:
            raise
        except Exception as error:  # of whatever kind, the header is damaged
            raise DataError(f"{path} has a damaged header; it may be cut off or encrypted.", str(path)) from error

    def _lay_out(self) -> None:
        """Take over what the header says.

        Raises:
            DataError: it cannot be read, or not as images.
        """
        from nibabel.orientations import io_orientation

        path, header = self.path, self._header
        stored = tuple(map(int, header.get_data_shape()))
        while len(stored) > 3 and stored[-1] == 1:
            stored = stored[:-1]
        if len(stored) not in (3, 4):
            raise DataError(
                f"{path} has {len(stored)} dimensions; volumes of three are read, or of four with channels.", str(path)
            )
        if min(stored) < 1:
            raise DataError(f"{path} says that it holds {' x '.join(map(str, stored))} voxels, none.", str(path))
        if len(stored) == 4 and stored[3] > MOST_CHANNELS:
            raise DataError(
                f"{path} has {stored[3]} volumes along its fourth axis, too many to be channels; save those that are "
                "wanted as files of their own, for instance with fslsplit.",
                str(path),
            )
        self._dtype = header.get_data_dtype()
        if self._dtype.kind not in "iuf":
            raise DataError(f"{path} holds colours or complex numbers; save it with one number a voxel.", str(path))
        self._stored, self._offset = stored, int(header.get_data_offset())
        slope, inter = header.get_slope_inter()
        self._slope, self._inter = (1.0 if slope is None else float(slope)), (0.0 if inter is None else float(inter))
        self._unit = MICROMETRES.get(int(header["xyzt_units"]) & 7, 1e3)
        self.affine = np.asarray(header.get_best_affine(), np.float64)
        if not np.isfinite(self.affine).all() or abs(np.linalg.det(self.affine[:3, :3])) < 1e-12:
            raise DataError(f"{path} does not say where its voxels lie: its affine has no inverse.", str(path))
        self._orientation = io_orientation(self.affine)
        if not np.isfinite(self._orientation).all():
            raise DataError(f"{path} does not say which way its axes go.", str(path))
        self._check_length()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of slices along each axis."""
        sizes = [0, 0, 0]
        for stored, axis in enumerate(self._orientation[:, 0].astype(int)):
            sizes[axis] = self._stored[stored]
        return sizes[0], sizes[1], sizes[2]

    @property
    def channels(self) -> int:
        """Of each slice."""
        return self._stored[3] if len(self._stored) == 4 else 1

    def size_of(self, axis: int) -> tuple[int, int]:
        """Height and width of slices along an axis, in pixels."""
        across = [length for number, length in enumerate(self.shape) if number != axis]
        return across[1], across[0]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """How far apart voxels are along each axis, in micrometres."""
        sides = np.sqrt((self.affine[:3, :3] ** 2).sum(0)) * self._unit
        found = [0.0, 0.0, 0.0]
        for stored, axis in enumerate(self._orientation[:, 0].astype(int)):
            found[axis] = float(sides[stored])
        return found[0], found[1], found[2]

    def pixel_size_of(self, axis: int) -> tuple[float, float]:
        """Height and width of the pixels of slices along an axis, in micrometres."""
        across = [side for number, side in enumerate(self.spacing) if number != axis]
        return across[1], across[0]

    def image(self, axis: int, index: int, range_: Range | None = None) -> np.ndarray:
        """A slice as ``(H, W, C)`` float32 in [0, 1].

        Args:
            axis: across which it is.
            index: of the slice.
            range_: intensities that become 0 and 1; None for each channel's own. What lies outside is
                cut off.

        Raises:
            DataError: the file is damaged, or has values that are not finite.
        """
        pixels = self._slice(axis, index)
        ranges = self.ranges if range_ is None else (range_,) * self.channels
        try:
            scaled = [to_unit(pixels[:, :, [number]], each, lambda _: None) for number, each in enumerate(ranges)]
        except ValueError as fault:
            raise DataError(f"{self.path} {fault}.", str(self.path)) from fault
        return np.concatenate(scaled, axis=2)

    def labels(self, axis: int, index: int) -> np.ndarray:
        """A slice of a volume of one channel as ``(H, W)`` numbers, as they are stored.

        Raises:
            DataError: the file is damaged.
        """
        return self._slice(axis, index)[:, :, 0]

    @cached_property
    def ranges(self) -> tuple[Range, ...]:
        """Of each channel :func:`transeg.core.data.intensities.percentile_range`."""
        found = []
        voxels = self._voxels().reshape(-1, self.channels, order="F")
        step = math.ceil(len(voxels) / LOOKED_AT) | 1  # odd, since sides are even
        for channel in range(self.channels):
            values = voxels[::step, channel].astype(np.float64) * self._slope + self._inter
            found.append(percentile_range(values))
        return tuple(found)

    def check_alike(self, labels: VolumeFile) -> None:
        """Whether another volume has its labels, voxel by voxel.

        Raises:
            DataError: it has other sides, or lies elsewhere.
        """
        if labels._stored != self._stored[:3]:
            mine, theirs = (" x ".join(map(str, sides)) for sides in (self._stored[:3], labels._stored))
            raise DataError(
                f"{self.path} has {mine} voxels, but its labels {labels.path} have {theirs}; they must agree.",
                str(self.path),
            )
        corners = np.array(np.meshgrid(*([0, side] for side in self._stored[:3]), [1])).reshape(4, -1)
        away = np.abs((self.affine - labels.affine) @ corners)[:3].max()
        if away > APART * np.sqrt((self.affine[:3, :3] ** 2).sum(0)).min():
            raise DataError(
                f"{self.path} and its labels {labels.path} have different affines, so they lie up to {away:.3g} mm "
                "apart; resample the labels to the image.",
                str(self.path),
            )

    def _check_length(self) -> None:
        """Whether the file can hold what its header says.

        Raises:
            DataError: it cannot, or would take too much memory.
        """
        needed = math.prod(self._stored) * self._dtype.itemsize
        if _is_packed(self.path):
            if needed > MOST_BYTES:
                raise DataError(
                    f"{self.path} says that it holds {needed / 2**20:.0f} MiB of voxels; compressed files are read "
                    f"up to {MOST_BYTES >> 20} MiB, plain ones of any size: gunzip it.",
                    str(self.path),
                )
            if not 0 <= self._offset <= FURTHEST:
                raise DataError(f"{self.path} has a damaged header; it may be cut off or encrypted.", str(self.path))
        elif self._offset < 0 or self._offset + needed > self.path.stat().st_size:
            raise DataError(f"{self.path} is cut off: it is shorter than its header says.", str(self.path))

    def _slice(self, axis: int, index: int) -> np.ndarray:
        """``(H, W, C)`` of stored numbers, or of what slope and intercept make of them."""
        from nibabel.orientations import apply_orientation

        stored = int(np.flatnonzero(self._orientation[:, 0] == axis)[0])
        place = index if self._orientation[stored, 1] > 0 else self._stored[stored] - 1 - index
        cut = [slice(None)] * len(self._stored)
        cut[stored] = slice(place, place + 1)
        slab = np.asarray(self._voxels()[tuple(cut)])
        slab = slab if slab.ndim == 4 else slab[..., None]
        plane = np.take(apply_orientation(slab, self._orientation), 0, axis=axis)
        turned = plane.swapaxes(0, 1)[::-1, ::-1]
        if (self._slope, self._inter) == (1.0, 0.0):
            return np.ascontiguousarray(turned)
        return turned.astype(np.float64) * self._slope + self._inter

    def _voxels(self) -> np.ndarray:
        """All numbers as they are stored; of a plain file nothing is read yet.

        Raises:
            DataError: the file is damaged.
        """
        if not _is_packed(self.path):
            return np.memmap(self.path, self._dtype, "r", self._offset, self._stored, order="F")
        state = self.path.stat()
        with _unpacking:
            return _unpacked.get((self.path, state.st_size, state.st_mtime_ns), self._unpack)

    def _unpack(self) -> np.ndarray:
        needed = math.prod(self._stored) * self._dtype.itemsize
        try:
            with gzip.open(self.path) as file:
                file.seek(self._offset)
                content = file.read(needed)
                file.read(1)  # which compares the checksum where the voxels are the end
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{self.path} is cut off or damaged: it cannot be unpacked.", str(self.path)) from error
        if len(content) < needed:
            raise DataError(f"{self.path} is cut off: it is shorter than its header says.", str(self.path))
        return np.frombuffer(content, self._dtype).reshape(self._stored, order="F")


class LabelVolume:
    """Labels of a volume, filled in slice by slice and written with its affine: a byte a voxel is in memory.

    Args:
        volume: whose labels these are.
        axis: across which slices lie.
    """

    def __init__(self, volume: VolumeFile, axis: int) -> None:
        self._volume = volume
        self._axis = axis
        self._labels = np.zeros(volume.shape, np.uint8)

    def put(self, index: int, labels: np.ndarray) -> None:
        """Fill in a slice.

        Args:
            index: of the slice.
            labels: ``(H, W)`` class numbers, turned as :class:`VolumeFile` gives images.
        """
        place: list[Any] = [slice(None)] * 3
        place[self._axis] = index
        self._labels[tuple(place)] = labels[::-1, ::-1].swapaxes(0, 1)

    def write(self, path: Path) -> None:
        """Write a NIfTI file, whole or not at all, with nothing of the volume's header but where its voxels lie."""
        import nibabel
        from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform

        back = ornt_transform(axcodes2ornt("RAS"), self._volume._orientation)
        stored = apply_orientation(self._labels, back)
        given = self._volume._header
        kind = nibabel.Nifti1Image if given["sizeof_hdr"] == SIZES[0] else nibabel.Nifti2Image
        header = kind.header_class()
        header.set_data_dtype(np.uint8)
        header["xyzt_units"] = int(given["xyzt_units"]) & 7
        image = kind(stored, self._volume.affine, header)
        sform, qform = int(given["sform_code"]), int(given["qform_code"])
        image.set_sform(self._volume.affine, sform or (0 if qform else 1))
        image.set_qform(self._volume.affine, qform)
        with replacing(path, durable=False) as unfinished:
            nibabel.save(image, unfinished)


@lru_cache(maxsize=1024)
def _opened(path: Path, what: str, _size: int, _modified: int) -> VolumeFile:
    return VolumeFile(path, what)


def open_volume(path: Path, what: str) -> VolumeFile:
    """A :class:`VolumeFile`, whose header is read once for as long as the file is the same."""
    if not path.is_file():  # whoever opens a pipe may wait for ever
        raise DataError(f"{path} is no regular file, so it is not read.", str(path))
    state = path.stat()
    return _opened(path, what, state.st_size, state.st_mtime_ns)


def _is_packed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _header(path: Path) -> Nifti1Header:
    """The header of a file, of NIfTI-1 or 2.

    Raises:
        DataError: there is none.
    """
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    try:
        with gzip.open(path) if _is_packed(path) else path.open("rb") as file:
            block = file.read(max(SIZES))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read as a NIfTI file; it may be cut off or encrypted.", str(path)) from error
    for kind, size in zip((Nifti1Header, Nifti2Header), SIZES, strict=True):
        if len(block) >= size and kind.may_contain_header(block):
            header = kind(block[:size], check=False)
            if bytes(header["magic"])[:2] == b"n+":
                return header
            raise DataError(f"{path} holds a header alone; save header and voxels in one .nii file.", str(path))
    empty = "is empty" if not block else "is no NIfTI file; it may be cut off or encrypted"
    raise DataError(f"{path} {empty}.", str(path))
