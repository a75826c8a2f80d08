"""Every option of every component of an experiment, spelled out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

from transeg.core.component_options import checked
from transeg.core.data.augmentation import PRESETS
from transeg.core.errors import UsageError, did_you_mean
from transeg.core.experiment.choices import SPLIT_OF_ROLE, Choice, DatasetChoice, GeneratorChoice
from transeg.core.experiment.schema import AugmentationOptions, DistillationOptions, Experiment, SynthesisOptions
from transeg.core.experiment.settings import parse_sum
from transeg.core.registry import Registry


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


def _complete_loss(choice: Choice | None, registry: Registry) -> Choice | None:
    if choice is None:
        return None
    options = loss_options(choice)
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


def loss_options(choice: Choice) -> dict[str, Mapping[str, Any]]:
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
