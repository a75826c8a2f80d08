"""The command that compares runs, imported when it is called."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from transeg.core.errors import UsageError
from transeg.core.evaluation.metrics.table import all_rows, shown_in
from transeg.core.registry import Registry
from transeg.tools.common.comparison_tables import show_comparison, show_leaderboard
from transeg.tools.common.options import PATH, anonymous, as_json, repeatable, with_registry
from transeg.tools.common.shell_completion import complete_run_folders

USUAL = shown_in("compare")
OWN = (r"test,metric,images,rank,entry,", r"### .*: .*, \d+ images\n", r'\{\n  "(a|entries)": ')
"""How files begin that it has written: as CSV, Markdown and JSON."""


@click.command()
@click.argument("runs", metavar="RUNS...", nargs=-1, required=True, type=PATH, shell_complete=complete_run_folders)
@repeatable("--test", "tests", "NAME", "Test set; by default all.")
@repeatable(
    "--metric",
    "metrics",
    "NAME",
    f"Metric to compare, a column of the CSV files; by default {', '.join(USUAL[:-1])} and {USUAL[-1]}.",
)
@click.option(
    "--baseline",
    metavar="RUN",
    shell_complete=complete_run_folders,
    help="Run or combination to test the others against; by default the best.",
)
@click.option(
    "--format",
    "layout",
    type=click.Choice(["table", "markdown", "csv", "json"]),
    help="Format of the result; by default table, with --out what the file's name ends in.",
)
@click.option("-o", "--out", type=PATH, metavar="FILE", help="File to write to.")
@anonymous
@as_json
@with_registry
def compare(
    runs: tuple[Path, ...],
    tests: tuple[str, ...],
    metrics: tuple[str, ...],
    baseline: str | None,
    layout: str | None,
    out: Path | None,
    anonymous: bool,
    as_json: bool,
    registry: Registry,
) -> None:
    """Say which of RUNS segments best, image by image.

    All have been tested on the same images, by `toolkit run` or `toolkit evaluate`. Groups of images (videos, slides)
    are resampled for 95 % intervals, and change sides in the permutation test that gives p. Two runs are set side by
    side: is the second better than the first? More, or a sweep's folder, make a leaderboard on the images that all
    share; a sweep's seeds and folds are averaged, and p is adjusted for the number of comparisons.

    \b
    toolkit compare runs/mine/baseline runs/mine
    toolkit compare runs/unet runs/hardnet runs/ducknet --baseline runs/unet --format markdown -o table.md
    toolkit compare runs/sweep
    """
    from transeg.core.evaluation.leaderboard_formats import to_csv, to_markdown
    from transeg.core.files import sweep_unfinished, write_text
    from transeg.tools.sweep.entries import compare_entries

    chosen, rows = _layout(layout, as_json, out), all_rows(registry)
    if out is not None:
        _check_replaceable(out)
    document = compare_entries(
        runs, tests=tests, metrics=metrics, baseline=baseline, pairwise=chosen in ("table", "json"), rows=rows
    )
    if anonymous:
        document = _without_folders(document)
    if chosen == "table":
        show = show_comparison if "a" in document else show_leaderboard
        show(document, Console(), rows)
        return
    text = to_markdown(document, rows) if chosen == "markdown" else {"csv": to_csv, "json": _as_json}[chosen](document)
    if out is None:
        click.echo(text, nl=False)
    else:
        sweep_unfinished(out.parent, deep=False)
        write_text(out, text)


def _layout(layout: str | None, as_json: bool, out: Path | None) -> str:
    """The format that was asked for, by name or by the ending of a file."""
    endings = {".md": "markdown", ".csv": "csv", ".json": "json"}
    chosen = layout or ("json" if as_json else endings.get(out.suffix.lower(), "") if out else "table")
    if as_json and chosen != "json":
        raise UsageError(f"--json and --format {chosen} contradict each other; leave one out.")
    if out and chosen not in endings.values():
        raise UsageError(f"In which format is {out} to be written? Say --format markdown, csv or json.")
    return chosen


def _without_folders(document: dict[str, Any]) -> dict[str, Any]:
    """A comparison whose runs are known by the names of their folders alone."""
    tests = {
        label: {**test, "evaluations": [Path(place).name for place in test["evaluations"]]}
        for label, test in document["tests"].items()
    }
    document = {**document, "tests": tests}
    if "a" in document:
        return {**document, "a": Path(document["a"]).name, "b": Path(document["b"]).name}
    entries = {name: [Path(run).name for run in runs] for name, runs in document["entries"].items()}
    return {**document, "entries": entries}


def _check_replaceable(out: Path) -> None:
    """Whether a file may be written: where there is one already, it must be of an earlier comparison.

    Raises:
        UsageError: it is something else.
    """
    if not os.path.lexists(out):
        return
    try:
        beginning = out.read_text(encoding="utf-8")[:200] if out.is_file() else ""
    except (OSError, ValueError):
        beginning = ""
    if not any(re.match(pattern, beginning) for pattern in OWN):
        raise UsageError(f"-o {out} is there already and is not written by toolkit compare; name another file.")


def _as_json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"
