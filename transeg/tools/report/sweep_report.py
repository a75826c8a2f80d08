"""The report of a sweep."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from transeg.core.evaluation.metrics.table import all_rows, digits_of, titles, units
from transeg.core.registry import Registry
from transeg.core.runs.history import read_scalars, scalar_series
from transeg.tools.common.anonymity import Anonymity
from transeg.tools.report import figures, page
from transeg.tools.report.record import Scores, read_scores
from transeg.tools.sweep.grid import REPEATS
from transeg.tools.sweep.results import sweep_results
from transeg.tools.sweep.sweep_folder import Cell, State, Sweep, definition_path, read_sweep


@dataclass(frozen=True)
class CellLine:
    """A cell in the table of cells.

    Attributes:
        cell: it.
        state: what has become of it.
        reason: why it failed; '' where it has not.
        dice: the mean of each test set, by its label; None where it was not measured.
        anchor: its row's place in the page.
    """

    cell: Cell
    state: State
    reason: str
    dice: dict[str, float | None]
    anchor: str


@dataclass(frozen=True)
class TestSetBoard:
    """The combinations on one test set.

    Attributes:
        label: of the test set.
        ranked: see :func:`transeg.core.evaluation.leaderboard.leaderboard`.
        others: means of the other metrics, by combination.
        means: of Dice, drawn.
        maps: pairs of axes against each other, drawn.
    """

    label: str
    ranked: dict[str, Any]
    others: dict[str, dict[str, float]]
    means: Markup | None
    maps: list[Markup]


def render_sweep_page(path: Path, registry: Registry, *, anonymous: bool = False) -> str:
    """The report of a sweep's folder as a page.

    Args:
        path: the folder.
        registry: where the metrics of plugins come from.
        anonymous: whether it holds no absolute path of this machine.

    Raises:
        UsageError: it is none.
        TransegError: one of its files is damaged.
    """
    sweep, rows = read_sweep(path), all_rows(registry)
    found = sweep_results(sweep, rows)
    definition = definition_path(path).read_text(encoding="utf-8")
    scores = {cell.name: read_scores(cell.folder.path) for cell in sweep.cells}
    boards = (found["leaderboard"] or {"tests": {}})["tests"]
    others = _others(boards)
    return page.render(
        "sweep.html",
        Anonymity(path, tomllib.loads(definition)) if anonymous else None,
        title=path.resolve().name,
        sweep=sweep,
        anchors=_anchors(sweep),
        metrics=titles(others, rows),
        digits={metric: digits_of(metric, rows) for metric in others},
        units=units(others, rows),
        boards=[_board(sweep, label, number, board, scores) for number, (label, board) in enumerate(boards.items())],
        definition=definition,
        **cells_shown(sweep, found["cells"], scores),
    )


def cells_shown(
    sweep: Sweep, found: Sequence[Mapping[str, Any]], scores: Mapping[str, Mapping[str, Scores]]
) -> dict[str, Any]:
    """What ``cells.html`` tells of the cells of a sweep, or of a ladder.

    Args:
        sweep: whose cells they are.
        found: of each ``name``, ``state`` and ``reason``.
        scores: of each by test set.
    """
    labels = list(dict.fromkeys(label for each in scores.values() for label in each))
    states = {each["name"]: each for each in found}
    lines = [
        CellLine(
            cell,
            states[cell.name]["state"],
            states[cell.name]["reason"],
            {label: scores[cell.name][label].mean("dice") if label in scores[cell.name] else None for label in labels},
            _anchor(number),
        )
        for number, cell in enumerate(sweep.cells)
    ]
    count: dict[str, int] = {}
    for line in lines:
        count[line.state] = count.get(line.state, 0) + 1
    return {"lines": lines, "labels": labels, "count": count, "curves": _curves(sweep)}


def _anchor(number: int) -> str:
    return f"cell-{number + 1}"


def _anchors(sweep: Sweep) -> dict[str, str]:
    """Where the first cell of each combination is in the page."""
    places = {cell.name: _anchor(number) for number, cell in enumerate(sweep.cells)}
    return {name: places[cells[0].name] for name, cells in sweep.combinations().items()}


def _board(
    sweep: Sweep, label: str, number: int, board: dict[str, Any], scores: dict[str, dict[str, Scores]]
) -> TestSetBoard:
    rows = board["metrics"]["dice"]["rows"]
    others: dict[str, dict[str, float]] = {}
    for metric in _others({label: board}):
        for row in board["metrics"][metric]["rows"]:
            others.setdefault(row["entry"], {})[metric] = row["mean"]
    shown = [figures.Estimate(row["entry"], row["mean"], tuple(row["ci"]) if row["ci"] else None) for row in rows]
    title = f"Mean Dice on {label}"
    means = figures.plot_estimates(f"means-{number}", title, shown, "Dice, mean and 95 % interval") if shown else None
    maps = [_map(sweep, label, pair, f"map-{number}-{place}", scores) for place, pair in enumerate(_pairs(sweep))]
    return TestSetBoard(label, board, others, means, [each for each in maps if each is not None])


def _others(boards: dict[str, dict[str, Any]]) -> list[str]:
    """The metrics of leaderboards but Dice, which has columns of its own."""
    return list(dict.fromkeys(metric for board in boards.values() for metric in board["metrics"] if metric != "dice"))


def _pairs(sweep: Sweep) -> list[tuple[str, str]]:
    """Axes to be set against each other: those that vary; what is merely repeated only where there is nothing else."""
    varied = [axis for axis, labels in sweep.axes.items() if len(labels) > 1]
    chosen = [axis for axis in varied if axis not in REPEATS]
    return list(itertools.combinations(chosen if len(chosen) > 1 else varied, 2))


def _map(
    sweep: Sweep, label: str, axes: tuple[str, str], name: str, scores: dict[str, dict[str, Scores]]
) -> Markup | None:
    """Mean Dice of the cells that share a value on each of two axes; None where nothing was measured."""
    across, down = (sweep.axes[axis] for axis in axes)
    values = np.full((len(down), len(across)), np.nan)
    for (row, below), (column, beside) in itertools.product(enumerate(down), enumerate(across)):
        alike = [cell for cell in sweep.cells if (cell.values[axes[0]], cell.values[axes[1]]) == (beside, below)]
        means = [scores[cell.name][label].mean("dice") for cell in alike if label in scores[cell.name]]
        defined = [mean for mean in means if mean is not None]
        if defined:
            values[row, column] = np.mean(defined)
    if np.isnan(values).all():
        return None
    return figures.plot_heat_map(name, f"Dice on {label}: {axes[0]} and {axes[1]}", values, across, down, axes)


def _curves(sweep: Sweep) -> dict[str, Markup]:
    """Validation Dice of every combination that has begun, a line for each of its repeats."""
    drawn = {}
    for number, (name, cells) in enumerate(sweep.combinations().items()):
        found = {
            _repeat(cell, cells): scalar_series(read_scalars(cell.folder.scalars), "val/dice")
            for cell in cells
            if cell.folder.scalars.exists()
        }
        shown = {repeat: curve for repeat, curve in found.items() if curve[0]}
        if shown:
            drawn[name] = figures.plot_curves(
                f"curve-{number}", f"validation Dice of {name}", shown, small=True, limits=(0, 1)
            )
    return drawn


def _repeat(cell: Cell, cells: list[Cell]) -> str:
    """What tells a cell from others of its combination."""
    if len(cells) == 1:
        return "Dice"
    return ", ".join(label for axis, label in cell.values.items() if axis in REPEATS)
