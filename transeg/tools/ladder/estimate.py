"""How long a ladder will take, from a few steps of each rung."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import TransegError
from transeg.core.experiment.request import RunRequest
from transeg.core.experiment.schema import Experiment
from transeg.core.pipeline.launch import prepare
from transeg.core.pipeline.time_estimate import estimate_times
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.tools.ladder.ladder import Ladder
from transeg.tools.ladder.rungs import parse_rung
from transeg.tools.sweep.definition import cell_experiment
from transeg.tools.sweep.sweep_folder import Cell

HOUR = 3600
Range = tuple[float, float]


@dataclass(frozen=True)
class Duration:
    """How long what is left takes.

    Attributes:
        rungs: hours of one run, from the fastest step to the slowest, by name; of those that could be timed.
        total: hours of all runs of these that are not done, side by side where they are trained so.
        untimed: why the others could not, by name.
    """

    rungs: Mapping[str, Range]
    total: Range
    untimed: Mapping[str, str]


def estimate_hours(ladder: Ladder, registry: Registry, console: Console) -> Duration:
    """Try each rung in small and scale up; see :func:`~transeg.core.pipeline.time_estimate.estimate_times`.

    Args:
        ladder: see :func:`~transeg.tools.ladder.ladder.define_ladder`.
        registry: where components come from.
        console: for progress.

    Raises:
        InterruptedRunError: a signal came.
    """
    device, total = ladder.places[0], [0.0, 0.0]
    found: dict[str, Range] = {}
    untimed: dict[str, str] = {}
    trainings: dict[str, list[Cell]] = {}
    for cell in ladder.sweep.cells:
        trainings.setdefault(parse_rung(cell.values["rung"]).trained_as, []).append(cell)
    with progress_bar(console, "timing", len(trainings), "rungs") as advance:
        for cells in trainings.values():
            names = [parse_rung(cell.values["rung"]).name for cell in cells]
            try:
                hours = _hours(cell_experiment(ladder.sweep, cells[0], registry, device), cells[0].folder, registry)
            except TransegError as error:
                untimed |= dict.fromkeys(names, str(error))
            else:
                found |= dict.fromkeys(names, hours)
                total = [sum_ + _left(cells) * end for sum_, end in zip(total, hours, strict=True)]
            advance()
    side_by_side = len(ladder.places)
    return Duration(found, (total[0] / side_by_side, total[1] / side_by_side), untimed)


def _left(cells: Sequence[Cell]) -> int:
    """How many trainings are to come of cells that share one for each seed."""
    seeds = {cell.values["seed"] for cell in cells}
    return len(seeds - {cell.values["seed"] for cell in cells if cell.state() == "done"})


def _hours(experiment: Experiment, folder: RunFolder, registry: Registry) -> Range:
    """Hours of one run.

    Raises:
        TransegError: it cannot be timed; why.
    """
    prepared = prepare(RunRequest(experiment, folder, resume=False), registry, dry_run=True)
    times = estimate_times(prepared, registry)
    if times is None:
        raise TransegError("How long it takes cannot be said beforehand.")
    return sum(each.fastest for each in times) / HOUR, sum(each.slowest for each in times) / HOUR
