"""Which of several runs is better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from transeg.core.evaluation.metrics.table import TABLE, Rows, digits_of
from transeg.core.evaluation.numbers import format_interval, format_number, format_probability, pluralise


def show_comparison(comparison: dict[str, Any], console: Console, rows: Rows = TABLE) -> None:
    """Two runs side by side, for each test set; ``rows`` are what is known of metrics."""
    for run in ("a", "b"):
        console.print(f"{run.upper()}  {escape(comparison[run])}", highlight=False, soft_wrap=True)
    for label, test in comparison["tests"].items():
        groups = pluralise(test["groups"], "group")
        title = f"\n{escape(label)}: {pluralise(test['images'], 'image')} in {groups}"
        console.print(title + (f", {test['unpaired']} in one run only" if test["unpaired"] else ""), highlight=False)
        _show_evaluations(test, console)
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("metric", style="cyan")
        for name in ("A", "B", "B - A [95 % CI]", "p", "better", "worse"):
            table.add_column(escape(name), justify="right", no_wrap=True)
        for metric, values in test["metrics"].items():
            digits = digits_of(metric, rows)
            means = [format_number(values[run], digits=digits) for run in ("a", "b")]
            difference = format_number(values["difference"], "+", digits) + format_interval(values["ci"], digits)
            counts = str(values["better"]), str(values["worse"])
            table.add_row(metric, *means, escape(difference), format_probability(values["p"]), *counts)
        console.print(table)
        for metric, values in test["metrics"].items():
            if values["images"] < test["images"]:
                console.print(
                    f"{metric}: {pluralise(values['images'], 'image')}; the others lack it in a run.", highlight=False
                )


def show_leaderboard(boards: dict[str, Any], console: Console, known: Rows = TABLE) -> None:
    """Runs from the best to the worst, for each test set, by its first metric; means of the others follow.

    Args:
        boards: see :func:`transeg.core.evaluation.leaderboard.leaderboard`.
        console: where to.
        known: what is known of metrics.
    """
    for label, board in boards["tests"].items():
        first, *others = board["metrics"]
        rows = board["metrics"][first]["rows"]
        groups = pluralise(board["groups"], "group")
        console.print(f"\n{escape(label)}: {pluralise(board['images'], 'image')} in {groups}", highlight=False)
        _show_evaluations(board, console)
        for name in board["without"]:
            console.print(f"{escape(name)} was not tested on it.", highlight=False)
        if not rows:
            console.print(f"There is no image on which all define {first}.", highlight=False)
            continue
        _show_ranks(first, rows, console, digits_of(first, known))
        if others:
            console.print()
            means = {key: board["metrics"][key]["rows"] for key in others}
            _show_means([row["entry"] for row in rows], means, console, known)
        for metric, ranked in board["metrics"].items():
            if ranked["images"] < board["images"]:
                console.print(
                    f"{metric}: {pluralise(ranked['images'], 'image')}; the others lack it in a run.", highlight=False
                )


def _show_ranks(metric: str, rows: Sequence[dict[str, Any]], console: Console, digits: int) -> None:
    """One metric of each run, and how far it is from the best or from the baseline."""
    repeated = console.width >= 72 and any(row["runs"] > 1 for row in rows)
    reference = next(row["entry"] for row in rows if row["against"] is None)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", justify="right")
    table.add_column("run", style="cyan", overflow="fold", min_width=8)
    for name in (*(("runs", "sd") if repeated else ()), f"{metric} [95 % CI]", "diff.", "p"):
        table.add_column(escape(name), justify="right", no_wrap=True)
    for row in rows:
        repeats = [str(row["runs"]), format_number(row["sd"], digits=digits)] if repeated else []
        mean = escape(format_number(row["mean"], digits=digits) + format_interval(row["ci"], digits))
        difference = format_number(row["difference"], "+", digits)
        table.add_row(
            str(row["rank"]), escape(row["entry"]), *repeats, mean, difference, format_probability(row["p_holm"])
        )
    console.print(table)
    console.print(f"[dim]diff. is from {escape(reference)}; p is adjusted (Holm).[/]", highlight=False)


def _show_means(
    entries: Sequence[str], metrics: dict[str, list[dict[str, Any]]], console: Console, known: Rows
) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", style="cyan", overflow="fold", min_width=8)
    for metric in metrics:
        table.add_column(metric, justify="right")
    for entry in entries:
        means = {
            metric: next((row["mean"] for row in rows if row["entry"] == entry), None)
            for metric, rows in metrics.items()
        }
        cells = [format_number(mean, digits=digits_of(metric, known)) for metric, mean in means.items()]
        table.add_row(escape(entry), *cells)
    console.print(table)


def _show_evaluations(test: dict[str, Any], console: Console) -> None:
    """Which numbers no run has measured itself."""
    for place in test["evaluations"]:
        console.print(f"[dim]measured after the run: {escape(place)}[/]", highlight=False, soft_wrap=True)
