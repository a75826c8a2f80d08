"""The networks that judge translated images, and whether anything can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from transeg.core.errors import UsageError
from transeg.core.evaluation.feature_networks import Features, feature_network, perceptual_distance
from transeg.core.experiment.schema import QualityOptions
from transeg.core.inference.conditioning import Conditioning
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.interfaces import Generator
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder


@dataclass(frozen=True)
class Judge:
    """The networks that judge images, as far as the experiment names them.

    Attributes:
        device: where they are.
        features: for FID and KID.
        distance: LPIPS.
        segmenter: a run's segmenter, trained on real images: what it finds in an image made from a label map should be
            that label map.
    """

    device: torch.device
    features: Features | None
    distance: Callable[[Tensor, Tensor], Tensor] | None
    segmenter: TrainedModel | None

    @classmethod
    def from_options(cls, options: QualityOptions, classes: int, registry: Registry, device: torch.device) -> Judge:
        """Load what the options name.

        Raises:
            UsageError: it is not there or does not fit.
            TransegError: it cannot be read.
        """
        segmenter = None
        if options.segmenter is not None:
            segmenter = TrainedModel.load(RunFolder(options.segmenter), registry, str(device))
            known = len(segmenter.domains.class_names)
            if segmenter.segmenter is None or known != classes:
                finds = f"finds {known} classes" if segmenter.segmenter else "trained a generator alone"
                raise UsageError(
                    f"quality.segmenter: the run {options.segmenter} {finds}, but the images have {classes} classes."
                )
        return cls(
            device,
            feature_network(options.features, registry, device) if options.features else None,
            perceptual_distance(options.lpips, device) if options.lpips else None,
            segmenter,
        )


def is_measurable(generator: Generator, given: Conditioning, options: QualityOptions) -> bool:
    """Whether anything can measure a generator's images, given pairs where it learns from them."""
    return generator.paired or can_round_trip(generator, given) or uses_feature_networks(options)


def uses_feature_networks(options: QualityOptions) -> bool:
    """Whether there is something to say of images without counterparts that are not translated back."""
    return options.features is not None or options.segmenter is not None


def can_round_trip(generator: Generator, given: Conditioning) -> bool:
    """Whether what a generator makes of an image can be brought back."""
    return len(generator.directions) > 1 and not given.by_mask
