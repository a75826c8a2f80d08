"""Segments whole slides square by square, where there is tissue, in the memory of a square."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from transeg.core.data.images import fit_channels
from transeg.core.data.slide_file import SlideView, cut_squares
from transeg.core.data.stream import to_tensor
from transeg.core.data.tissue_map import TissueMap
from transeg.core.inference.masks import class_map
from transeg.core.inference.prediction import segment_image
from transeg.core.inference.sliding_window import OVERLAP, Inference
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.interfaces import Region

SIDE = 4096
"""Of a square in which windows slide; what lies in several is computed for each."""


@dataclass(frozen=True, slots=True)
class Square:
    """A part of a slide that is segmented at a time.

    Attributes:
        kept: of which the mask is kept.
        seen: what networks see for it, which may reach beyond the slide to the right and below.
    """

    kept: Region
    seen: Region


class SlideSegmenter:
    """Gives masks of slides, a strip of squares at a time.

    In windows, squares overlap by so much that the windows over what is kept of each are those of the whole slide,
    whose last rows and columns are repeated until windows fit: the mask does not depend on where squares end. Whole
    images, which the networks were trained on, are squares of their own.

    Args:
        trained: its segmenter.
        inference: how squares reach it.
        side: of the images that it was trained on whole; of no matter in windows.
    """

    def __init__(self, trained: TrainedModel, inference: Inference, side: int) -> None:
        self._trained = trained
        self._inference = inference
        self._side = side
        self._outputs: int | None = None

    def strips(self, size: tuple[int, int]) -> list[list[Square]]:
        """The squares of a slide of that height and width, row by row."""
        squares: dict[int, list[Square]] = {}
        for square in self._in_windows(size) if self._inference.window else self._whole(size):
            squares.setdefault(square.kept.top, []).append(square)
        return list(squares.values())

    def mask(self, view: SlideView, tissue: TissueMap | None, square: Square) -> np.ndarray:
        """``(height, width)`` uint8 of classes in what is kept of a square; background where there is no tissue.

        Args:
            view: the slide as networks see it.
            tissue: where it has tissue; None for everywhere.
            square: one of its squares.

        Raises:
            DataError: the slide is damaged there.
        """
        kept, seen = square.kept, square.seen
        wanted = np.ones(kept[2:], bool) if tissue is None else tissue.within(kept, view.size)
        if not wanted.any():
            return np.zeros(kept[2:], np.uint8)
        height, width = (min(seen[2 + axis], view.size[axis] - seen[axis]) for axis in (0, 1))
        pixels = view.read(Region(seen.top, seen.left, height, width))
        image = fit_channels(pixels, self._trained.domains.target_channels, lambda _: None, alpha=False)
        assert image is not None  # checked before
        top, left = kept.top - seen.top, kept.left - seen.left
        inside = np.s_[top : top + kept.height, left : left + kept.width]
        if self._inference.window:
            image = np.pad(image, ((0, seen.height - height), (0, seen.width - width), (0, 0)), mode="edge")
            needed = np.zeros(image.shape[:2], bool)
            needed[inside] = wanted
            classes = self._slide(image, needed)
        else:
            classes = class_map(segment_image(self._trained, image, self._inference))
        return np.asarray(classes[inside] * wanted)

    def _whole(self, size: tuple[int, int]) -> Iterator[Square]:
        """Squares as the dataset cuts them; of what two of them show, the first one's mask is kept."""
        for seen in cut_squares(size, self._side):
            top, left = (-(-seen[axis] // self._side) * self._side for axis in (0, 1))
            kept = Region(top, left, seen.top + seen.height - top, seen.left + seen.width - left)
            yield Square(kept, seen)

    def _in_windows(self, size: tuple[int, int]) -> Iterator[Square]:
        for top in range(0, size[0], SIDE):
            for left in range(0, size[1], SIDE):
                kept = Region(top, left, min(SIDE, size[0] - top), min(SIDE, size[1] - left))
                (first, high), (begin, wide) = (self._around(kept[axis], kept[2 + axis], size[axis]) for axis in (0, 1))
                yield Square(kept, Region(first, begin, high, wide))

    def _around(self, start: int, length: int, whole: int) -> tuple[int, int]:
        """Where what windows see of a stretch along one side begins, and how long it is."""
        multiple = self._inference.multiple
        window = -(-self._inference.window // multiple) * multiple
        step = max(1, int(window * (1 - OVERLAP)) // multiple) * multiple
        first = max(0, (start - window) // step * step)
        last = max(0, -(-(whole - window) // step) * step) + window
        end = min(last, -(-(start + length) // step) * step + window)
        return first, end - first

    def _slide(self, image: np.ndarray, needed: np.ndarray) -> np.ndarray:
        """``(H, W, C)`` -> ``(H, W)`` of classes; windows without a pixel that is needed are passed over."""
        height, width = image.shape[:2]

        def forward(windows: Tensor, places: Tensor | None) -> Tensor:
            assert places is not None
            high, wide = windows.shape[2:]
            chosen = [bool(needed[top : top + high, left : left + wide].any()) for top, left in places.tolist()]
            if self._outputs is not None and not any(chosen):
                return torch.zeros(len(windows), self._outputs, high, wide, device=windows.device)
            results = self._trained.segment(windows, places)
            self._outputs = results.shape[1]
            return results

        def read(region: Region) -> Tensor:
            return to_tensor(image[region.top : region.top + region.height, region.left : region.left + region.width])

        bands = self._inference.bands(forward, read, (height, width), self._trained.device)
        return np.concatenate([class_map(band) for band in bands])
