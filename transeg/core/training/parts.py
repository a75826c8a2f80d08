"""Everything that an experiment names, built and checked against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

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
from transeg.core.builders.few import draw_few
from transeg.core.builders.folds import Subset, concatenate, split_folds
from transeg.core.builders.networks import build_generator, build_segmenter
from transeg.core.builders.seen_images import SeenImages, check_unseen
from transeg.core.data.finite import check_floats
from transeg.core.errors import UsageError
from transeg.core.evaluation.judge import Judge, is_measurable
from transeg.core.evaluation.metrics.image_metrics import check_metrics
from transeg.core.experiment.planned_stages import plan_stages
from transeg.core.experiment.schema import DataOptions, Experiment
from transeg.core.inference.adaptation import batch_norms
from transeg.core.inference.conditioning import Conditioning
from transeg.core.inference.trained_model import DomainProperties, build_conditioning, trained_domains
from transeg.core.interfaces import Dataset, Generator, NetworkKind, Segmenter
from transeg.core.manifest import StrategyEntry
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.core.training.distillation import Teacher, build_distillation, build_teachers


@dataclass(frozen=True)
class Parts:
    """Data sets of an experiment, or of a stage of it.

    Attributes:
        domains: what the networks must know of the data.
        source: training images; None where nothing is learned from any.
        target: training images of the target domain.
        val: labelled images that select the best checkpoint, or None where the source has none to spare.
        tests: labelled test images by name.
        synthetic: synthetic labelled images that the segmenter learns from beside the source.
        held: which of the source's images each fold holds out, see :func:`.folds.split_folds`; None
            where there is one training alone, without folds or of one of them.
        validates_target: whether ``val`` has images of the target domain, to be segmented as they are.
        transductive: in words, by test, how many of its images are seen without labels; only of tests with such images.
    """

    domains: DomainProperties
    source: Dataset | None
    target: Dataset | None
    val: Dataset | None
    tests: dict[str, Dataset]
    synthetic: Dataset | None = None
    held: Sequence[Sequence[int]] | None = None
    validates_target: bool = False
    transductive: Mapping[str, str] = field(default_factory=dict)

    def fold(self, number: int) -> Parts:
        """These parts where the images that a fold holds out validate, and all other labelled ones train."""
        assert self.held is not None
        assert self.source is not None
        everything, out = concatenate(self.source, self.val), self.held[number]
        rest = sorted(set(range(len(everything))) - set(out))
        source, val = (Subset([everything.places[index] for index in indices]) for indices in (rest, out))
        return replace(self, source=source, val=val)

    def named_by(self, data: DataOptions) -> Parts:
        """These parts without the data sets that the options of a stage do not name."""
        own_val = self.val if data.val is not None or not self.validates_target else None
        return replace(
            self,
            source=self.source if data.source is not None else None,
            target=self.target if data.target is not None else None,
            synthetic=self.synthetic if data.synthetic is not None else None,
            val=own_val,
            tests={label: dataset for label, dataset in self.tests.items() if label in data.test},
            validates_target=self.validates_target and own_val is not None,
        )

    def seen(self) -> SeenImages:
        """The images that a training sees, with labels or without."""
        roles = {"source": self.source, "val": self.val, "synthetic": self.synthetic, "target": self.target}
        return SeenImages.of(roles)

    def images(self) -> dict[str, int]:
        """How many there are, by what they serve as."""
        datasets = {"source": self.source, "target": self.target, "synthetic": self.synthetic}
        datasets |= {"val": self.val, **self.tests}
        return {role: len(dataset) for role, dataset in datasets.items() if dataset is not None}


@dataclass(frozen=True)
class Networks:
    """What an experiment trains and what helps it, built once to be counted and checked against the data.

    Attributes:
        generator: the translator.
        segmenter: the network that segments.
        teachers: frozen segmenters to distil from.
        judge: what judges the generator's images; None where nothing can measure them.
    """

    generator: Generator | None
    segmenter: Segmenter | None
    teachers: tuple[Teacher, ...] = ()
    judge: Judge | None = None

    def by_kind(self) -> dict[NetworkKind, nn.Module]:
        """Those that are trained."""
        networks: dict[NetworkKind, nn.Module | None] = {"generator": self.generator, "segmenter": self.segmenter}
        return {kind: network for kind, network in networks.items() if network is not None}

    def sizes(self) -> dict[str, int]:
        """How many parameters are trained, by network."""
        return {kind: count_parameters(network) for kind, network in self.by_kind().items()}


def count_parameters(network: nn.Module, frozen: bool = False) -> int:
    """The number of trainable parameters; with ``frozen``, of all."""
    return sum(p.numel() for p in network.parameters() if frozen or p.requires_grad)


def build_parts(experiment: Experiment, registry: Registry) -> tuple[Parts, Networks]:
    """Build the data sets and networks of an experiment.

    Raises:
        UsageError: something that it names is not there, or does not fit the rest.
    """
    data = experiment.data
    source = normalise_stain(build_nonempty(data.source, "source", registry), data) if data.source else None
    target = normalise_stain(build_nonempty(data.target, "target", registry), data) if data.target else None
    tests = {
        label: normalise_stain(build_nonempty(choice, "test", registry, label), data)
        for label, choice in data.test.items()
    }
    synthetic = build_nonempty(data.synthetic, "synthetic", registry) if data.synthetic else None
    if synthetic is not None and data.synthetic_limit:
        synthetic = draw_few(synthetic, data.synthetic_limit, experiment.seed)
    domains = _domains(experiment, source, target, tests, registry)
    on_target = data.val is not None
    parts = Parts(domains, source, target, None, tests, synthetic, validates_target=on_target)
    generator, judge = _generator(experiment, parts, registry) if experiment.generator is not None else (None, None)
    if experiment.segmenter is not None or judge is not None:
        val = build_nonempty(data.val, "val", registry) if data.val else validation_split(data.source, registry)
        parts = replace(parts, val=None if val is None else normalise_stain(val, data))
    check_floats(each for each in (source, target, synthetic, parts.val, *tests.values()) if each is not None)
    _check_data(experiment, parts, judge, registry)
    check_metrics(experiment.metrics, registry)
    transductive = check_unseen(tests, parts.seen() if tests else SeenImages([]), transductive=experiment.transductive)
    parts = replace(parts, transductive=transductive)
    if experiment.train.ema is not None and experiment.segmenter is None:
        raise UsageError("train.ema averages the weights of a segmenter, and there is none; leave it out.")
    if experiment.folds is not None:
        assert parts.source is not None
        held = split_folds(parts.source, parts.val, experiment.folds, experiment.seed)
        parts = replace(parts, held=held)
        if experiment.fold is not None:
            parts = replace(parts.fold(experiment.fold - 1), held=None)
    if experiment.segmenter is None:
        return parts, Networks(generator, None, (), judge)
    segmenter, teachers = _segmenter(experiment, parts, registry)
    if experiment.test_adaptation != "none":
        batch_norms(segmenter, f"test_adaptation={experiment.test_adaptation}")
    return parts, Networks(generator, segmenter, teachers, judge)


def _domains(
    experiment: Experiment,
    source: Dataset | None,
    target: Dataset | None,
    tests: Mapping[str, Dataset],
    registry: Registry,
) -> DomainProperties:
    """What the networks must know of the data: without a source, as the run knew it that a stage begins from."""
    if source is not None:
        if target is not None:
            return DomainProperties(source.classes, source.channels, target.channels)
        by_image = experiment.generator is not None and experiment.generator.condition == "image"
        translated = source.target_channels if by_image and source.paired else source.channels
        return DomainProperties(source.classes, source.channels, translated)
    begun = [
        place
        for planned in plan_stages(experiment, registry)
        for place, _ in planned.stage.begins.values()
        if isinstance(place, Path)
    ]
    if begun:
        return trained_domains(RunFolder(begun[0]), registry)
    known = next(iter(tests.values()), target)
    if known is None or target is None:
        raise UsageError("Without a source there must be images to learn from; say --target NAME:ROOT.")
    return DomainProperties(known.classes, target.channels, target.channels)


def _generator(experiment: Experiment, parts: Parts, registry: Registry) -> tuple[Generator, Judge | None]:
    assert experiment.generator is not None
    domains = parts.domains
    given = build_conditioning(experiment.generator, domains)
    generator = build_generator(
        experiment.generator, given.channels, domains.target_channels, experiment.seed, registry
    )
    _check_generator(experiment, generator, given, parts.source, parts.target)
    if not is_measurable(generator, given, experiment.quality):
        return generator, None
    classes, device = len(domains.class_names), torch.device(experiment.device)
    return generator, Judge.from_options(experiment.quality, classes, registry, device)


def _segmenter(experiment: Experiment, parts: Parts, registry: Registry) -> tuple[Segmenter, tuple[Teacher, ...]]:
    assert experiment.segmenter is not None
    channels, classes = parts.domains.target_channels, len(parts.domains.class_names)
    segmenter = build_segmenter(experiment.segmenter, channels, classes, experiment.seed, registry)
    check_heads(segmenter, experiment)
    learned_from = parts.source or parts.target
    if experiment.distillation is None or learned_from is None:
        return segmenter, ()
    teachers = build_teachers(experiment, learned_from, channels, registry)
    trial = build_distillation(experiment, segmenter, teachers, channels, registry)
    if trial is not None:  # whatever does not fit is to be said before hours of training, not after
        trial.close()
    return segmenter, teachers


def _check_data(experiment: Experiment, parts: Parts, judge: Judge | None, registry: Registry) -> None:
    """Whether all datasets have the labels, classes and channels that are wanted of them.

    Raises:
        UsageError: one of them does not.
    """
    domains, tests = parts.domains, parts.tests
    if experiment.train.selection == "agreement":
        _check_agreement(experiment, parts)
    if experiment.baseline != "none" and domains.source_channels != domains.target_channels:
        raise UsageError(
            f"There can be no source-only baseline: source images have {domains.source_channels} channels, "
            f"target images {domains.target_channels}."
        )
    if experiment.generator is None and parts.source is not None and parts.target is not None:
        _check_channels(domains)
    others = dict(tests)
    if parts.synthetic is not None:
        others["data.synthetic"] = parts.synthetic
    if parts.source is not None and not parts.source.paired and _needs_pairs(experiment, registry):
        raise UsageError(
            f"The strategy {experiment.strategy.name} learns from pairs of images, but the source has none; "
            f"see `toolkit info dataset/aligned`."
        )
    if experiment.segmenter is None:
        if others and judge is None:
            raise UsageError(
                "Without pairs there is nothing to test a generator's images on, unless quality.features or "
                "quality.segmenter says what judges them; leave --test out."
            )
        if experiment.generator is not None and build_conditioning(experiment.generator, domains).by_mask:
            check_labelled(others)
        check_compatible(domains.class_names, domains.source_channels, others)
        return
    check_labelled({**({} if parts.source is None else {"the source": parts.source}), **others})
    if parts.validates_target and parts.val is not None:
        others["val"] = parts.val
    check_compatible(domains.class_names, domains.target_channels, others)


def _check_agreement(experiment: Experiment, parts: Parts) -> None:
    """Whether a segmenter can be asked at validations what it and its average think of target images.

    Raises:
        UsageError: there is none, or there are no such images, or no validations.
    """
    for there, lack in (
        (experiment.segmenter, "a segmenter, and none is trained"),
        (parts.target, "target images; say --target NAME:FOLDER"),
        (parts.val, "validations, and there are no validation images"),
    ):
        if there is None:
            raise UsageError(f"train.selection=agreement needs {lack}, or leave it out.")


def _check_channels(domains: DomainProperties) -> None:
    """Whether a segmenter can see images of both domains.

    Raises:
        UsageError: they differ in their channels.
    """
    if domains.source_channels != domains.target_channels:
        raise UsageError(
            f"Source images have {domains.source_channels} channels and target images {domains.target_channels}, so "
            "one segmenter cannot see both; set the option channels of one of the data sets, or name a generator."
        )


def _needs_pairs(experiment: Experiment, registry: Registry) -> bool:
    entry = registry.find("strategy", experiment.strategy.name).entry
    return isinstance(entry, StrategyEntry) and "pairs" in entry.needs


def _check_generator(
    experiment: Experiment,
    generator: Generator,
    given: Conditioning,
    source: Dataset | None,
    target: Dataset | None,
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
    if generator.paired and source is None:
        raise UsageError(f"The generator {name} learns from pairs, and there is no source; say --source NAME:ROOT.")
    if generator.paired and source is not None and given.by_mask and not has_masks(source):
        raise UsageError(
            f"The generator {name} makes images from label maps, but the source has none; "
            f"for a paired source say --set generator.condition=image."
        )
    if generator.paired and source is not None and not given.by_mask and not source.paired:
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
