"""From settings to a complete experiment: everything is checked here, once, and every option spelled out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from transeg.core.component_options import check_options
from transeg.core.device import check_device_name, pick_device
from transeg.core.errors import TransegError, UsageError, did_you_mean
from transeg.core.experiment.augmentation_presets import PRESETS
from transeg.core.experiment.choices import SPLIT_OF_ROLE, Choice, DatasetChoice, GeneratorChoice
from transeg.core.experiment.defaults import on_device, with_defaults
from transeg.core.experiment.paths import check_paths, dataset_root
from transeg.core.experiment.planned_stages import check_strategy
from transeg.core.experiment.schema import AugmentationOptions, DistillationOptions, Experiment
from transeg.core.experiment.settings import Settings, parse_sum, read_settings
from transeg.core.experiment.shares import DECIDING, share_alone, share_folders, undecided
from transeg.core.experiment.validation import chosen_dataset, validated
from transeg.core.experiment.versions import upgrade
from transeg.core.registry import Registry
from transeg.core.runs.remembered_plugins import include_plugins

ROLES = ("source", "target", "synthetic", "val")
"""Of datasets, besides the tests."""
Check = Callable[[str, str, Mapping[str, Any], str], dict[str, Any]]
"""From a component's kind and name, some of its options and the prefix by which users know them to all of them."""


def complete_experiment(
    settings: Settings, registry: Registry, *, loading: Callable[[Experiment], None] = lambda _: None
) -> Experiment:
    """The one way from settings to an experiment: every option of every component is checked here, and spelled out.

    Whatever can be said without a component's class is said first: only then are classes, and with them PyTorch,
    imported.

    Args:
        settings: tables as in an experiment file; what they leave open is filled in.
        registry: where components come from.
        loading: told of the experiment before classes are imported.

    Raises:
        UsageError: an unknown component or option, a wrong value, a file or folder that does not exist, or parts that
            contradict each other.
    """
    settings = with_defaults(settings, registry)
    device = str(settings.get("device", "auto"))
    check_device_name(device)
    experiment = _without_components(on_device(settings, device), registry)
    check_paths(experiment, registry)
    check_strategy(experiment, registry)
    loading(experiment)
    experiment = _without_components(on_device(settings, pick_device(device)), registry)
    shared = share_folders(experiment.data, undecided(settings["data"]), registry)
    experiment = experiment.model_copy(update={"data": shared})
    return _with_component_options(experiment, partial(_checked, registry))


def load_experiment(path: Path, registry: Registry, *, stored: bool = True) -> Experiment:
    """The experiment of a run folder, whose networks can be built.

    Nothing is left open in it. Its device and folders may be those of another machine, and its data sets and losses
    not installed here: who builds them finds out.

    Args:
        path: of its file.
        registry: where components come from.
        stored: see :func:`transeg.core.experiment.versions.upgrade`.

    Raises:
        UsageError: it cannot be read, or holds an option that is not known.
    """
    include_plugins(path, registry)
    experiment = _without_components(upgrade(read_settings(path), registry, stored=stored), registry)

    def checked_where_installed(kind: str, name: str, given: Mapping[str, Any], where: str) -> dict[str, Any]:
        try:
            component = registry.load(registry.find(kind, name))
        except TransegError:
            return dict(given)
        return check_options(component, given, where)

    return _with_component_options(experiment, checked_where_installed)


def complete_dataset(table: Settings, role: str, registry: Registry) -> DatasetChoice:
    """A dataset in the role of `source`, `target`, `synthetic`, `val` or `test`, as commands without an experiment
    take it, with every option checked and spelled out.

    Raises:
        UsageError: an unknown option, a wrong value, or a folder that does not exist.
    """
    choice = chosen_dataset(table)
    dataset_root(choice, registry)
    in_role = _in_role(choice, role, registry)
    if not any(table.get(name) for name in DECIDING):
        in_role = share_alone(in_role, role, registry)
    return cast("DatasetChoice", _full("dataset", in_role, f"data.{role}", partial(_checked, registry)))


