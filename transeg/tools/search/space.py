"""What a search may choose from: a range or a list of values for each option."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transeg.core.errors import UsageError, did_you_mean
from transeg.core.experiment.settings import Settings, parse_assignment

if TYPE_CHECKING:
    import optuna

KEYS = ("low", "high", "log", "step", "choices", "unset")
FORMS = "{low = 1e-5, high = 1e-2, log = true}, [16, 32, 64] or {choices = [16, 32], unset = true}"


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; whole ones where both are."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def suggest(self, trial: optuna.Trial, option: str) -> float:
        """Let a trial choose."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that steps do not end at high is what somebody may want
            if isinstance(self.low, int) and isinstance(self.high, int):
                return int(trial.suggest_int(option, self.low, self.high, step=int(self.step or 1), log=self.log))
            return float(trial.suggest_float(option, self.low, self.high, step=self.step, log=self.log))

    def value(self, stored: Any) -> Any:
        """What a trial has chosen, from what its study holds of it."""
        return stored

    @property
    def samples(self) -> list[Any]:
        """Values that show whether an option takes such numbers."""
        return [self.low, self.high]

    @property
    def count(self) -> float:
        """How many values there are."""
        if isinstance(self.low, int) or self.step is not None:
            return math.floor((self.high - self.low) / (self.step or 1) + 1e-9) + 1
        return 1 if self.low == self.high else math.inf

    def table(self) -> Settings:
        """As in an experiment file."""
        more: Settings = {"log": True} if self.log else {}
        return {"low": self.low, "high": self.high, **more, **({"step": self.step} if self.step is not None else {})}

    def __str__(self) -> str:
        more = ", logarithmic" if self.log else "" if self.step is None else f", in steps of {self.step:g}"
        return f"{self.low:g} to {self.high:g}{more}"


@dataclass(frozen=True)
class Choices:
    """One of several values; None stands for an option that is not set."""

    values: tuple[Any, ...]

    def suggest(self, trial: optuna.Trial, option: str) -> Any:
        """Let a trial choose; the answer is as its study holds it."""
        return trial.suggest_categorical(option, [_stored(value) for value in self.values])

    def value(self, stored: Any) -> Any:
        """What a trial has chosen, from what its study holds of it."""
        return next(value for value in self.values if _stored(value) == stored)

    @property
    def samples(self) -> list[Any]:
        """All values."""
        return list(self.values)

    @property
    def count(self) -> float:
        """How many values there are."""
        return len(self.values)

    def table(self) -> Settings:
        """As in an experiment file, which has no word for what is not set."""
        said = [value for value in self.values if value is not None]
        return {"choices": said, **({"unset": True} if None in self.values else {})}

    def __str__(self) -> str:
        return ", ".join("not set" if value is None else str(value) for value in self.values)


Space = dict[str, Range | Choices]
"""Ranges and choices by option."""


def parse_space(table: Mapping[str, Any], prefix: str = "") -> Space:
    """The spaces of a ``[search]`` table, whose keys are options, in quotes (``"train.lr"``) or as nested tables.

    Raises:
        UsageError: one of them is neither a range nor a list of choices.
    """
    space: Space = {}
    for key, value in table.items():
        option = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and not set(value) & set(KEYS):
            space |= parse_space(value, f"{option}.")
        else:
            space[option] = _parsed(option, value)
    return space


def parse_spaces(texts: tuple[str, ...]) -> Space:
    """``train.lr=1e-5..1e-2:log``, ``train.batch_size=2..8:2`` or ``segmenter.base=16,32,64``, as on a command line.

    Raises:
        UsageError: a text is of another form.
    """
    space: Space = {}
    for text in texts:
        option, equals, said = text.partition("=")
        found = re.fullmatch(r"([^,]+?)\.\.([^:,]+)(?::(.+))?", said.strip())
        if not option.strip() or not equals or not said.strip():
            raise UsageError(f"--space {text!r} is not of the form train.lr=1e-5..1e-2:log or segmenter.base=16,32,64.")
        if found is None:
            table: Any = [_value(part) for part in said.split(",")]
        else:
            low, high, how = found.groups()
            more = {} if how is None else {"log": True} if how == "log" else {"step": _value(how)}
            table = {"low": _value(low), "high": _value(high), **more}
        space[option.strip()] = _parsed(option.strip(), table)
    return space


def _value(text: str) -> Any:
    return parse_assignment(f"value={text.strip()}")["value"]


def _parsed(option: str, value: Any) -> Range | Choices:
    if isinstance(value, list):
        value = {"choices": value}
    if not isinstance(value, Mapping) or not value:
        raise UsageError(f"The space of {option} cannot be {value!r}; say {FORMS}.")
    for key in value:
        if key not in KEYS:
            raise UsageError(f"The space of {option} has no use for {key}.{did_you_mean(key, KEYS)}")
    if "choices" in value or "unset" in value:
        return _choices(option, value)
    return _range(option, value)


def _choices(option: str, table: Mapping[str, Any]) -> Choices:
    values, unset = table.get("choices"), table.get("unset", False)
    if not isinstance(values, list) or not values or set(table) - {"choices", "unset"} or not isinstance(unset, bool):
        raise UsageError(f"The space of {option} cannot be {dict(table)!r}; say {FORMS}.")
    if any(isinstance(value, float) and not math.isfinite(value) for value in values):
        raise UsageError(f"The space of {option} has a choice that is not a finite number: {values}.")
    if len({_stored(value) for value in values}) < len(values):
        raise UsageError(f"The space of {option} has a choice twice: {', '.join(map(str, values))}.")
    return Choices((*values, *([None] if unset else [])))


def _range(option: str, table: Mapping[str, Any]) -> Range:
    low, high, step, log = table.get("low"), table.get("high"), table.get("step"), table.get("log", False)
    for name, number in (("low", low), ("high", high), ("step", 1 if step is None else step)):
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise UsageError(f"The space of {option} needs a number for {name}, not {number!r}; say {FORMS}.")
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    if low > high:
        raise UsageError(f"The space of {option} goes from {low} to {high}; low must not be greater than high.")
    if not isinstance(log, bool):
        raise UsageError(f"The space of {option} has log = {log!r}; say true or false.")
    if log and low <= 0:
        raise UsageError(f"The space of {option} is logarithmic, so low must be greater than zero, not {low}.")
    if step is not None and (log or step <= 0):
        why = "it is logarithmic" if log else "a step must be greater than zero"
        raise UsageError(f"The space of {option} cannot have step = {step}: {why}.")
    whole = isinstance(low, int) and isinstance(high, int) and not isinstance(step, float)
    return Range(low, high, log, step) if whole else Range(float(low), float(high), log, step)


def _stored(value: Any) -> Any:
    """What Optuna can store of a choice: a list or a table goes by its JSON text."""
    return json.dumps(value, sort_keys=True) if isinstance(value, list | dict) else value
