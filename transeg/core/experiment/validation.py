"""An experiment from its tables: what is wrong in them is told in a sentence."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from transeg.core.errors import UsageError, did_you_mean
from transeg.core.experiment.choices import DatasetChoice
from transeg.core.experiment.schema import Experiment
from transeg.core.experiment.settings import Settings, read_settings
from transeg.core.experiment.versions import upgrade
from transeg.core.registry import Registry
from transeg.core.runs.remembered_plugins import include_plugins


def read_experiment(path: Path, registry: Registry) -> Experiment:
    """A complete experiment file, as a run folder holds it, to look at; what has been retired is left out.

    Raises:
        UsageError: it cannot be read, or it is not complete.
    """
    include_plugins(path, registry)
    return validated(upgrade(read_settings(path), registry, stored=True))


def validated(settings: Settings) -> Experiment:
    """A complete experiment from its tables.

    Raises:
        UsageError: an unknown option, a wrong value, or parts that contradict each other.
    """
    try:
        return Experiment.model_validate(settings)
    except ValidationError as error:
        raise UsageError(_sentence(error.errors()[0])) from error


def chosen_dataset(table: Settings) -> DatasetChoice:
    """A dataset from its table alone, as commands that need no experiment take it.

    Raises:
        UsageError: a wrong value.
    """
    try:
        return DatasetChoice(**table)
    except ValidationError as error:
        raise UsageError(_sentence(error.errors()[0])) from error


def _sentence(fault: Any) -> str:
    where = ".".join(str(key) for key in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"There is no option {where}.{did_you_mean(where, _known_options(fault['loc'][:-1]))}"
    if fault["type"] == "missing":
        return f"{where} is missing; say --set {where}=..."
    if fault["type"] == "value_error":
        return f"{str(fault['ctx']['error'])[0].upper()}{str(fault['ctx']['error'])[1:]}."
    if fault["type"] in ("model_type", "model_attributes_type"):
        first = _known_options(fault["loc"])[0]
        return f"{where} is a table, not {fault['input']!r}; set one of its options, such as {first}."
    message = fault["msg"]
    return f"{where} cannot be {fault['input']!r}: {message[0].lower()}{message[1:]}."


def _known_options(table: Iterable[int | str]) -> list[str]:
    model: Any = Experiment
    path = list(table)
    for key in path:
        annotation = model.model_fields[key].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return [".".join([*map(str, path), name]) for name in model.model_fields]
