"""Turns the names and options of an experiment into datasets, networks and losses."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import cast

import torch

from transeg.core.artifacts import weights_file
from transeg.core.choices import SPLIT_OF_ROLE, DatasetChoice, GeneratorChoice, SegmenterChoice
from transeg.core.data.rescaled import Rescaled
from transeg.core.errors import UsageError
from transeg.core.interfaces import About, Dataset, Generator, Segmenter, Writer
from transeg.core.made import made
from transeg.core.options import checked
from transeg.core.registry import Registry
from transeg.core.weights import load_weights


def build_dataset(choice: DatasetChoice, role: str, registry: Registry) -> Dataset:
    """A dataset in the role of `source`, `target`, `val` or `test`, which decides its split and domain by default.

    Raises:
        UsageError: its folder or domain does not exist.
    """
    cls = registry.load(registry.find("dataset", choice.name))
    options = checked(cls, choice.options, f"data.{role}")
    if cls.domains:
        options["domain"] = choice.domain or cls.domains[0 if role == "source" else -1]
    elif choice.domain:
        raise UsageError(f"The dataset {choice.name} has one domain only, so {choice.domain!r} cannot be chosen.")
    split = choice.split or SPLIT_OF_ROLE[role]
    dataset: Dataset = made(lambda: cls(_root(choice, cls), split, **options), f"data.{role}")
    if choice.pixel_size is None and choice.rescale is None:
        return dataset
    rescaled = partial(Rescaled, dataset, pixel_size=choice.pixel_size, factor=choice.rescale)
    return cast("Dataset", made(rescaled, f"data.{role}"))


def dataset_writer(name: str, root: Path, about: About, registry: Registry) -> Writer:
    """What writes the layout of a dataset into a folder.

    Raises:
        UsageError: there is no such dataset, or nothing writes its layout.
    """
    cls = registry.load(registry.find("dataset", name))
    if cls.writer is None:
        writable = [c.name for c in registry.components("dataset") if registry.load(c).writer is not None]
        raise UsageError(f"The layout of {name} can be read but not written; these can be: {', '.join(writable)}.")
    return cast("Writer", made(lambda: cls.writer(root, about), str(root)))


def _root(choice: DatasetChoice, cls: type[Dataset]) -> Path | None:
    if not cls.needs_root:
        if choice.root is not None:
            domains = f"; it has the domains {', '.join(cls.domains)}" if cls.domains else ""
            raise UsageError(
                f"The dataset {choice.name} reads no folder, so {choice.root.name!r} means nothing{domains}."
            )
        return None
    base = os.environ.get("TRANSEG_DATA")
    if choice.root is None and not base:
        raise UsageError(
            f"The dataset {choice.name} needs a folder: say {choice.name}:FOLDER, or set TRANSEG_DATA to the folder "
            f"that holds {choice.name}/."
        )
    root = choice.root or Path(base or "", choice.name)
    if not root.is_dir():
        raise UsageError(f"The folder {root} of the dataset {choice.name} does not exist.")
    return root


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
    cls = registry.load(registry.find("generator", choice.name))
    options = checked(cls, choice.options, "generator")
    torch.manual_seed(seed)
    generator = cast("Generator", made(lambda: cls(source_channels, target_channels, **options), "generator"))
    if choice.weights is not None:
        load_weights(generator, weights_file(choice.weights), cls.key_map, "generator", adapt=generator.adapted)
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
    cls = registry.load(registry.find("segmenter", choice.name))
    options = checked(cls, choice.options, "segmenter")
    outputs = choice.num_classes or (1 if classes == 2 else classes)
    if outputs not in ({1, 2} if classes == 2 else {classes}):
        raise UsageError(f"segmenter.num_classes={outputs} does not fit the {classes} classes of the source.")
    torch.manual_seed(seed)
    segmenter = cast("Segmenter", made(lambda: cls(channels, outputs, **options), "segmenter"))
    if pretrained:
        made(segmenter.load_pretrained, "segmenter")
    if choice.weights is not None:
        load_weights(segmenter, weights_file(choice.weights), cls.key_map, "segmenter", whole=whole)
    return segmenter
