"""The one step by which files become pixels: what they are is told by their first bytes, not by their names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from transeg.core.data.decoded_image import ORIENTATION, DecodedImage, UnreadError, to_srgb, upright_size
from transeg.core.data.tiff import count_tiff_pages, decode_tiff, is_tiff, size_of_tiff
from transeg.core.errors import DataError

Image.MAX_IMAGE_PIXELS = 2**30  # OpenCV's limit; Pillow's own refuses scans of 15,855 pixels a side

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PALETTE, GREY_AND_ALPHA = 3, 4
"""PNG's types of colour."""
ORIENTED = (b"Raw profile type exif\0", b"Raw profile type APP1\0", b"XML:com.adobe.xmp\0")
"""Keywords of PNG's texts that may say an orientation, beside the chunk eXIf."""
FRAMES = "has several frames, of which the first is taken"

_handed_on: ContextVar[dict[Path, DecodedImage] | None] = ContextVar("_handed_on", default=None)


@contextmanager
def handed_on() -> Iterator[dict[Path, DecodedImage]]:
    """Within it, :func:`decode` in this thread takes a file out of what it yields, where that holds it: whoever puts a
    picture there has looked at it already, and the next to want it gets it without decoding it again.
    """
    pictures: dict[Path, DecodedImage] = {}
    before = _handed_on.set(pictures)
    try:
        yield pictures
    finally:
        _handed_on.reset(before)


def decode(path: Path, page: int | None = None) -> DecodedImage:
    """What a picture file holds.

    Args:
        path: PNG, JPEG, TIFF, BMP, PNM, WebP, GIF or JPEG 2000, whatever its ending.
        page: which of several pages or frames, from 0; None where there is one, or for the first frame of an animation.

    Raises:
        DataError: the file cannot be decoded, or holds what is not read.
    """
    pictures = _handed_on.get()
    if pictures and page is None and path in pictures:
        return pictures.pop(path)
    with _opened(path) as file:
        try:
            return _decoded(file, page)
        except UnreadError as fault:
            raise DataError(f"{path} {fault}.", str(path)) from fault
        except Exception as error:
            raise _undecodable(path, error) from error


def decoded_size(path: Path, page: int | None = None) -> tuple[int, int]:
    """Height and width that :func:`decode` gives, from the header where the format allows.

    Raises:
        DataError: the file cannot be decoded.
    """
    with _opened(path) as file:
        try:
            head = _head(file)
            if is_tiff(head):
                return size_of_tiff(file, page)
            with Image.open(file) as image:
                size = image.height, image.width
                if image.format != "PNG":
                    return upright_size(size, _orientation(image))
            file.seek(0)
            return upright_size(size, _png_orientation(file))
        except UnreadError as fault:
            raise DataError(f"{path} {fault}.", str(path)) from fault
        except Exception as error:
            raise _undecodable(path, error) from error


def count_pages(path: Path) -> int:
    """How many pages or frames a file has.

    Raises:
        DataError: the file cannot be decoded.
    """
    with _opened(path) as file:
        try:
            if is_tiff(_head(file)):
                return count_tiff_pages(file)
            with Image.open(file) as image:
                return 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))
        except Exception as error:
            raise _undecodable(path, error) from error


def _decoded(file: BinaryIO, page: int | None) -> DecodedImage:
    """What a file holds, with the decoder that reads the format right and notices damage.

    OpenCV returns half a picture for a truncated JPEG and one channel for a TIFF with a wrong photometric tag; Pillow
    cuts 16-bit colour PNGs to 8 bits.
    """
    head = _head(file)
    if is_tiff(head):
        return decode_tiff(file, page)
    if head.startswith(PNG_SIGNATURE) and not page:
        data = file.read()
        if data[25:26] != bytes([PALETTE]):
            return _decode_png(data)
        _whole_png(data)
        file = BytesIO(data)
    with Image.open(file) as image:
        frames = getattr(image, "n_frames", 1) if page else 1
        if page:
            if page >= frames:
                raise UnreadError(f"has {frames} frames, so there is no page {page}, counted from 0")
            image.seek(page)
        two_colours = image.format == "BMP" and image.mode == "1"
        picture = _two_colours(file) if two_colours else _from_pillow(image)
        animated = page is None and image.format != "MPO" and getattr(image, "is_animated", False)
        notes = (FRAMES,) if animated else ()
        return DecodedImage(picture.pixels, picture.alpha, picture.palette, picture.lossy, notes=notes).upright(
            _orientation(image)
        )