def _without_components(settings: Settings, registry: Registry) -> Experiment:
    """What can be said without any component's class: all of an experiment but the components' own options."""
    experiment = validated(settings)
    if experiment.loss is not None:
        loss_options(experiment.loss)
    generator = _conditioned(experiment.generator, registry)
    data = experiment.data
    roles = {role: choice for role in ROLES if (choice := getattr(data, role)) is not None}
    datasets = {role: _in_role(choice, role, registry) for role, choice in roles.items()}
    tests = {label: _in_role(choice, "test", registry) for label, choice in data.test.items()}
    changed = {
        "generator": generator,
        "data": data.model_copy(update={**datasets, "test": tests}),
        "augmentation": AugmentationOptions(transforms=_transforms(experiment.augmentation)),
    }
    return experiment.model_copy(update=changed)


def _in_role(choice: DatasetChoice, role: str, registry: Registry) -> DatasetChoice:
    """A dataset with the split and the domain that are usual for what it is used for."""
    if choice.split is not None and choice.domain is not None:
        return choice
    domains = registry.describe(registry.find("dataset", choice.name)).domains
    if choice.domain and not domains:
        raise UsageError(f"The dataset {choice.name} has one domain only, so {choice.domain!r} cannot be chosen.")
    usual = {"split": SPLIT_OF_ROLE[role], "domain": domains[0 if role == "source" else -1] if domains else None}
    return choice.model_copy(update={key: value for key, value in usual.items() if getattr(choice, key) is None})


def _with_component_options(experiment: Experiment, check: Check) -> Experiment:
    data = experiment.data
    roles = {role: choice for role in ROLES if (choice := getattr(data, role)) is not None}
    datasets = {role: _full("dataset", choice, f"data.{role}", check) for role, choice in roles.items()}
    tests = {label: _full("dataset", choice, f"data.test.{label}", check) for label, choice in data.test.items()}
    return experiment.model_copy(
        update={
            "strategy": _full("strategy", experiment.strategy, "strategy", check),
            "generator": _full("generator", experiment.generator, "generator", check),
            "segmenter": _full("segmenter", experiment.segmenter, "segmenter", check),
            "loss": _complete_loss(experiment.loss, check),
            "distillation": _complete_distillation(experiment.distillation, check),
            "data": data.model_copy(update={**datasets, "test": tests}),
        }
    )


def _checked(registry: Registry, kind: str, name: str, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """All options of a component, the given ones checked."""
    return check_options(registry.class_of(kind, name), given, where)


def _full(kind: str, choice: Any, where: str, check: Check) -> Any:
    """A choice with all options of its component; as it is where it names none, as a teacher that is a run does."""
    if choice is None or not choice.name:
        return choice
    fixed = {name: getattr(choice, name) for name in type(choice).model_fields}
    return type(choice)(**{**check(kind, choice.name, choice.options, where), **fixed})


def _complete_loss(choice: Choice | None, check: Check) -> Choice | None:
    if choice is None:
        return None
    options = loss_options(choice)
    full = {name: check("loss", name, options.get(name, {}), f"loss.{name}") for name in parse_sum(choice.name)}
    return Choice(name=choice.name, **{name: values for name, values in full.items() if values})


def _complete_distillation(distillation: DistillationOptions | None, check: Check) -> DistillationOptions | None:
    if distillation is None:
        return None
    teachers = {
        label: _full("segmenter", choice, f"distillation.teachers.{label}", check)
        for label, choice in distillation.teachers.items()
    }
    terms = {
        label: _full("loss", choice, f"distillation.terms.{label}", check)
        for label, choice in distillation.terms.items()
    }
    return distillation.model_copy(update={"teachers": teachers, "terms": terms})


def _conditioned(choice: GeneratorChoice | None, registry: Registry) -> GeneratorChoice | None:
    """The choice with what the generator is given of the source."""
    if choice is None:
        return None
    offered = registry.describe(registry.find("generator", choice.name)).conditions
    if choice.condition is not None and choice.condition not in offered:
        raise UsageError(
            f"The generator {choice.name} cannot be given {choice.condition} (generator.condition); "
            f"it takes {', '.join(offered)}."
        )
    return choice.model_copy(update={"condition": choice.condition or offered[0]})


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
