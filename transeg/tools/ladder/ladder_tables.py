"""A ladder in the terminal, or on a pipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from transeg.core.evaluation.gap import LEAST_GROUPS, METRICS
from transeg.core.evaluation.metrics.table import TABLE, titles
from transeg.core.evaluation.numbers import format_interval, format_number, format_probability, pluralise
from transeg.tools.ladder.rungs import HIGHEST, LOWEST, RIVAL, parse_rung

if TYPE_CHECKING:
    from transeg.tools.ladder.estimate import Duration
    from transeg.tools.ladder.ladder import Ladder

MINUTE, HOUR = 60, 3600
TIGHT = (0, 1, 0, 0)
"""One space between columns, so that those of a result fit 80 characters."""


def show_ladder_plan(ladder: Ladder, console: Console, estimate: Duration | None = None) -> None:
    """What would be trained: the rungs, and what they have in common; how long it takes, where that is estimated."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("rung", style="cyan", no_wrap=True)
    table.add_column("learns from", overflow="fold")
    if estimate is not None:
        table.add_column("hours a run", justify="right", no_wrap=True)
    for name in ladder.sweep.axes["rung"]:
        rung = parse_rung(name)
        hours = [] if estimate is None else [_hours(estimate.rungs.get(rung.name))]
        table.add_row(escape(rung.name), escape(rung.learns_from), *hours)
    console.print(table)
    base, data = ladder.sweep.base, ladder.sweep.base["data"]
    console.print(
        f"\nAll alike: {base['segmenter']['name']}, loss {base['loss']['name']}, {base['train']['iterations']:,} "
        f"iterations, batch {base['train']['batch_size']}, {data['size']} pixels, "
        f"{pluralise(len(ladder.sweep.axes['seed']), 'seed')}.",
        highlight=False,
    )
    if estimate is not None:
        runs = pluralise(sum(cell.state() != "done" for cell in ladder.sweep.cells), "run")
        names = [parse_rung(label).name for label in ladder.sweep.axes["rung"]]
        untimed = [name for name in names if name not in estimate.rungs]
        without = f", {', '.join(untimed)} not counted" if untimed else ""
        beside = f", {len(ladder.places)} at a time" if len(ladder.places) > 1 else ""
        console.print(
            f"Estimated from a few steps and images of each rung: "
            f"{_hours(estimate.total)} hours for {runs}{beside}{without}.",
            highlight=False,
        )
        for name, reason in estimate.untimed.items():
            console.print(f"[yellow]not timed[/]  {escape(name)}: {escape(reason)}", highlight=False)
    _show_left_out(ladder.left_out, console)


def _hours(ends: Sequence[float] | None) -> str:
    """A range of hours, with two digits that count."""
    return "-" if ends is None else " to ".join(f"{end:.1f}" if end >= 1 else f"{end:.2g}" for end in ends)


def show_ladder(found: Mapping[str, Any], console: Console) -> None:
    """A table for each test set, and what explains it."""
    for label, metrics in found["tests"].items():
        first = metrics[METRICS[0]]
        counts = f"{pluralise(first['images'], 'image')} in {pluralise(first['groups'], 'group')}"
        console.print(f"\n{escape(label)}: {counts}", highlight=False)
        tested = first["groups"] >= LEAST_GROUPS
        console.print(_table(metrics, found["rungs"], tested))
        for line in [*remarks(first, tested), *over_rival(found["over_rival"].get(label, {}))]:
            console.print(escape(line), highlight=False)
        if not tested:
            _show_groups(first, console)
    for name, rung in found["rungs"].items():
        for seed, groups in rung.get("drawn", {}).items():
            console.print(f"{escape(name)}, seed {seed}: labels of {escape(', '.join(groups))}", highlight=False)
    for words, names in selections(found["rungs"]).items():
        console.print(f"Checkpoint of {escape(', '.join(names))}: {words}.", highlight=False)
    if found["regret"]:
        console.print("\nDice lost by rules that choose a checkpoint without target labels:", highlight=False)
        console.print(_regret_table(found["regret"]))
    _show_left_out(found["left_out"], console)


