"""The report of a ladder."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich.console import Console

from transeg.core.evaluation.gap import LEAST_GROUPS, METRICS
from transeg.core.evaluation.metrics.table import TABLE, all_rows, titles
from transeg.core.files import read_json
from transeg.core.registry import Registry
from transeg.tools.common.anonymity import Anonymity
from transeg.tools.ladder.ladder_results import ladder_path, ladder_results
from transeg.tools.ladder.ladder_tables import over_rival, remarks, selections
from transeg.tools.ladder.rungs import HIGHEST, LOWEST
from transeg.tools.report import figures, page
from transeg.tools.report.ladder_pictures import ladder_pictures
from transeg.tools.report.record import read_scores
from transeg.tools.report.sweep_report import cells_shown
from transeg.tools.sweep.sweep_folder import definition_path, read_sweep


@dataclass(frozen=True)
class RungBoard:
    """The rungs on one test set.

    Attributes:
        label: of the test set.
        metrics: by metric what :func:`~transeg.core.evaluation.gap.shares_of_gap` says.
        tested: whether there are probabilities; else each group is shown.
        remarks: what the numbers mean, in sentences.
        best: the entry that closes most of the gap, but the ends of it; None where no share is known.
        shares: of the gap, drawn; None where none is known.
        means: of Dice, drawn.
    """

    label: str
    metrics: dict[str, Any]
    tested: bool
    remarks: list[str]
    best: dict[str, Any] | None
    shares: Markup | None
    means: Markup | None

    @property
    def main(self) -> dict[str, Any]:
        """What is said of the first metric."""
        found: dict[str, Any] = self.metrics[METRICS[0]]
        return found

    @property
    def repeated(self) -> bool:
        """Whether a rung has several seeds."""
        return any(entry["runs"] > 1 for entry in self.main["entries"])


def render_ladder_page(
    path: Path, registry: Registry, console: Console, device: str | None, *, anonymous: bool = False
) -> str:
    """The report of a ladder's folder as a page.

    Args:
        path: the folder.
        registry: where components come from.
        console: for progress.
        device: where the networks go that the shown images are put through; None for a GPU where there is one.
        anonymous: whether it holds no absolute path of this machine.

    Raises:
        UsageError: it is none, or there is no such device.
        TransegError: one of its files is damaged.
    """
    sweep, rows = read_sweep(path), all_rows(registry)
    found = ladder_results(sweep, read_json(ladder_path(path))["left_out"], rows)
    definition = definition_path(path).read_text(encoding="utf-8")
    scores = {cell.name: read_scores(cell.folder.path) for cell in sweep.cells}
    runs = {name: Path(next(iter(rung["runs"].values()))) for name, rung in found["rungs"].items() if rung["runs"]}
    return page.render(
        "ladder.html",
        Anonymity(path, tomllib.loads(definition)) if anonymous else None,
        title=path.resolve().name,
        sweep=sweep,
        rungs=found["rungs"],
        left_out=found["left_out"],
        selections=selections(found["rungs"]),
        boards=[
            _board(label, number, metrics, over_rival(found["over_rival"].get(label, {})))
            for number, (label, metrics) in enumerate(found["tests"].items())
        ],
        regret=found["regret"],
        metrics=titles(METRICS, TABLE),
        pictures=ladder_pictures(runs, registry, console, device),
        definition=definition,
        **cells_shown(sweep, found["cells"], scores),
    )


def _board(label: str, number: int, metrics: dict[str, Any], above: list[str]) -> RungBoard:
    entries = metrics[METRICS[0]]["entries"]
    tested = metrics[METRICS[0]]["groups"] >= LEAST_GROUPS
    between = [entry for entry in entries if entry["share"] is not None and entry["entry"] not in (LOWEST, HIGHEST)]
    means = [figures.Estimate(entry["entry"], entry["mean"], _ends(entry["ci"])) for entry in entries]
    shares = [
        figures.Estimate(entry["entry"], 100 * entry["share"], _ends(entry["share_ci"], 100))
        for entry in entries
        if entry["share"] is not None
    ]
    return RungBoard(
        label,
        metrics,
        tested,
        [*remarks(metrics[METRICS[0]], tested), *above],
        max(between, key=lambda entry: entry["share"], default=None),
        figures.plot_estimates(
            f"shares-{number}", f"Share of the gap on {label}", shares, "percent of the gap in Dice", (0, 100)
        )
        if shares
        else None,
        figures.plot_estimates(f"means-{number}", f"Mean Dice on {label}", means, "Dice, mean and 95 % interval")
        if means
        else None,
    )


def _ends(interval: list[float] | None, scale: float = 1) -> tuple[float, float] | None:
    return None if interval is None else (scale * interval[0], scale * interval[1])
