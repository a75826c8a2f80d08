"""From the options of a command line to a ladder whose rungs have been trained as the cells of a sweep."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from transeg.core.errors import TransegError, UsageError
from transeg.core.evaluation.metrics.table import all_rows
from transeg.core.experiment.command_line import settings_of
from transeg.core.experiment.settings import Settings, merge, read_settings
from transeg.core.experiment.versions import upgrade
from transeg.core.files import read_json, write_json
from transeg.core.registry import Registry
from transeg.tools.common.scheduler import Cluster
from transeg.tools.ladder.composition import compose
from transeg.tools.ladder.ladder_results import ladder_path, ladder_results
from transeg.tools.ladder.rungs import LOWEST, parse_rung
from transeg.tools.sweep.definition import define_sweep, write_sweep
from transeg.tools.sweep.execution import check_not_launched, pick_places, train_sweep
from transeg.tools.sweep.sweep_folder import Cell, Sweep, definition_path, is_sweep

COMMAND = "toolkit ladder --ladder-dir"
AXES = ["seed", "rung"]
"""Of the sweep that a ladder is: all rungs with one seed before any with the next."""


@dataclass(frozen=True)
class Ladder:
    """A ladder that is defined, and trained as far as it is.

    Attributes:
        sweep: its cells.
        left_out: why rungs are not trained, by name.
        places: the devices, one for each cell that is trained at a time.
        settings: what defines the sweep.
        cluster: a scheduler whose jobs train; None for processes of this machine.
    """

    sweep: Sweep
    left_out: dict[str, str]
    places: list[str]
    settings: Settings
    cluster: Cluster | None = None


def define_ladder(
    path: Path | None,
    named: Mapping[str, Any],
    registry: Registry,
    console: Console,
    *,
    config: Path | None,
    rungs: Sequence[str],
    seeds: int | None,
    devices: Sequence[str],
    jobs: int,
    cluster: Cluster | None = None,
) -> Ladder:
    """Compose a ladder, and check that each of its rungs could be trained; nothing is written.

    Args:
        path: of its folder; None for a new one in ``ladders/``. A folder alone goes on with what is there, and may be
            given more seeds.
        named: options of `toolkit run` by name; None or empty where not given.
        registry: where components come from.
        console: for progress.
        config: an experiment file, under the options.
        rungs: names; the usual ones where there are none.
        seeds: how many.
        devices: that rungs are trained on, side by side.
        jobs: rungs at a time on each.
        cluster: a scheduler whose jobs train; None for processes of this machine.

    Raises:
        UsageError: it cannot begin.
    """
    check_not_launched()
    settings = upgrade(read_settings(config), registry) if config else {}
    settings = merge(settings, settings_of(named, settings, registry))
    left_out: dict[str, str] = {}
    if path is not None and is_sweep(path) and not settings and not rungs:
        settings = _stored(path, seeds)
        left_out = read_json(ladder_path(path))["left_out"] if ladder_path(path).exists() else {}
        places = pick_places(devices, settings, cluster)
    else:
        places = pick_places(devices, settings, cluster)
        made = compose(settings, rungs, registry, places[0])
        left_out = made.left_out
        numbers = list(range(made.seed, made.seed + (seeds or 1)))
        settings = {**made.base, "sweep": {"seed": numbers, "rung": made.rungs}}
        path = path or Path("ladders", f"{made.base['segmenter']['name']}-{time.strftime('%Y%m%d-%H%M%S')}")
    sweep = define_sweep(path, settings, registry, console, device=places[0], skip_unfit=True, command=COMMAND)
    for name, reason in sweep.left_out.items():
        rung = parse_rung(name.partition("_")[2]).name
        if rung == LOWEST:
            raise UsageError(reason)
        left_out = {**left_out, rung: reason}
    return Ladder(sweep, left_out, places * jobs, settings, cluster)


def run_ladder(ladder: Ladder, registry: Registry, console: Console, *, retry: bool) -> dict[str, Any]:
    """Train what is left of a ladder.

    Args:
        ladder: see :func:`define_ladder`.
        registry: where components come from.
        console: for progress.
        retry: whether rungs that have failed are begun once more.

    Returns:
        What has become of it, see :func:`.ladder_results`; ``ladder.json`` keeps it.

    Raises:
        TransegError: a signal ended it.
    """
    sweep, path, rows = ladder.sweep, ladder_path(ladder.sweep.path), all_rows(registry)
    write_sweep(sweep, ladder.settings, registry, ladder.places[0])
    write_json(path, ladder_results(sweep, ladder.left_out, rows))
    ordered = replace(sweep, cells=sorted(sweep.cells, key=_waits_for_another))
    interrupted = train_sweep(ordered, registry, console, devices=ladder.places, retry=retry, cluster=ladder.cluster)
    found = ladder_results(sweep, ladder.left_out, rows)
    write_json(path, found)
    if interrupted:
        raise TransegError(f"Stopped. Go on with: {COMMAND} {sweep.path}")
    return found


def _waits_for_another(cell: Cell) -> bool:
    """Whether another rung trains what a cell tests, so that it comes last: it would wait for that, and do nothing."""
    rung = parse_rung(cell.values["rung"])
    return rung.trained_as != rung.name


def _stored(path: Path, seeds: int | None) -> Settings:
    """What defines the ladder in a folder, with more seeds where these are wanted."""
    settings = read_settings(definition_path(path))
    if list(settings.get("sweep", {})) != AXES:
        raise UsageError(f"{path} holds a sweep that is no ladder; go on with it by: toolkit sweep {path}")
    numbers = settings["sweep"]["seed"]
    wanted = list(range(numbers[0], numbers[0] + max(seeds or 0, len(numbers))))
    return {**settings, "sweep": {**settings["sweep"], "seed": wanted}}
