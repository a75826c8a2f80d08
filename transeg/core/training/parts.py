"""Everything that an experiment names, built and checked against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from transeg.core.builders.datasets import (
    build_nonempty,
    check_compatible,
    check_labelled,
    has_masks,
    normalise_stain,
    validation_split,
)
from transeg.core.builders.folds import Subset, concatenate, split_folds
from transeg.core.builders.networks import build_generator, build_segmenter
from transeg.core.errors import UsageError
from transeg.core.evaluation.translation_quality import Judge, is_measurable
from transeg.core.experiment.schema import Experiment
from transeg.core.inference.conditioning import Conditioning
from transeg.core.inference.trained_model import DomainProperties, build_conditioning
from transeg.core.interfaces import Dataset, Generator, Segmenter
from transeg.core.registry import Registry
from transeg.core.training.distillation import Teacher, build_distillation, build_teachers


@dataclass(frozen=True)
class Parts:
    """Datasets and networks of an experiment.

    Attributes:
        domains: what the networks must know of the data.
        source: training images.
        target: training images of the target domain.
        synthetic: synthetic labelled images that the segmenter learns from beside the source.
        judge: what judges the generator's images; None where nothing can measure them.
        val: labelled images that select the best checkpoint, or None where the source has none to spare.
        tests: labelled test images by name.
        generator: the translator.
        segmenter: the network that segments.
        teachers: frozen segmenters to distil from.
        held: which of the source's images each fold holds out, see :func:`.folds.split_folds`; None
            where there is one training alone, without folds or of one of them.
        validates_target: whether ``val`` has images of the target domain, to be segmented as they are.
    """

    domains: DomainProperties
    source: Dataset
    target: Dataset | None
    val: Dataset | None
    tests: dict[str, Dataset]
    generator: Generator | None
    segmenter: Segmenter | None
    teachers: tuple[Teacher, ...] = ()
    validates_target: bool = False
    synthetic: Dataset | None = None
    judge: Judge | None = None
    held: Sequence[Sequence[int]] | None = None

    def fold(self, number: int) -> Parts:
        """These parts where the images that a fold holds out validate, and all other labelled ones train."""
        assert self.held is not None
        everything, out = concatenate(self.source, self.val), self.held[number]
        rest = sorted(set(range(len(everything))) - set(out))
        source, val = (Subset([everything.places[index] for index in indices]) for indices in (rest, out))
        return replace(self, source=source, val=val)

    def sizes(self) -> dict[str, dict[str, int]]:
        """``images``: how many there are, by what they serve as; ``parameters``: how many are trained, by network."""
        datasets = {"source": self.source, "target": self.target, "synthetic": self.synthetic}
        datasets |= {"val": self.val, **self.tests}
        networks = {"generator": self.generator, "segmenter": self.segmenter}
        return {
            "images": {role: len(dataset) for role, dataset in datasets.items() if dataset is not None},
            "parameters": {
                part: count_parameters(network) for part, network in networks.items() if network is not None
            },
        }


def count_parameters(network: nn.Module, frozen: bool = False) -> int:
    """The number of trainable parameters; with ``frozen``, of all."""
    return sum(p.numel() for p in network.parameters() if frozen or p.requires_grad)


def _translated_channels(experiment: Experiment, source: Dataset, target: Dataset | None) -> int:
    """Channels of what a segmenter sees and a generator makes."""
    if target is not None:
        return target.channels
    by_image = experiment.generator is not None and experiment.generator.condition == "image"
    return source.target_channels if by_image and source.paired else source.channels


def build_parts(experiment: Experiment, registry: Registry) -> Parts:
    """Build the datasets and networks of an experiment.

    Raises:
        UsageError: something that it names is not there, or does not fit the rest.
    """
    data = experiment.data
    source = normalise_stain(build_nonempty(data.source, "source", registry), data)
    target = normalise_stain(build_nonempty(data.target, "target", registry), data) if data.target else None
    tests = {
        label: normalise_stain(build_nonempty(choice, "test", registry, label), data)
        for label, choice in data.test.items()
    }
    synthetic = build_nonempty(data.synthetic, "synthetic", registry) if data.synthetic else None
    domains = DomainProperties(source.classes, source.channels, _translated_channels(experiment, source, target))
    on_target = data.val is not None
    parts = Parts(domains, source, target, None, tests, None, None, validates_target=on_target, synthetic=synthetic)
    if experiment.generator is not None:
        given = build_conditioning(experiment.generator, domains)
        generator = build_generator(
            experiment.generator, given.channels, domains.target_channels, experiment.seed, registry
        )
        _check_generator(experiment, generator, given, source, target)
        judge = None
        if is_measurable(generator, given, experiment.quality):
            judge = Judge.from_options(
                experiment.quality, len(source.classes), registry, torch.device(experiment.device)
            )
        parts = replace(parts, generator=generator, judge=judge)
    if experiment.segmenter is not None or parts.judge is not None:
        val = build_nonempty(data.val, "val", registry) if data.val else validation_split(data.source, registry)
        parts = replace(parts, val=None if val is None else normalise_stain(val, data))
    _check_data(experiment, parts)
    if experiment.train.ema is not None and experiment.segmenter is None:
        raise UsageError("train.ema averages the weights of a segmenter, and there is none; leave it out.")
    if experiment.folds is not None:
        held = split_folds(parts.source, parts.val, experiment.folds, experiment.seed)
        parts = replace(parts, held=held)
        if experiment.fold is not None:
            parts = replace(parts.fold(experiment.fold - 1), held=None)
    return parts if experiment.segmenter is None else _with_segmenter(experiment, parts, registry)


def _with_segmenter(experiment: Experiment, parts: Parts, registry: Registry) -> Parts:
    assert experiment.segmenter is not None
    source, channels = parts.source, parts.domains.target_channels
    segmenter = build_segmenter(experiment.segmenter, channels, len(source.classes), experiment.seed, registry)
    check_heads(segmenter, experiment)
    teachers = build_teachers(experiment, source, channels, registry)
    trial = build_distillation(experiment, segmenter, teachers, channels, registry)
    if trial is not None:  # whatever does not fit is to be said before hours of training, not after
        trial.close()
    return replace(parts, segmenter=segmenter, teachers=teachers)


def _check_data(experiment: Experiment, parts: Parts) -> None:
    """Whether all datasets have the labels, classes and channels that are wanted of them.

    Raises:
        UsageError: one of them does not.
    """
    domains, tests = parts.domains, parts.tests
    if experiment.baseline != "none" and domains.source_channels != domains.target_channels:
        raise UsageError(
            f"There can be no source-only baseline: source images have {domains.source_channels} channels, "
            f"target images {domains.target_channels}."
        )
    others = dict(tests)
    if parts.synthetic is not None:
        others["data.synthetic"] = parts.synthetic
    if experiment.segmenter is None:
        if others and parts.judge is None:
            raise UsageError(
                "Without pairs there is nothing to test a generator's images on, unless quality.features or "
                "quality.segmenter says what judges them; leave --test out."
            )
        if experiment.generator is not None and build_conditioning(experiment.generator, domains).by_mask:
            check_labelled(others)
        check_compatible(domains.class_names, domains.source_channels, others)
        return
    check_labelled({"the source": parts.source, **others})
    if parts.validates_target and parts.val is not None:
        others["val"] = parts.val
    check_compatible(domains.class_names, domains.target_channels, others)


def _check_generator(
    experiment: Experiment, generator: Generator, given: Conditioning, source: Dataset, target: Dataset | None
) -> None:
    """Whether a generator can learn from the datasets.

    Raises:
        UsageError: it cannot.
    """
    assert experiment.generator is not None
    name, size = experiment.generator.name, experiment.data.size
    option = "data.size" if experiment.data.tile is None else "data.tile"
    if not generator.paired and target is None:
        raise UsageError(f"The generator {name} needs images of the target domain; say --target NAME:ROOT.")
    if generator.paired and target is not None:
        raise UsageError(
            f"The generator {name} learns from pairs, and a target domain of its own has no pairs; leave --target out."
        )
    if generator.paired and given.by_mask and not has_masks(source):
        raise UsageError(
            f"The generator {name} makes images from label maps, but the source has none; "
            f"for a paired source say --set generator.condition=image."
        )
    if generator.paired and not given.by_mask and not source.paired:
        raise UsageError(
            f"The generator {name} learns from pairs of images, but the source has none; "
            f"see `toolkit info dataset/aligned`, or say --set generator.condition=mask."
        )
    if size < generator.smallest:
        raise UsageError(f"The generator {name} needs images of {generator.smallest} pixels; raise {option}.")
    if size % generator.size_multiple:
        raise UsageError(
            f"The generator {name} needs images whose sides are multiples of {generator.size_multiple}; "
            f"{option}={size} is not."
        )
    if experiment.joint is not None and experiment.joint.pseudo_labels != "off" and target is None:
        raise UsageError("joint.pseudo_labels are for images of the target domain, and there is no --target.")


def check_heads(segmenter: Segmenter, experiment: Experiment) -> None:
    """Whether there is a weight for each head.

    Raises:
        UsageError: there are more or fewer, or the final head's is zero.
    """
    weights = experiment.train.head_weights
    if weights is None:
        return
    if len(weights) != segmenter.heads:
        heads = "1 head" if segmenter.heads == 1 else f"{segmenter.heads} heads"
        raise UsageError(
            f"train.head_weights has {len(weights)} numbers, but this segmenter has {heads}, the final one first."
        )
    if weights[0] == 0:
        raise UsageError("train.head_weights gives the final head, which comes first, no weight; nothing else is used.")
