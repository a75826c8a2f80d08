"""Translates datasets and images, and writes what comes out."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from transeg.core.data.images import lossless_suffix, resize_mask, write_image
from transeg.core.inference import Forward, Inference
from transeg.core.interfaces import Dataset, Sample
from transeg.core.run_folder import write_json


def translate_dataset(
    translate: Forward,
    dataset: Dataset,
    folder: Path,
    inference: Inference,
    device: torch.device,
    *,
    channels: int,
    advance: Callable[[], None],
) -> None:
    """Write every sample of a labelled dataset, translated, in the `folder` layout.

    Images and masks have the inference's size; masks are resized by nearest neighbour and hold class numbers.
    What is there already stays, so that an interrupted translation goes on.

    Args:
        translate: the generator.
        dataset: what is translated.
        folder: gets `images/`, `masks/` and `manifest.json`, which says what came from where.
        inference: how images reach the generator.
        device: where the generator is.
        channels: of what it makes.
        advance: called behind each sample.
    """
    manifest = {}
    suffix = lossless_suffix(channels)
    for index in range(len(dataset)):
        sample = dataset[index]
        stem = f"{index:06d}-{file_name(sample.name)}"
        manifest[stem] = {"name": sample.name, "group": sample.group}
        image, mask = folder / "images" / f"{stem}{suffix}", folder / "masks" / f"{stem}.png"
        if not image.exists():
            translated = inference.run(translate, inference.prepare(sample.image), device)
            if sample.mask is not None:
                write_whole(mask, resize_mask(sample.mask.astype(np.uint8), *translated.shape[1:]))
            write_whole(image, as_pixels(translated))
        advance()
    write_json(folder / "manifest.json", manifest)


class WithOriginals(Dataset):
    """A translated dataset whose samples carry the images that they were translated from.

    Args:
        translated: what :func:`translate_dataset` wrote.
        originals: what it was given.
    """

    paired = True

    def __init__(self, translated: Dataset, originals: Dataset) -> None:
        self.classes = translated.classes
        self.channels = translated.channels
        self.faults = translated.faults
        self._translated = translated
        self._originals = originals

    def __len__(self) -> int:
        return len(self._translated)

    def __getitem__(self, index: int) -> Sample:
        sample = self._translated[index]
        number = int(sample.name.partition("-")[0])  # file names begin with the original's index
        return replace(sample, target=self._originals[number].image)


def as_pixels(image: Tensor) -> np.ndarray:
    """``(C, H, W)`` in [-1, 1] -> ``(H, W, C)`` uint8."""
    return ((image + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def file_name(name: str) -> str:
    """A file name without separators or anything else that a file system may refuse."""
    return "".join(c if c.isalnum() or c in "-_.() " else "_" for c in name)[:100]


def write_whole(path: Path, pixels: np.ndarray) -> None:
    """Write an image beside its place and rename it."""
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    write_image(temporary, pixels)
    temporary.replace(path)
