"""Translates whole images and datasets."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from torch import Tensor

from transeg.core.data.images import renumber_instances, resize_mask
from transeg.core.data.wrapper import DatasetWrapper
from transeg.core.errors import UsageError
from transeg.core.inference.sliding_window import Forward, Inference, resize_result
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.interfaces import Dataset, Sample
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder


@dataclass(frozen=True)
class Translator:
    """A run's generator for images of any size and type.

    Attributes:
        trained: the run; its generator is given images.
        inference: how images reach the generator.
        direction: one of the generator's; None for source to target.
        inverts: whether the generator knows negatives of the source's images, and so is given those of what it gets.
    """

    trained: TrainedModel
    inference: Inference
    direction: str | None = None
    inverts: bool = False

    @classmethod
    def load(
        cls, run: Path, registry: Registry, device: str | None, *, direction: str | None, window: int | None
    ) -> Self:
        """Of a run folder; see :meth:`transeg.core.inference.trained_model.TrainedModel.load`.

        Args:
            run: the folder.
            registry: where its components come from.
            device: where the generator goes; None for a GPU where there is one.
            direction: None for source to target.
            window: see :meth:`transeg.core.inference.trained_model.TrainedModel.inference`.

        Raises:
            UsageError: the run has no generator, or none with that direction.
        """
        return cls.of(TrainedModel.load(RunFolder(run), registry, device), run, direction=direction, window=window)

    @classmethod
    def of(cls, trained: TrainedModel, run: Path, *, direction: str | None, window: int | None) -> Self:
        """Of a run that is loaded.

        Args:
            trained: what the run has learned.
            run: its folder, in what is said of it.
            direction: as for :meth:`load`.
            window: likewise.

        Raises:
            UsageError: the run has no generator, or none with that direction.
        """
        if trained.generator is None:
            raise UsageError(f"The run {run} trained a segmenter alone, so it cannot translate.")
        offered = trained.generator.directions
        if direction is not None and direction not in offered:
            raise UsageError(f"The generator of {run} translates {' and '.join(offered)}, not {direction}.")
        source = trained.experiment.data.source
        inverts = source is not None and source.invert and not trained.given.by_mask
        return cls(trained, trained.inference(window), direction, inverts)

    @classmethod
    def adapting(
        cls, run: Path, registry: Registry, device: str | None, *, direction: str | None, channels: int
    ) -> Self:
        """What brings foreign images into the domain that a segmenter knows.

        Args:
            run: as for :meth:`load`.
            registry: likewise.
            device: likewise.
            direction: likewise.
            channels: of the images that the segmenter takes.

        Raises:
            UsageError: the run cannot translate images, or makes images of other channels.
        """
        translator = cls.load(run, registry, device, direction=direction, window=None)
        translator.check_adapts(run, channels)
        return translator

    def check_adapts(self, run: Path, channels: int) -> None:
        """Whether it brings images to what a segmenter takes; see :meth:`adapting`.

        Raises:
            UsageError: the run cannot translate images, or makes images of other channels.
        """
        if self.trained.given.by_mask:
            raise UsageError(f"--translate-with: the generator of {run} is given label maps, not images.")
        if self.makes != channels:
            raise UsageError(
                f"--translate-with: the generator of {run} makes images of {self.makes} channels, but the model "
                f"takes {channels}."
            )

    @property
    def backwards(self) -> bool:
        """Whether it makes source images of target images."""
        return self.direction == "target-to-source"

    @property
    def signs(self) -> tuple[int, int]:
        """What images in [-1, 1] are multiplied by before the generator, and behind it: -1 makes negatives."""
        if not self.inverts:
            return 1, 1
        return (1, -1) if self.backwards else (-1, 1)

    @property
    def takes(self) -> int:
        """Channels of what it is given."""
        domains = self.trained.domains
        return domains.target_channels if self.backwards else domains.source_channels

    @property
    def makes(self) -> int:
        """Channels of what it makes."""
        domains = self.trained.domains
        return domains.source_channels if self.backwards else domains.target_channels

    def at_inference_size(self, image: np.ndarray, name: str | int) -> Tensor:
        """``(H, W, C)`` -> ``(C', h, w)`` in [-1, 1], of the size at which the generator sees it.

        Args:
            image: uint8, uint16 or float32 in [0, 1].
            name: decides the generator's chance, if there is any: the same image gives the same result. See
                :func:`translation_seed`.
        """
        prepared = self.inference.prepare(self.trained.normalised(image))
        return self.inference.run(self.forward(name), prepared, self.trained.device)

    def forward(self, name: str | int) -> Forward:
        """What windows of an image of that name go through."""
        translate = partial(self.trained.translate, direction=self.direction, seed=translation_seed(name))
        before, after = self.signs
        return lambda windows, places: after * translate(before * windows, places)

    def __call__(self, image: np.ndarray, name: str | int) -> np.ndarray:
        """``(H, W, C)`` -> ``(H, W, C')`` of the same type, on the same scale of intensities."""
        height, width = image.shape[:2]
        return to_pixels(resize_result(self.at_inference_size(image, name), height, width), image.dtype)


def translation_seed(name: str | int) -> int:
    """What the chance in the translation of an image begins from, wherever and whenever it is translated.

    Args:
        name: of the image; or that seed itself, for images that have no name.
    """
    return name if isinstance(name, int) else zlib.crc32(name.encode())


def resample_labels(sample: Sample, image: np.ndarray) -> Sample:
    """A sample with an image of perhaps another size, to which its labels are brought by nearest neighbour."""
    changed: dict[str, Any] = {}
    for name in ("mask", "instances"):
        labels = getattr(sample, name)
        if labels is not None:
            fitting = labels.astype(np.uint8) if name == "mask" else renumber_instances(labels)
            changed[name] = resize_mask(fitting, *image.shape[:2])
    return replace(sample, image=image, **changed)


class NumberedNames(DatasetWrapper):
    """A dataset whose samples' names begin with their index."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self.paired = False

    def __getitem__(self, index: int) -> Sample:
        sample = self._dataset[index]
        return replace(sample, name=f"{index:06d}-{sample.name}", target=None, depth=None)


class DatasetWithOriginals(DatasetWrapper):
    """A translated dataset whose samples carry the images that they were translated from.

    Args:
        translated: what was written of :class:`NumberedNames` samples.
        originals: what these were.
    """

    def __init__(self, translated: Dataset, originals: Dataset) -> None:
        super().__init__(translated)
        self.paired, self.target_channels = True, originals.channels
        self._originals = originals

    def __getitem__(self, index: int) -> Sample:
        sample = self._dataset[index]
        number = int(sample.name.partition("-")[0])
        return replace(sample, target=self._originals[number].image)


class TranslatedDataset(DatasetWrapper):
    """A dataset of another domain, translated image by image into the one that a segmenter knows.

    Args:
        dataset: its labels stay as they are.
        translator: translates.
    """

    def __init__(self, dataset: Dataset, translator: Translator) -> None:
        super().__init__(dataset)
        self.paired, self.channels = False, translator.makes
        self._translator = translator

    def __getitem__(self, index: int) -> Sample:
        sample = self._dataset[index]
        return replace(sample, image=self._translator(sample.image, sample.name), target=None)

    @property
    def on_gpu(self) -> bool:
        """Whether samples are made on a GPU."""
        return self._translator.trained.device.type != "cpu"


def loading_workers(dataset: Dataset, wanted: int) -> int:
    """How many processes load a dataset: none where a GPU makes its samples, which forked processes cannot use.

    Args:
        dataset: what is loaded.
        wanted: the number for others.
    """
    return 0 if isinstance(dataset, TranslatedDataset) and dataset.on_gpu else wanted


def to_pixels(image: Tensor, dtype: Any = np.uint8) -> np.ndarray:
    """``(C, H, W)`` in [-1, 1] on any device -> ``(H, W, C)`` uint8, uint16 or float32 in [0, 1]."""
    unit = ((image.cpu().double() + 1) / 2).clamp(0, 1).permute(1, 2, 0).numpy()
    if np.issubdtype(dtype, np.floating):
        return unit.astype(np.float32)
    return (unit * np.iinfo(dtype).max).round().astype(dtype)
