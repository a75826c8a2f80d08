"""An experiment's settings with the values that a trial has chosen."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from transeg.core.errors import UsageError, did_you_mean
from transeg.core.experiment.completion import complete_experiment
from transeg.core.experiment.schema import Experiment
from transeg.core.experiment.settings import Settings
from transeg.core.registry import Registry

COMPONENTS = ("generator", "segmenter", "loss")
"""Options whose values are names of components."""
TRANSFORMS = "augmentation.transforms."


def overlay_settings(settings: Mapping[str, Any], chosen: Mapping[str, Any], registry: Registry) -> Settings:
    """Settings with other values.

    A component of another name takes the place of the whole table, whose options were for the first. Transforms of the
    augmentation are named by albumentations' name for them or counted from 0, and come from a preset where the settings
    name one.

    Args:
        settings: as in an experiment file.
        chosen: values by dotted option; None for one that is not to be set.
        registry: where components come from.

    Raises:
        UsageError: the settings have no such place.
    """
    result = deepcopy(dict(settings))
    for kind in COMPONENTS:
        if kind in chosen:
            table = result.get(kind, {})
            kept = table if isinstance(table, dict) and table.get("name") in (None, chosen[kind]) else {}
            result[kind] = {**kept, "name": chosen[kind]}
    if any(option.startswith(TRANSFORMS) for option in chosen):
        transforms = complete_experiment(result, registry).augmentation.transforms or ()
        result["augmentation"] = {"transforms": deepcopy(list(transforms))}
    for option, value in chosen.items():
        if option not in COMPONENTS:
            _put(result, option, value)
    return result


def compose_trial(settings: Mapping[str, Any], chosen: Mapping[str, Any], registry: Registry) -> Experiment:
    """The complete experiment of settings with other values.

    Raises:
        UsageError: they do not fit together.
    """
    return complete_experiment(overlay_settings(settings, chosen, registry), registry)


def lookup(table: Any, option: str) -> Any:
    """The value of a dotted option in a composed experiment's tables; None where it stands elsewhere there."""
    for key in option.split("."):
        try:
            table = table[_place(table, key, option)] if isinstance(table, list) else table[key]
        except (KeyError, TypeError, UsageError):
            return None
    return table


def _put(settings: Settings, option: str, value: Any) -> None:
    *path, last = option.split(".")
    table: Any = settings
    for key in path:
        if isinstance(table, list):
            table = table[_place(table, key, option)]
        elif isinstance(table, dict):
            table = table.setdefault(key, {})
        else:
            raise UsageError(f"There is no option {option}: {key} has none.")
    if isinstance(table, list):
        table[_place(table, last, option)] = value
    elif isinstance(table, dict):
        if isinstance(table.get(last), dict) and not isinstance(value, dict):
            raise UsageError(f"{option} is not an option but a table of options.")
        table[last] = value
    else:
        raise UsageError(f"There is no option {option}: {path[-1]} is not a table.")


def _place(values: list[Any], key: str, option: str) -> int:
    """Where a list has what is named, or counted from 0."""
    names = [value.get("name") if isinstance(value, dict) else None for value in values]
    if key in names:
        return names.index(key)
    if key.isascii() and key.isdigit() and int(key) < len(values):
        return int(key)
    known = [name for name in names if name] or list(map(str, range(len(values))))
    raise UsageError(f"There is no option {option}.{did_you_mean(key, known) or ' The list is empty.'}")
