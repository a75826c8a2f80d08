"""What decides a training's result, the same wherever its data lie and whatever options came since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from transeg.core.component_options import EMPTY, options
from transeg.core.errors import TransegError
from transeg.core.experiment.choices import CHOICES, Choice
from transeg.core.experiment.deciding_options import BATCH, RUNTIME, is_any_of
from transeg.core.experiment.schema import Experiment
from transeg.core.experiment.settings import Settings, flat, parse_sum
from transeg.core.experiment.versions import NEUTRAL, retired_values
from transeg.core.registry import Registry


@dataclass(frozen=True)
class Identity:
    """What the checkpoints of a training have in common.

    Attributes:
        options: dotted, with what else decides its result.
        neutral: what an option is where it is not named, by its name.
    """

    options: Settings
    neutral: Settings

    @cached_property
    def digest(self) -> str:
        """Of the options that are not neutral, so that an option that is added leaves it as it is."""
        deciding = {name: value for name, value in self.options.items() if value != self.neutral.get(name)}
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()

    def difference(self, stored: Mapping[str, Any]) -> str:
        """The first option in which this differs from what a checkpoint holds, in words; '' where they agree."""
        for name in sorted(self.options.keys() | stored.keys()):
            here, there = (each.get(name, self.neutral.get(name)) for each in (self.options, stored))
            if here != there:
                said = ("not set" if value is None else value for value in (there, here))
                return "{} is {} there and {} here".format(name, *said)
        return ""


def identify(experiment: Experiment, registry: Registry, beside: Mapping[str, str]) -> Identity:
    """The identity of a training.

    Args:
        experiment: of its stage, complete.
        registry: knows the defaults of components.
        beside: what else decides its result, by what it is: fingerprints of data sets, identities of other stages.
    """
    return Identity({**training_options(experiment), **beside}, neutral_values(experiment, registry))


def training_options(experiment: Experiment) -> Settings:
    """Every option that decides a training's result, dotted, as JSON holds it; of a path, the name of its file."""
    document = flat(experiment.model_dump(exclude_none=True))
    kept = {name: value for name, value in document.items() if not is_any_of(name, (*RUNTIME, *BATCH))}
    kept["joint_batch"] = experiment.joint_batch
    named = {name: _portable(value) for name, value in kept.items()}
    return json.loads(json.dumps({name: value for name, value in named.items() if value is not None}))


def neutral_values(experiment: Experiment, registry: Registry) -> Settings:
    """What options that an experiment has or had are where they are not named, dotted: their defaults, or what stood in
    for them before they came.
    """
    found = _defaults(experiment, "", registry)
    named = {kind: choice.name for kind in CHOICES if (choice := getattr(experiment, kind, None)) is not None}
    found |= retired_values(named)
    return {name: _portable(value) for name, value in {**found, **flat(NEUTRAL)}.items()}


def _defaults(table: Any, prefix: str, registry: Registry) -> Settings:
    """Defaults of a table and all that are in it; of a component, those of its class."""
    found: Settings = {}
    for name, field in type(table).model_fields.items():
        value = getattr(table, name)
        if isinstance(value, BaseModel):
            found |= _defaults(value, f"{prefix}{name}.", registry)
        elif isinstance(value, dict):
            for label, each in value.items():
                if isinstance(each, BaseModel):
                    found |= _defaults(each, f"{prefix}{name}.{label}.", registry)
        elif field.default is not PydanticUndefined:
            found[f"{prefix}{name}"] = field.default
    if isinstance(table, Choice):
        found |= {f"{prefix}{name}": value for name, value in _component_defaults(table, registry).items()}
    return {name: value for name, value in found.items() if value is not None}


def _component_defaults(choice: Choice, registry: Registry) -> Settings:
    kind = next((kind for kind, cls in CHOICES.items() if cls is not Choice and isinstance(choice, cls)), "loss")
    try:
        names = parse_sum(choice.name) if kind == "loss" else {choice.name: 1.0}
        defaults = {
            name: {
                option.name: option.default
                for option in options(registry.load(registry.find(kind, name))).values()
                if option.default is not EMPTY
            }
            for name in names
        }
    except TransegError:  # not installed here: what it holds counts as it stands
        return {}
    return flat(defaults) if type(choice) is Choice else defaults[choice.name]


def _portable(value: Any) -> Any:
    """A value without where files lie: of a file its name and size, of a folder nothing."""
    if isinstance(value, Path):
        return f"{value.name}, {value.stat().st_size} bytes" if value.is_file() else None
    if isinstance(value, list | tuple):
        return [_portable(each) for each in value]
    return value
