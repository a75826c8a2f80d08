"""Turns the names and options of an experiment into datasets, networks and losses."""

from __future__ import annotations

from typing import cast

import torch

from transeg.core.builders.construct import construct
from transeg.core.builders.probes import probe_generator, probe_segmenter
from transeg.core.builders.wandb_artifacts import fetch_weights
from transeg.core.errors import UsageError
from transeg.core.experiment.choices import GeneratorChoice, SegmenterChoice
from transeg.core.interfaces import Generator, Segmenter
from transeg.core.models.weights import load_weights
from transeg.core.registry import Registry


def build_generator(
    choice: GeneratorChoice, source_channels: int, target_channels: int, seed: int, registry: Registry
) -> Generator:
    """A generator with seeded weights, or those of its file.

    Args:
        choice: name and options.
        source_channels: of what it is given of the source.
        target_channels: of the images that it makes.
        seed: of the weights.
        registry: where it comes from.
    """
    cls = registry.class_of("generator", choice.name)
    torch.manual_seed(seed)
    generator = cast(
        "Generator", construct(lambda: cls(source_channels, target_channels, **choice.options), "generator")
    )
    probe_generator(generator, registry.find("generator", choice.name), source_channels, target_channels)
    if choice.weights is not None:
        load_weights(generator, fetch_weights(choice.weights), cls.key_map, "generator", adapt=generator.adapted)
    return generator


def build_segmenter(
    choice: SegmenterChoice,
    channels: int,
    classes: int,
    seed: int,
    registry: Registry,
    *,
    whole: bool = False,
    pretrained: bool = True,
) -> Segmenter:
    """A segmenter with seeded weights, those that its options name, or those of its file.

    Args:
        choice: name and options.
        channels: of the images.
        classes: number of classes, background included.
        seed: of the weights.
        registry: where it comes from.
        whole: whether the file of weights must fill it.
        pretrained: whether to load what its options name; a checkpoint of ours brings all weights anyway.
    """
    cls = registry.class_of("segmenter", choice.name)
    outputs = choice.num_classes or (1 if classes == 2 else classes)
    if outputs not in ({1, 2} if classes == 2 else {classes}):
        raise UsageError(f"segmenter.num_classes={outputs} does not fit the {classes} classes of the source.")
    torch.manual_seed(seed)
    segmenter = cast("Segmenter", construct(lambda: cls(channels, outputs, **choice.options), "segmenter"))
    probe_segmenter(segmenter, registry.find("segmenter", choice.name), channels, outputs)
    if pretrained:
        construct(segmenter.load_pretrained, "segmenter")
    if choice.weights is not None:
        load_weights(segmenter, fetch_weights(choice.weights), cls.key_map, "segmenter", whole=whole)
    return segmenter
