"""What it costs a ladder's rungs to choose checkpoints without target labels; docs/decisions/selection.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from transeg.core.runs.history import read_scalars
from transeg.core.runs.run_folder import RunFolder

Line = Mapping[str, float]
WATCHED, AVERAGE = "watch/dice", "watch/dice_average"


def _last(lines: Sequence[Line]) -> Line:
    return lines[-1]


def _highest(name: str) -> Callable[[Sequence[Line]], Line]:
    """The first line with the highest value; without any, the last line, as where there is no validation set."""
    return lambda lines: max(lines, key=lambda line: line.get(name, -np.inf)) if name in lines[0] else lines[-1]


RULES: dict[str, tuple[Callable[[Sequence[Line]], Line], str]] = {
    "validation Dice": (_highest("val/dice"), WATCHED),
    "agreement": (_highest("watch/agreement"), WATCHED),
    "least entropy": (lambda lines: min(lines, key=lambda line: line["watch/entropy"]), WATCHED),
    "last": (_last, WATCHED),
    "last average": (_last, AVERAGE),
}
"""Which of a training's validations a rule takes, and which network's Dice it then gets. The first is what
``best.pt`` goes by."""


def regrets(folder: RunFolder) -> dict[str, float]:
    """By rule: the best Dice on watched test images of all validations of a run, less that of the one it chooses.

    Empty for a run that watched none. That of the last average may be negative: the best is of the networks that
    validations have seen.
    """
    lines = [line for line in read_scalars(folder.scalars) if WATCHED in line] if folder.scalars.exists() else []
    if not lines:
        return {}
    best = max(line[WATCHED] for line in lines)
    return {rule: best - choose(lines)[measure] for rule, (choose, measure) in RULES.items()}


def mean_regrets(folders: Mapping[str, Sequence[RunFolder]]) -> dict[str, Any]:
    """Regrets of a ladder.

    Args:
        folders: of each rung's runs that are done.

    Returns:
        ``rungs``: by name the mean over its runs by rule; ``mean`` and ``worst`` by rule, over all runs. Empty where
        none has watched.
    """
    of_runs = {name: [found for folder in each if (found := regrets(folder))] for name, each in folders.items()}
    of_runs = {name: each for name, each in of_runs.items() if each}
    if not of_runs:
        return {}
    flat = [run for each in of_runs.values() for run in each]
    return {
        "rungs": {
            name: {rule: float(np.mean([run[rule] for run in each])) for rule in RULES}
            for name, each in of_runs.items()
        },
        "mean": {rule: float(np.mean([run[rule] for run in flat])) for rule in RULES},
        "worst": {rule: max(run[rule] for run in flat) for rule in RULES},
    }