def _from_pillow(image: Image.Image) -> DecodedImage:
    """Pixels in whatever mode Pillow has them."""
    lossy = image.format in ("JPEG", "MPO")
    if image.mode == "P":
        image.apply_transparency()
        palette = image.palette.mode if image.palette is not None else "RGB"
        colours = np.array(image.getpalette(palette), np.uint8).reshape(-1, len(palette))
        every = np.zeros((256, len(palette)), np.uint8)
        every[: len(colours)] = colours
        return DecodedImage(np.asarray(image)[:, :, None], palette=every[: max(len(colours), _largest(image) + 1)])
    if image.mode in ("CMYK", "LAB"):
        return DecodedImage(to_srgb(image, image.info.get("icc_profile")), lossy=lossy)
    shown = image
    if image.mode in ("YCbCr", "HSV", "RGBX"):
        shown = image.convert("RGB")
    elif image.mode in ("PA", "RGBa", "La"):
        shown = image.convert("LA" if image.mode == "La" else "RGBA")
    pixels = np.asarray(shown)
    if image.format == "PPM" and pixels.dtype == np.int32:
        pixels = pixels.astype(np.uint16)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return DecodedImage(with_channel_axis(pixels), alpha=shown.mode in ("LA", "RGBA"), lossy=lossy)


def _two_colours(file: BinaryIO) -> DecodedImage:
    """A BMP file in black and white: of more than one bit a pixel, Pillow takes eight pixels out of each byte."""
    file.seek(0)
    pixels = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise ValueError("the file is truncated or damaged")
    return DecodedImage(pixels[:, :, None] > 127)


def with_channel_axis(pixels: np.ndarray) -> np.ndarray:
    """``(H, W)`` or ``(H, W, C)`` -> ``(H, W, C)``.

    Raises:
        UnreadError: it is neither, or empty.
    """
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise UnreadError(f"is not a two-dimensional image; its shape is {pixels.shape}")
    return pixels


def _largest(image: Image.Image) -> int:
    extremes = image.getextrema()
    return int(extremes[1]) if isinstance(extremes[1], (int, float)) else 0


def _decode_png(data: bytes) -> DecodedImage:
    _whole_png(data)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("the file is truncated or damaged")
    alpha = pixels.ndim == 3 and pixels.shape[2] == 4
    if pixels.ndim == 3:
        code = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}[pixels.shape[2]]
        pixels = cv2.cvtColor(pixels, code)
    if alpha and data[25] == GREY_AND_ALPHA:
        pixels = pixels[:, :, 2:]
    return DecodedImage(with_channel_axis(pixels), alpha=alpha).upright(_png_orientation(BytesIO(data)))


def _whole_png(data: bytes) -> None:
    """Whether every chunk of a PNG file ends within it: OpenCV makes room for as many bytes as a chunk says it has."""
    end = len(PNG_SIGNATURE)
    for kind, start, length in _png_chunks(BytesIO(data)):
        end = start + length + 4
        if end > len(data) and kind != b"IEND":
            raise ValueError("the file is truncated or damaged")


def _png_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Kind, place and length of the chunks of a PNG file up to its end."""
    place = len(PNG_SIGNATURE)
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            return
        length, kind = int.from_bytes(head[:4]), head[4:]
        yield kind, place + 8, length
        if kind == b"IEND":
            return
        place += 12 + length


def _png_orientation(file: BinaryIO) -> int:
    for kind, start, _ in _png_chunks(file):
        if kind != b"eXIf":
            if kind not in (b"tEXt", b"zTXt", b"iTXt"):
                continue
            file.seek(start)
            if not file.read(32).startswith(ORIENTED):
                continue
        file.seek(0)
        with Image.open(file) as image:
            return _orientation(image)
    return 1


def _orientation(image: Image.Image) -> int:
    """From 1 to 8, as EXIF says; upright where it says anything else."""
    said = image.getexif().get(ORIENTATION, 1)
    return said if isinstance(said, int) and 1 <= said <= 8 else 1


def _head(file: BinaryIO) -> bytes:
    head = file.read(16)
    file.seek(0)
    return head


def _opened(path: Path) -> BinaryIO:
    """A file that is opened only where it ends: who reads a pipe, a socket or a device may wait or read for ever."""
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is no regular file, so it is not read.", str(path))
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}.", str(path)) from error
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror}.", str(path)) from error


def _undecodable(path: Path, error: Exception) -> DataError:
    reason = str(error).rstrip(".") or type(error).__name__
    if isinstance(error, UnidentifiedImageError):
        reason = "it is no picture of a kind that is read"
    return DataError(f"{path} cannot be decoded: {reason}.", str(path))
