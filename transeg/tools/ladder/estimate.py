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
        total: hours of all runs that are not done, side by side where they are trained so.
    """

    rungs: Mapping[str, Range]
    total: Range


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
    trainings: dict[str, list[Cell]] = {}
    for cell in ladder.sweep.cells:
        trainings.setdefault(parse_rung(cell.values["rung"]).trained_as, []).append(cell)
    with progress_bar(console, "timing", len(trainings), "rungs") as advance:
        for cells in trainings.values():
            hours = _hours(cell_experiment(ladder.sweep, cells[0], registry, device), cells[0].folder, registry)
            if hours is not None:
                found |= {parse_rung(cell.values["rung"]).name: hours for cell in cells}
                total = [sum_ + _left(cells) * end for sum_, end in zip(total, hours, strict=True)]
            advance()
    side_by_side = len(ladder.places)
    return Duration(found, (total[0] / side_by_side, total[1] / side_by_side))


def _left(cells: Sequence[Cell]) -> int:
    """How many trainings are to come of cells that share one for each seed."""
    seeds = {cell.values["seed"] for cell in cells}
    return len(seeds - {cell.values["seed"] for cell in cells if cell.state() == "done"})


def _hours(experiment: Experiment, folder: RunFolder, registry: Registry) -> Range | None:
    """Hours of one run; None where it cannot be timed."""
    try:
        prepared = prepare(RunRequest(experiment, folder, resume=False), registry, dry_run=True)
    except TransegError:
        return None
    times = estimate_times(prepared, registry)
    if times is None:
        return None
    return sum(each.fastest for each in times) / HOUR, sum(each.slowest for each in times) / HOUR
