"""Pairs of images in one picture, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from transeg.core.data.decoded_image import Range
from transeg.core.data.file_dataset import split_folders
from transeg.core.data.images import read_image
from transeg.core.data.listing import files_by_stem
from transeg.core.data.tiff import said_range
from transeg.core.errors import DataError
from transeg.core.interfaces import Dataset, Origin, Sample


class Aligned(Dataset):
    """pix2pix's layout (arXiv:1611.07004): each picture holds A on its left and B on its right, of one size.

    The pictures lie in `train/`, `val/` (or `validation/`) and `test/`; a split without a folder is empty. There are
    no masks, and every picture is a group of its own.

    Args:
        root: the folder that holds them.
        split: `train`, `val`, `test` or `all`.
        direction: `AtoB` for images from the left and counterparts from the right, `BtoA` for the reverse.
        channels: of the images: 3 for colour, 1 for grey.
        target_channels: of the counterparts, likewise.
    """

    paired = True

    def __init__(
        self,
        root: Path,
        split: Literal["train", "val", "test", "all"],
        *,
        direction: Literal["AtoB", "BtoA"] = "AtoB",
        channels: Literal[1, 3] = 3,
        target_channels: Literal[1, 3] = 3,
    ) -> None:
        folders = split_folders(root)
        if not folders:
            raise ValueError(f"{root} holds none of the folders train, val and test")
        self.channels = channels
        self.target_channels = target_channels
        self._direction = direction
        found = [(part, *files_by_stem(folder)) for part, folder in folders.items() if split in (part, "all")]
        self._pictures = [(part, path) for part, files, _ in found for path in files.values()]
        self.faults = [fault for _, _, faults in found for fault in faults]

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Sample:
        part, path = self._pictures[index]
        both = read_image(path, max(self.channels, self.target_channels))
        width = both.shape[1]
        if width % 2:
            raise DataError(f"{path} is {width} pixels wide, which cannot be two images of one width.", str(path))
        image, target = both[:, : width // 2], both[:, width // 2 :]
        if self._direction == "BtoA":
            image, target = target, image
        # numbers begin anew in each folder, as in facades/
        name = f"{part}_{path.stem}"
        return Sample(_with(image, self.channels), None, name, name, _with(target, self.target_channels))

    def ranges_of(self, index: int) -> tuple[Range | None, Range | None]:
        said = said_range(self._pictures[index][1])
        return said, said

    def place_of(self, index: int) -> tuple[Path, str]:
        return self._pictures[index][1], ""

    def origin_of(self, index: int) -> Origin:
        part, path = self._pictures[index]
        how = (part, path.stem, self._direction, self.channels, self.target_channels)
        return Origin((path,), repr(how), type(self))


def _with(pixels: np.ndarray, channels: int) -> np.ndarray:
    if pixels.shape[2] == channels:
        return np.ascontiguousarray(pixels)
    return np.ascontiguousarray(cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)[:, :, None])
