"""Which options of an experiment decide its training's result, and whether two experiments agree in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transeg.core.experiment.schema import Experiment
from transeg.core.experiment.settings import flat

RUNTIME = (
    "device",
    "baseline",
    "quality",
    "train.checkpoint_interval",
    "train.checkpoint_minutes",
    "train.log_interval",
    "train.watch_tests",
    "train.compile",
    "train.channels_last",
    "train.fused",
    "data.workers",
    "data.cache",
    "data.test",
    "transductive",
    "tracking",
    "counting",
    "metrics",
    "test_adaptation",
)
"""Options that leave a training's result as it is; all others must be the same when it is resumed."""
BATCH = ("devices", "train.batch_size", "train.accumulation")
"""How a step's batch is split up: what counts is :attr:`Experiment.joint_batch`."""


def difference(one: Experiment, other: Experiment) -> str:
    """The first option in which two experiments differ that decides a training's result, in words; '' where they agree.

    Where files and folders lie decides nothing; what is in them is compared when they are read.
    """
    left, right = (flat(each.model_dump(exclude_none=True)) for each in (one, other))
    for option in sorted(left.keys() | right.keys()):
        there, here = left.get(option), right.get(option)
        if there == here or isinstance(there, Path) or isinstance(here, Path) or is_any_of(option, (*RUNTIME, *BATCH)):
            continue
        return f"{option} is {_said(there)} there and {_said(here)} here"
    return ""


def is_any_of(option: str, tables: tuple[str, ...]) -> bool:
    """Whether an option is one of some, or stands in one of some tables."""
    return any(option == table or option.startswith(f"{table}.") for table in tables)


def _said(value: Any) -> Any:
    return "not set" if value is None else value
