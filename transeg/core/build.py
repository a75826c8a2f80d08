"""Turns the names and options of an experiment into datasets, networks and losses."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from transeg.core.artifacts import weights_file
from transeg.core.choices import SPLIT_OF_ROLE, Choice, DatasetChoice, GeneratorChoice, SegmenterChoice
from transeg.core.data.augmentation import PRESETS
from transeg.core.data.rescaled import Rescaled
from transeg.core.errors import UsageError, did_you_mean
from transeg.core.experiment import AugmentationOptions, DistillationOptions, Experiment, SynthesisOptions
from transeg.core.interfaces import About, Dataset, Generator, Segmenter, Writer
from transeg.core.losses import LossSum
from transeg.core.made import made
from transeg.core.options import checked
from transeg.core.registry import Registry
from transeg.core.settings import parse_sum
from transeg.core.weights import load_weights


def completed(experiment: Experiment, registry: Registry) -> Experiment:
    """The experiment with every option of every component spelled out.

    Raises:
        UsageError: an unknown option, or a value of the wrong type.
    """
    full = partial(_full, registry)

    def full_dataset(choice: DatasetChoice | None, role: str, where: str) -> DatasetChoice | None:
        if choice is None:
            return None
        domains = registry.find("dataset", choice.name).domains
        usual = {"split": SPLIT_OF_ROLE[role], "domain": domains[0 if role == "source" else -1] if domains else None}
        missing = {key: value for key, value in usual.items() if getattr(choice, key) is None}
        return cast("DatasetChoice", full("dataset", choice.model_copy(update=missing), where))

    data = experiment.data
    roles = ("source", "target", "synthetic", "val")
    datasets = {role: full_dataset(getattr(data, role), role, f"data.{role}") for role in roles}
    tests = {label: full_dataset(choice, "test", f"data.test.{label}") for label, choice in data.test.items()}
    return experiment.model_copy(
        update={
            "generator": full("generator", _conditioned(experiment.generator, registry), "generator"),
            "segmenter": full("segmenter", experiment.segmenter, "segmenter"),
            "loss": _complete_loss(experiment.loss, registry),
            "synthesis": _complete_synthesis(experiment, registry),
            "distillation": _complete_distillation(experiment.distillation, registry),
            "data": data.model_copy(update={**datasets, "test": tests}),
            "augmentation": AugmentationOptions(transforms=_transforms(experiment.augmentation)),
        }
    )


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


def build_loss(choice: Choice, registry: Registry, head_weights: Sequence[float] = ()) -> LossSum:
    """The weighted sum that a loss expression names, over heads of these weights."""
    options = _loss_options(choice)
    terms = {}
    for name, weight in parse_sum(choice.name).items():
        cls = registry.load(registry.find("loss", name))
        values = checked(cls, options.get(name, {}), f"loss.{name}")
        terms[name] = (weight, made(partial(cls, **values), f"loss.{name}"))
    return LossSum(terms, head_weights)


def _complete_loss(choice: Choice | None, registry: Registry) -> Choice | None:
    if choice is None:
        return None
    options = _loss_options(choice)
    full = {
        name: checked(registry.load(registry.find("loss", name)), options.get(name, {}), f"loss.{name}")
        for name in parse_sum(choice.name)
    }
    return Choice(name=choice.name, **{name: values for name, values in full.items() if values})


def _full(registry: Registry, kind: str, choice: Any, where: str) -> Any:
    """A choice with all options of its component; as it is where it names none, as a teacher that is a run does."""
    if choice is None or not choice.name:
        return choice
    component = registry.load(registry.find(kind, choice.name))
    fixed = {name: getattr(choice, name) for name in type(choice).model_fields}
    return type(choice)(**{**checked(component, choice.options, where), **fixed})


def _complete_distillation(distillation: DistillationOptions | None, registry: Registry) -> DistillationOptions | None:
    if distillation is None:
        return None
    full = partial(_full, registry)
    teachers = {k: full("segmenter", v, f"distillation.teachers.{k}") for k, v in distillation.teachers.items()}
    terms = {k: full("loss", v, f"distillation.terms.{k}") for k, v in distillation.terms.items()}
    return distillation.model_copy(update={"teachers": teachers, "terms": terms})


def _conditioned(choice: GeneratorChoice | None, registry: Registry) -> GeneratorChoice | None:
    """The choice with what the generator is given of the source."""
    if choice is None:
        return None
    offered = registry.load(registry.find("generator", choice.name)).conditions
    if choice.condition is not None and choice.condition not in offered:
        raise UsageError(
            f"The generator {choice.name} cannot be given {choice.condition} (generator.condition); "
            f"it takes {', '.join(offered)}."
        )
    return choice.model_copy(update={"condition": choice.condition or offered[0]})


def _complete_synthesis(experiment: Experiment, registry: Registry) -> SynthesisOptions | None:
    """The options of the synthesis, where a generator makes images from label maps for a segmenter to learn from."""
    generator = _conditioned(experiment.generator, registry)
    makes = experiment.strategy == "sequential" and generator is not None and generator.condition != "image"
    if experiment.synthesis is not None and not makes:
        raise UsageError("[synthesis] is for generators that are given label maps (generator.condition=mask).")
    return (experiment.synthesis or SynthesisOptions()) if makes else None


def _loss_options(choice: Choice) -> dict[str, Mapping[str, Any]]:
    """Options by term: ``loss.dice.smooth``, or ``loss.smooth`` where there is one term only."""
    terms = parse_sum(choice.name)
    by_term: dict[str, Mapping[str, Any]] = {
        name: value for name, value in choice.options.items() if name in terms and isinstance(value, dict)
    }
    direct = {name: value for name, value in choice.options.items() if name not in by_term}
    if not direct:
        return by_term
    if len(terms) > 1:
        first = next(iter(direct))
        raise UsageError(
            f"There is no option loss.{first}; say which loss takes it, as in loss.{next(iter(terms))}.{first}."
        )
    (only,) = terms
    return {only: {**direct, **by_term.get(only, {})}}


def _transforms(augmentation: AugmentationOptions) -> tuple[dict[str, Any], ...]:
    if augmentation.transforms is not None:
        return augmentation.transforms
    preset = augmentation.preset or "none"
    if preset not in PRESETS:
        raise UsageError(f"There is no augmentation preset {preset!r}.{did_you_mean(preset, PRESETS)}")
    return tuple(PRESETS[preset])