def _table(metrics: Mapping[str, Any], rungs: Mapping[str, Any], tested: bool) -> Table:
    """Each rung's scores; below them its seconds and the range over its seeds."""
    names = titles(METRICS, TABLE)
    table = Table(box=None, pad_edge=False, padding=TIGHT, header_style="bold")
    table.add_column("rung", style="cyan", overflow="fold", min_width=13)
    for metric in METRICS:
        table.add_column(escape(f"{names[metric]} [95 % CI]"), no_wrap=True)
    table.add_column("gap closed", no_wrap=True)
    if tested:
        table.add_column("p", justify="right", no_wrap=True)
    dice, iou = (metrics[metric]["entries"] for metric in METRICS)
    for one, other in zip(dice, iou, strict=True):
        p = [format_probability(one["p_holm"])] if tested else []
        scores = [_score(each) for each in (one, other)]
        table.add_row(escape(one["entry"]), *map(escape, scores), escape(_share(one)), *p)
        ranges = [_range(each["range"]) for each in (one, other)]
        seconds = rungs[one["entry"]]["seconds"]
        table.add_row("" if seconds is None else f"  {format_seconds(seconds)}", *ranges, style="dim")
    return table


def _regret_table(regret: Mapping[str, Any]) -> Table:
    """What each rule loses against the best checkpoint by target labels."""
    table = Table(box=None, pad_edge=False, padding=TIGHT, header_style="bold")
    table.add_column("rung", style="cyan", overflow="fold", min_width=13)
    for rule in regret["mean"]:
        table.add_column(rule, justify="right")
    for name, lost in {**regret["rungs"], "mean": regret["mean"], "worst run": regret["worst"]}.items():
        table.add_row(escape(name), *(f"{value:.3f}" for value in lost.values()))
    return table


def _score(entry: Mapping[str, Any]) -> str:
    return format_number(entry["mean"]) + format_interval(entry["ci"], 2)


def _range(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"


def _share(entry: Mapping[str, Any]) -> str:
    """A share of the gap in percent, and its interval."""
    if entry["share"] is None:
        return "-"
    ends = entry["share_ci"]
    return f"{entry['share']:.0%}" + ("" if ends is None else f" [{ends[0] * 100:.0f}, {ends[1] * 100:.0f}]")


def remarks(board: Mapping[str, Any], tested: bool) -> list[str]:
    """What the numbers of a table mean."""
    gap, runs = board["gap"], {entry["runs"] for entry in board["entries"]}
    said = []
    if board["note"]:
        said.append(board["note"])
    elif gap is not None:
        said.append(f"The gap in Dice is {format_number(gap['value'], '+')}{format_interval(gap['ci'])}.")
    if runs == {1}:
        said.append("One seed each: another may order the rungs otherwise; say --seeds 3.")
    elif runs:
        said.append("Below a score: the least and the greatest of its seeds. Scores are means over seeds.")
    if tested:
        said.append("p is that of the difference in Dice from source-only, adjusted (Holm).")
    else:
        said.append("With fewer than nine groups of test images there is no p; Dice in each group:")
    return said


def over_rival(differences: Mapping[str, Any]) -> list[str]:
    """Which rungs are worth their trouble: a sentence, or none where that is not known."""
    better = [
        f"{name} {format_number(each['difference'], '+')}{format_interval(each['ci'])}"
        for name, each in differences.items()
        if name not in (LOWEST, HIGHEST) and each["ci"] is not None and each["ci"][0] > 0
    ]
    if not differences or any(each["ci"] is None for each in differences.values()):
        return []
    return [f"Above {RIVAL} in Dice, with an interval that excludes zero: {', '.join(better) or 'none'}."]


def _show_groups(board: Mapping[str, Any], console: Console) -> None:
    """A rung's score in each group: these have numbers in the table, for their names may be long."""
    groups = list(next(iter(board["entries"]), {"of_groups": {}})["of_groups"])
    table = Table(box=None, pad_edge=False, padding=TIGHT, header_style="bold")
    table.add_column("rung", style="cyan", overflow="fold", min_width=13)
    for number in range(1, len(groups) + 1):
        table.add_column(str(number), justify="right", min_width=5)
    for entry in board["entries"]:
        table.add_row(escape(entry["entry"]), *(format_number(value) for value in entry["of_groups"].values()))
    console.print(table)
    console.print(escape(", ".join(f"{number}: {group}" for number, group in enumerate(groups, 1))), highlight=False)


def selections(rungs: Mapping[str, Any]) -> dict[str, list[str]]:
    """The rungs whose checkpoint was chosen in the same way, in words."""
    found: dict[str, list[str]] = {}
    for name, rung in rungs.items():
        if rung["selection"]:
            found.setdefault(rung["selection"], []).append(name)
    return found


def _show_left_out(left_out: Mapping[str, str], console: Console) -> None:
    for name, reason in left_out.items():
        console.print(f"[yellow]left out[/]  {escape(name)}: {escape(reason)}", highlight=False)


def format_seconds(seconds: float) -> str:
    """``40 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / MINUTE:.0f} min" if seconds < 2 * HOUR else f"{seconds / HOUR:.1f} h"
