"""How images of a user are brought to the size of pixels that a run's networks know."""

from __future__ import annotations

import math

from transeg.core.errors import UsageError
from transeg.core.experiment.choices import DatasetChoice
from transeg.core.experiment.schema import Experiment
from transeg.core.inference.translator import Translator

PixelSize = tuple[float, float]
"""Height and width in micrometres."""


def rescale_factors(
    experiment: Experiment, translator: Translator | None, pixel_size: PixelSize | None, rescale: float | None
) -> tuple[float, float]:
    """What an image's height and width are multiplied by, before the first network sees it.

    Args:
        experiment: of the run whose segmenter is used.
        translator: what sees the image first, if anything translates.
        pixel_size: of the image.
        rescale: the factor itself, where the user says so.

    Returns:
        The user's factor; else what brings the pixels to the size that the run resampled its own images to, or the
        factor that it did that by; 1 where it did not.

    Raises:
        UsageError: the run resampled its images to a size of pixels, and the image's pixel size is not known; or the
            factor is none.
    """
    if rescale is not None:
        if not 0 < rescale < math.inf:
            raise UsageError(f"--rescale {rescale} must be a factor above zero.")
        return rescale, rescale
    known = scale_reference(experiment, translator)
    if known.pixel_size is None:
        return (known.rescale or 1.0,) * 2
    if pixel_size is None:
        raise UsageError(
            f"This run knows images whose pixels have {known.pixel_size:g} micrometres; say how large those of your "
            f"images are with --pixel-size UM, or how to resample them with --rescale FACTOR."
        )
    return pixel_size[0] / known.pixel_size, pixel_size[1] / known.pixel_size


def scale_reference(experiment: Experiment, translator: Translator | None) -> DatasetChoice:
    """The dataset whose ``pixel_size`` or ``rescale``, and ``range``, say what the first network knows."""
    return _like(experiment) if translator is None else _taken(translator)


def _like(experiment: Experiment) -> DatasetChoice:
    """The images that a segmenter is made for: the target's, where there is one."""
    choice = experiment.data.target or experiment.data.source
    assert choice is not None
    return choice


def _taken(translator: Translator) -> DatasetChoice:
    """The images that a generator is given."""
    data = translator.trained.experiment.data
    choice = data.target if translator.backwards and data.target is not None else data.source
    assert choice is not None
    return choice
