"""Segments and translates images larger than memory: read, blended and written from top to bottom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import tifffile
import torch
from torch import Tensor

from transeg.core.data.decoded_image import Range
from transeg.core.data.images import read_size, read_unit_image, unit_range, write_image
from transeg.core.data.pixel_size_tags import pixel_size_tags, said_pixel_size
from transeg.core.data.stream import to_tensor
from transeg.core.data.tiff import open_tiff
from transeg.core.data.tiff_writing import write_tiff
from transeg.core.files import replacing
from transeg.core.inference.masks import class_map, shown_mask
from transeg.core.inference.pixel_size import PixelSize
from transeg.core.inference.sliding_window import Forward, Inference
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.inference.translator import Translator, to_pixels
from transeg.core.inference.visualization import draw_outlines
from transeg.core.interfaces import Region
from transeg.core.models.forward import to_probabilities

LARGE = 2**26
"""Pixels beyond which an image in windows is not held in memory."""
OVERVIEW = 2048
"""Height and width that the picture of a large image has at most."""


class LargeImage:
    """An image file of which regions are read.

    A TIFF file is read by its tiles or strips; any other format is decoded as a whole, which takes its pixels' bytes.

    Args:
        path: the file.
        channels: that the network takes; see :func:`transeg.core.data.images.read_image`.
        range_: see :func:`transeg.core.data.images.read_unit_image`.
    """

    def __init__(self, path: Path, channels: int, range_: Range | None = None) -> None:
        self.size = read_size(path)
        self._path = path
        self._channels = channels
        self._range = range_
        self._whole = None if open_tiff(path) is not None else read_unit_image(path, channels, range_=range_)

    def read(self, region: Region) -> np.ndarray:
        """``(h, w, C)`` uint8, uint16, or float32 in [0, 1]."""
        if self._whole is None:
            return read_unit_image(self._path, self._channels, region, self._range)
        return self._whole[region.top : region.top + region.height, region.left : region.left + region.width]

    def bands(self, forward: Forward, inference: Inference, device: torch.device) -> Iterator[tuple[int, Tensor]]:
        """Results ``(K, rows, W)`` from top to bottom, each with its first row."""
        top = 0
        for band in inference.bands(forward, lambda r: to_tensor(unit_range(self.read(r))), self.size, device):
            yield top, band
            top += band.shape[1]


def is_large(trained: TrainedModel, path: Path, inference: Inference) -> bool:
    """Whether an image is to go through the networks from top to bottom; stain is normalised for whole images only."""
    height, width = read_size(path)
    return bool(inference.window) and trained.experiment.data.stain is None and height * width > LARGE


def predict_large_image(
    trained: TrainedModel,
    path: Path,
    out: Path,
    inference: Inference,
    with_probabilities: bool,
    range_: Range | None,
    *,
    overlays: bool = True,
    pixel_size: PixelSize | None = None,
) -> None:
    """As :func:`transeg.core.inference.prediction.predict_files`, for one large image.

    The mask is a tiled TIFF, probabilities are uncompressed TIFFs of 16 bits, the overlay is a small picture. The TIFFs
    say how large pixels are, where ``pixel_size`` or the image does.
    """
    image = LargeImage(path, trained.domains.target_channels, range_)
    height, width = image.size
    names = trained.domains.class_names
    pixel_size = pixel_size or said_pixel_size(path)
    overview = Overview(image.size) if overlays else None
    with ExitStack() as stack:
        overlay = stack.enter_context(replacing(out / "overlays" / f"{path.stem}.png")) if overlays else None
        masks = stack.enter_context(replacing(out / "masks" / f"{path.stem}.tif"))
        files = []
        for name in names[1:] if with_probabilities else ():
            suffix = "" if len(names) == 2 else f"-{name}"
            place = stack.enter_context(replacing(out / "probabilities" / f"{path.stem}{suffix}.tif"))
            files.append(RawRows(place, height, width, pixel_size))

        def rows() -> Iterator[np.ndarray]:
            for top, logits in image.bands(trained.segment, inference, trained.device):
                mask = class_map(logits)
                if overview is not None:
                    overview.add(top, image.read(Region(top, 0, len(mask), width)), mask)
                for file, values in zip(files, to_probabilities(logits[None])[0] if files else (), strict=True):
                    file.write((values.cpu().numpy() * 65535).round().astype(np.uint16))
                yield shown_mask(mask, len(names))[:, :, None]

        write_tiff(masks, rows(), height, width, 1, pixel_size)
        if overlay is not None and overview is not None:
            write_image(overlay, draw_outlines(overview.picture, overview.mask))


def translate_large_image(translator: Translator, path: Path, out: Path, range_: Range | None) -> None:
    """Write the translation of a large image as a tiled TIFF of the same type, which says how large pixels are, too."""
    image = LargeImage(path, translator.takes, range_)
    dtype = image.read(Region(0, 0, 1, 1)).dtype
    forward = translator.forward(path.stem)
    bands = image.bands(forward, translator.inference, translator.trained.device)
    with replacing(out / f"{path.stem}.tif") as unfinished:
        pixels = (to_pixels(band, dtype) for _, band in bands)
        write_tiff(unfinished, pixels, *image.size, translator.makes, said_pixel_size(path))


class Overview:
    """Every n-th pixel of an image and its mask.

    Args:
        size: height and width of the image.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self._step = -(-max(size) // OVERVIEW)
        self._pictures: list[np.ndarray] = []
        self._masks: list[np.ndarray] = []

    def add(self, top: int, image: np.ndarray, mask: np.ndarray) -> None:
        """Take from the next rows, ``(h, W, C)`` and ``(h, W)``."""
        chosen = np.s_[-top % self._step :: self._step, :: self._step]
        self._pictures.append(to_uint8(image[chosen]).copy())  # a view would keep all rows
        self._masks.append(mask[chosen].copy())

    @property
    def picture(self) -> np.ndarray:
        """``(h, w, 3)`` uint8."""
        return np.concatenate(self._pictures)

    @property
    def mask(self) -> np.ndarray:
        """``(h, w)``."""
        return np.concatenate(self._masks)


class RawRows:
    """An uncompressed TIFF of one channel of 16 bits, which may be written row by row beside other files.

    Args:
        path: the file.
        height: of the image.
        width: of the image.
        pixel_size: height and width of its pixels in micrometres, where they are known.
    """

    def __init__(self, path: Path, height: int, width: int, pixel_size: PixelSize | None) -> None:
        self._path = path
        place = tifffile.imwrite(
            path,
            shape=(height, width),
            dtype=np.uint16,
            photometric="minisblack",
            byteorder="<",
            returnoffset=True,
            **pixel_size_tags(pixel_size),
        )
        self._offset = int(place[0])

    def write(self, rows: np.ndarray) -> None:
        """Add rows ``(h, W)`` uint16."""
        with self._path.open("r+b") as file:
            file.seek(self._offset)
            file.write(rows.astype("<u2").tobytes())
        self._offset += rows.size * 2


def to_uint8(image: np.ndarray) -> np.ndarray:
    """``(H, W, 3)`` uint8 to look at."""
    pixels = unit_range(image)
    if pixels.dtype != np.uint8:
        pixels = (pixels * 255).round().astype(np.uint8)
    return pixels[:, :, :3] if pixels.shape[2] >= 3 else np.repeat(pixels[:, :, :1], 3, axis=2)
