"""What a run has learned, for arrays and image files."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias, overload

import numpy as np
from torch import Tensor

from transeg.core.api.dice_estimates import mean_of_classes, run_calibration
from transeg.core.api.experiment import Manifests, find_components
from transeg.core.api.given_images import (
    File,
    Picture,
    Pictures,
    apply_to_each,
    chance_of,
    labels_of,
    named_images,
    pixels_of,
)
from transeg.core.api.run_networks import load_trained
from transeg.core.data.decoded_image import Range
from transeg.core.distributed.progress_bar import progress_console
from transeg.core.experiment.settings import parse_pixel_size
from transeg.core.inference.adaptation import ENOUGH, Adaptation, BatchNormAdaptation, evenly
from transeg.core.inference.masks import class_map, shown_mask
from transeg.core.inference.pixel_size import PixelSize, rescale_factors, scale_reference
from transeg.core.inference.prediction import (
    image_of_labels,
    prepare_image,
    segment_image,
    translate_image,
)
from transeg.core.inference.sliding_window import Inference
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.inference.translator import Translator
from transeg.core.models.forward import to_probabilities
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder

Sides: TypeAlias = float | tuple[float, float]
"""Of a pixel, in micrometres: one number, or height and width."""


def load(run: File, *, device: str | None = None, registry: Manifests = ()) -> Model:
    """Load what a run has learned.

    Args:
        run: the folder of the run.
        device: ``cpu``, ``cuda`` or ``cuda:1``; by default a GPU where there is one.
        registry: manifests (`registry.toml`) whose components the run uses, besides what is installed.

    Raises:
        UsageError: it is no run folder, or it has no checkpoint yet.
        TransegError: its checkpoint cannot be read.
    """
    return Model(Path(run), find_components(registry), device)


@dataclass(frozen=True)
class _Segmenting:
    """How images of a call become logits; see :func:`transeg.core.inference.prediction.segment_image`."""

    trained: TrainedModel
    inference: Inference
    translator: Translator | None
    scale: tuple[float, float]
    range: Range | None
    seed: int | None

    def prepared(self, image: Picture, name: str) -> Tensor:
        """``(C, h, w)`` as the segmenter takes it."""
        pixels, chance = self._given(image, name)
        return prepare_image(self.trained, pixels, self.inference, self.translator, self.scale, chance)

    def logits(self, image: Picture, name: str) -> Tensor:
        """``(K, H, W)`` at the size of the image, on the CPU."""
        pixels, chance = self._given(image, name)
        return segment_image(
            self.trained, pixels, self.inference, translator=self.translator, scale=self.scale, name=chance
        )

    def _given(self, image: Picture, name: str) -> tuple[np.ndarray, str | int]:
        translator = self.translator
        channels = self.trained.domains.target_channels if translator is None else translator.takes
        return pixels_of(image, channels, name, self.range), chance_of(image, self.seed)


class Model:
    """What a run has learned: made by :func:`transeg.load`.

    Args:
        run: the folder of the run.
        registry: where its components come from.
        device: where its networks go; None for a GPU where there is one.

    Attributes:
        run: the folder.
        classes: their names, background first.
    """

    def __init__(self, run: Path, registry: Registry, device: str | None) -> None:
        self.run = run
        self._registry = registry
        self._trained = load_trained(RunFolder(run), registry, device)
        self.classes = self._trained.domains.class_names

    @overload
    def predict(
        self,
        images: Picture,
        probabilities: bool = ...,
        *,
        window: int | None = ...,
        flips: bool = ...,
        pixel_size: Sides | None = ...,
        rescale: float | None = ...,
        translate_with: Model | File | None = ...,
        direction: str | None = ...,
        seed: int | None = ...,
        adapt: Adaptation = ...,
    ) -> np.ndarray: ...

    @overload
    def predict(
        self,
        images: Pictures,
        probabilities: bool = ...,
        *,
        window: int | None = ...,
        flips: bool = ...,
        pixel_size: Sides | None = ...,
        rescale: float | None = ...,
        translate_with: Model | File | None = ...,
        direction: str | None = ...,
        seed: int | None = ...,
        adapt: Adaptation = ...,
    ) -> list[np.ndarray]: ...

    def predict(
        self,
        images: Picture | Pictures,
        probabilities: bool = False,
        *,
        window: int | None = None,
        flips: bool = False,
        pixel_size: Sides | None = None,
        rescale: float | None = None,
        translate_with: Model | File | None = None,
        direction: str | None = None,
        seed: int | None = None,
        adapt: Adaptation = "none",
    ) -> np.ndarray | list[np.ndarray]:
        """Segment images: what `toolkit predict` writes, to the bit.

        Args:
            images: an array ``(H, W)`` or ``(H, W, C)`` of uint8, uint16, or floats in [0, 1]; an image file; or a list
                of these. Grey is repeated where the model knows colours, colours are mixed where it knows grey, and an
                alpha channel is dropped.
            probabilities: give probabilities in place of masks.
            window: height and width of a window that slides over the image at its own size, or 0 to take it whole; by
                default the ``data.tile`` of the run.
            flips: average over the four mirrorings of the image.
            pixel_size: of the image, in micrometres, or (height, width): needed where the run resampled its images.
            rescale: a factor to resample the image by in place of that; by default the run's own.
            translate_with: a model, or a run, whose generator first translates the image into what this one knows.
            direction: of that translation; by default ``source-to-target``.
            seed: of that translation's chance; by default a file's name decides, as in the command, and arrays have 0.
            adapt: adapt the segmenter's batch norms to the images of this call, which are one group, without labels:
                ``bn`` takes their statistics, ``tent`` also minimises the entropy of what is predicted. The next call
                begins with the trained network again.

        Returns:
            At the size of the image, the mask ``(H, W)`` uint8: of one class 0 and 255, of several their numbers in
            :attr:`classes`. Or probabilities, float32 in [0, 1]: of one class ``(H, W)``, of several
            ``(H, W, len(classes) - 1)``, background left out. A list for a list.

        Raises:
            UsageError: the run cannot segment, an option does not fit, or there is no such file.
            DataError: an image cannot be read, or has other channels than the model takes.
        """
        trained = self._trained if adapt == "none" else self._adaptable
        segmenting = self._segmenting(trained, window, flips, pixel_size, rescale, translate_with, direction, seed)

        def segmented(image: Picture, name: str) -> np.ndarray:
            logits = segmenting.logits(image, name)
            if not probabilities:
                return shown_mask(class_map(logits), len(self.classes))
            return _channels_last(to_probabilities(logits[None])[0].numpy())

        with ExitStack() as stack:
            if adapt != "none":
                adapting, group = BatchNormAdaptation(trained, adapt, segmenting.inference), named_images(images)
                stack.callback(adapting.restore)
                adapting(segmenting.prepared(*group[index]) for index in evenly(len(group), ENOUGH))
            return apply_to_each(images, segmented)

    @overload
    def estimate(
        self,
        images: Picture,
        *,
        window: int | None = ...,
        flips: bool = ...,
        pixel_size: Sides | None = ...,
        rescale: float | None = ...,
        translate_with: Model | File | None = ...,
        direction: str | None = ...,
        seed: int | None = ...,
    ) -> float: ...

    @overload
    def estimate(
        self,
        images: Pictures,
        *,
        window: int | None = ...,
        flips: bool = ...,
        pixel_size: Sides | None = ...,
        rescale: float | None = ...,
        translate_with: Model | File | None = ...,
        direction: str | None = ...,
        seed: int | None = ...,
    ) -> list[float]: ...

    def estimate(
        self,
        images: Picture | Pictures,
        *,
        window: int | None = None,
        flips: bool = False,
        pixel_size: Sides | None = None,
        rescale: float | None = None,
        translate_with: Model | File | None = None,
        direction: str | None = None,
        seed: int | None = None,
    ) -> float | list[float]:
        """The Dice that the masks of images would reach, as `toolkit predict --estimate` estimates it without labels.

        It goes by how sure the segmenter is, which is compared once with how often it is right on images that the run
        has held out; on images unlike those that it knows, a segmenter can be sure and wrong.

        Args:
            images: as for :meth:`predict`, and so are the others.
            window: of the inference.
            flips: likewise.
            pixel_size: of the image.
            rescale: in place of that.
            translate_with: what brings the image into what the model knows.
            direction: of that translation.
            seed: likewise.

        Returns:
            In [0, 1], the mean over the classes but background; NaN where nothing is found. A list for a list.

        Raises:
            UsageError: as :meth:`predict`, or the run has no held-out images that can be read.
            DataError: as :meth:`predict`.
        """
        trained, quiet = self._trained, progress_console(False)
        segmenting = self._segmenting(trained, window, flips, pixel_size, rescale, translate_with, direction, seed)
        calibration = run_calibration(RunFolder(self.run), trained, segmenting.inference, self._registry, quiet)
        return apply_to_each(
            images, lambda image, name: mean_of_classes(calibration.expected_dice(segmenting.logits(image, name)))
        )

    @overload
    def translate(
        self,
        images: Picture,
        direction: str | None = ...,
        *,
        seed: int | None = ...,
        window: int | None = ...,
        pixel_size: Sides | None = ...,
        rescale: float | None = ...,
    ) -> np.ndarray: ...

    @overload
    def translate(
        self,
        images: Pictures,
        direction: str | None = ...,
        *,
        seed: int | None = ...,
        window: int | None = ...,
        pixel_size: Sides | None = ...,
        rescale: float | None = ...,
    ) -> list[np.ndarray]: ...

    def translate(
        self,
        images: Picture | Pictures,
        direction: str | None = None,
        *,
        seed: int | None = None,
        window: int | None = None,
        pixel_size: Sides | None = None,
        rescale: float | None = None,
    ) -> np.ndarray | list[np.ndarray]:
        """Translate images into the other domain: what `toolkit translate` writes, to the bit.

        Args:
            images: as for :meth:`predict`. Where the generator was trained on label maps, these: whole numbers
                ``(H, W)``, of one class black and white or 0 and 1, of several their numbers.
            direction: ``source-to-target`` or, where the generator has both, ``target-to-source``.
            seed: of the generator's chance, if it has any; by default a file's name decides, as in the command, and
                arrays have 0.
            window: as for :meth:`predict`.
            pixel_size: likewise.
            rescale: likewise.

        Returns:
            At the size and of the type of the image, floats as float32: ``(H, W, C)``, or ``(H, W)`` of one channel.
            Of label maps, uint8. A list for a list.

        Raises:
            UsageError: the run cannot translate, or not in that direction; an option does not fit, or there is no such
                file.
            DataError: an image cannot be read, or has other channels than the generator takes.
        """
        translator = Translator.of(self._trained, self.run, direction=direction, window=window)
        scale = rescale_factors(self._trained.experiment, translator, _pixel_size(pixel_size), rescale)
        range_ = scale_reference(self._trained.experiment, translator).range

        def translated(image: Picture, name: str) -> np.ndarray:
            if self._trained.given.by_mask:
                labels = labels_of(image, len(self.classes), name)
                made = image_of_labels(self._trained, labels, translator.inference, chance_of(image, seed))
            else:
                pixels = pixels_of(image, translator.takes, name, range_)
                made = translate_image(translator, pixels, chance_of(image, seed), scale)
            return made[:, :, 0] if made.shape[2] == 1 else made

        return apply_to_each(images, translated)

    def _segmenting(
        self,
        trained: TrainedModel,
        window: int | None,
        flips: bool,
        pixel_size: Sides | None,
        rescale: float | None,
        translate_with: Model | File | None,
        direction: str | None,
        seed: int | None,
    ) -> _Segmenting:
        """With the options of :meth:`predict`."""
        translator = None if translate_with is None else self._adapting(translate_with, direction)
        scale = rescale_factors(trained.experiment, translator, _pixel_size(pixel_size), rescale)
        range_ = scale_reference(trained.experiment, translator).range
        return _Segmenting(trained, trained.inference(window, flips), translator, scale, range_, seed)

    @cached_property
    def _adaptable(self) -> TrainedModel:
        """With batch norms that adapt; other calls use a segmenter in which they are fused with convolutions."""
        return load_trained(RunFolder(self.run), self._registry, str(self._trained.device), layers=True)

    def _adapting(self, other: Model | File, direction: str | None) -> Translator:
        """What brings images into the domain that this model knows."""
        if not isinstance(other, Model):
            other = Model(Path(other), self._registry, str(self._trained.device))
        translator = Translator.of(other._trained, other.run, direction=direction, window=None)
        translator.check_adapts(other.run, self._trained.domains.target_channels)
        return translator

    def __repr__(self) -> str:
        trained = self._trained
        parts = {"generator": trained.experiment.generator, "segmenter": trained.experiment.segmenter}
        names = ", ".join(f"{kind} {choice.name}" for kind, choice in parts.items() if choice is not None)
        return f"<Model {self.run}: {names}, classes {', '.join(self.classes)}, on {trained.device}>"


def _pixel_size(sides: Sides | None) -> PixelSize | None:
    """As `--pixel-size` says it."""
    if sides is None:
        return None
    return parse_pixel_size(",".join(map(str, sides)) if isinstance(sides, (tuple, list)) else str(sides))


def _channels_last(values: np.ndarray) -> np.ndarray:
    """``(K, H, W)`` -> ``(H, W, K)``, or ``(H, W)`` of one channel."""
    return values[0] if len(values) == 1 else np.ascontiguousarray(np.moveaxis(values, 0, 2))
