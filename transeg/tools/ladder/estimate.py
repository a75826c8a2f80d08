"""How long a ladder will take, from a few steps of each rung."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from transeg.core.builders.folds import Subset
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import TransegError
from transeg.core.experiment.request import RunRequest
from transeg.core.experiment.schema import Experiment
from transeg.core.files import read_json
from transeg.core.pipeline.launch import launch, prepare
from transeg.core.registry import Registry
from transeg.core.runs.history import read_scalars
from transeg.core.runs.run_folder import RunFolder
from transeg.core.training.train import InterruptedRunError
from transeg.tools.ladder.ladder import Ladder
from transeg.tools.ladder.rungs import parse_rung
from transeg.tools.sweep.definition import cell_experiment
from transeg.tools.sweep.sweep_folder import Cell

WARM, TIMED = 1, 3
"""Steps that are slower, since memory is taken and kernels are chosen, and those that count."""
VALIDATED = 2
"""Validation images that are timed; the time of all is scaled up from theirs."""
HOUR = 3600
Range = tuple[float, float]


@dataclass(frozen=True)
class Duration:
    """How long the training of what is left takes; tests come on top.

    Attributes:
        rungs: hours of one run, from the fastest step to the slowest, by name; of those that could be timed.
        total: hours of all runs of these that are not done, side by side where they are trained so.
        untimed: why the others could not, by name.
    """

    rungs: Mapping[str, Range]
    total: Range
    untimed: Mapping[str, str]


def estimate_hours(ladder: Ladder, registry: Registry, console: Console) -> Duration:
    """Train a few steps of each rung in a folder that is thrown away, validate on a few images, and extrapolate.

    A rung with several trainings, the later of which need data that the earlier make, is not timed.

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
    with TemporaryDirectory() as scratch, progress_bar(console, "timing", len(trainings), "rungs") as advance:
        for name, cells in trainings.items():
            names = [parse_rung(cell.values["rung"]).name for cell in cells]
            try:
                hours = _hours(cell_experiment(ladder.sweep, cells[0], registry, device), Path(scratch, name), registry)
            except InterruptedRunError:
                raise
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


def _hours(experiment: Experiment, path: Path, registry: Registry) -> Range:
    """Hours of one run.

    Raises:
        TransegError: it has several trainings, or cannot be timed; why.
    """
    steps = WARM + TIMED
    intervals = dict.fromkeys(("iterations", "val_interval", "checkpoint_interval"), steps)
    short = experiment.model_copy(
        update={
            "train": experiment.train.model_copy(update={**intervals, "log_interval": 1}),
            "data": experiment.data.model_copy(update={"test": {}}),
            "tracking": experiment.tracking.model_copy(update={"trackers": ()}),
        }
    )
    folder = RunFolder(path)
    prepared = prepare(RunRequest(short, folder, resume=False), registry, dry_run=False)
    if len(prepared.stages) > 1:
        names = ", ".join(each.stage.name for each in prepared.stages)
        raise TransegError(f"It has several trainings ({names}), and the later ones need what the earlier ones make.")
    val, scale = prepared.parts.val, 1.0
    if val is not None and len(val) > VALIDATED:
        few, scale = Subset([(val, index) for index in range(VALIDATED)]), len(val) / VALIDATED
        prepared = replace(prepared, parts=replace(prepared.parts, val=few))
    unjudged = replace(prepared.networks, judge=None)  # what a generator's images are like is no part of a training
    launch(replace(prepared, networks=unjudged), registry, Console(quiet=True))
    lines = read_scalars(folder.scalars)
    seconds = [line["seconds_per_iteration"] for line in lines if "seconds_per_iteration" in line][WARM:]
    if not seconds:
        raise TransegError("It takes no steps that could be timed.")
    train, spent = experiment.train, read_json(folder.times).get(".", {})
    each_time = spent.get("validation", 0.0) * scale + spent.get("pictures", 0.0) / 2  # one is drawn at the end, too
    validating = each_time * -(-train.iterations // train.val_interval)
    fastest, slowest = ((train.iterations * each + validating) / HOUR for each in (min(seconds), max(seconds)))
    return fastest, slowest
