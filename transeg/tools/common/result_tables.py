"""What a run came to, on its test sets and in its images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from transeg.core.evaluation.numbers import format_interval, format_number
from transeg.core.evaluation.quality_titles import QUALITY

if TYPE_CHECKING:
    from transeg.core.runs.run_folder import RunFolder


def show_results(metrics: dict[str, Any], folder: RunFolder, console: Console) -> None:
    """The table of a finished run, and where everything is."""
    if metrics["tests"]:
        show_tests(metrics["tests"], metrics["baseline"], console, metrics["trained_on"])
    _show_details(metrics["tests"], console)
    if metrics["folds"] is not None:
        show_folds(metrics["folds"], metrics["tests"], console)
    if metrics["quality"]:
        show_quality(metrics["quality"], console)
    console.print(f"Run folder: {folder.path}", highlight=False, soft_wrap=True)
    console.print(f"Picture:    {folder.previews / 'final.png'}", highlight=False, soft_wrap=True)


def show_measured(tests: dict[str, Any], folder: Path, console: Console) -> None:
    """Everything that was measured on test sets, and where the values of each image are."""
    show_tests(tests, None, console)
    _show_details(tests, console)
    console.print(f"Per image: {folder}", highlight=False)


def show_folds(folds: dict[str, Any], ensemble: dict[str, Any], console: Console) -> None:
    """What each fold's segmenter reaches alone, their mean and their ensemble, for each test set."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("test set", style="cyan")
    table.add_column("segmenter")
    for name in ("images", "Dice", "IoU", "HD95"):
        table.add_column(name, justify="right", no_wrap=True)
    for label, mean in folds["mean"].items():
        rows = {name: fold["tests"][label] for name, fold in folds["each"].items()} | {"mean": mean}
        if label in ensemble:
            rows["ensemble"] = ensemble[label]
        for name, row in rows.items():
            numbers = [format_number(row[key]) for key in ("dice", "iou", "hd95")]
            table.add_row(escape(label), name, f"{row['images']:.3g}", *numbers)
    console.print(table)


def _show_details(tests: dict[str, Any], console: Console) -> None:
    """Each of several classes, and counted objects."""
    if any(len(values["classes"]) > 1 for values in tests.values()):
        show_classes(tests, console)
    if any("counts" in values for values in tests.values()):
        show_counts(tests, console)


def show_classes(tests: dict[str, Any], console: Console) -> None:
    """Dice, IoU and HD95 of each class, for each test set."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("test set", style="cyan")
    table.add_column("class")
    for name in ("Dice", "IoU", "HD95"):
        table.add_column(name, justify="right", no_wrap=True)
    for label, values in tests.items():
        for name in values["classes"]:
            numbers = [format_number(values.get(f"{key}_{name}", values[key])) for key in ("dice", "iou", "hd95")]
            table.add_row(escape(label), escape(name), *numbers)
    console.print(table)


def show_tests(
    tests: dict[str, Any], baseline: dict[str, Any] | None, console: Console, trained_on: Sequence[str] = ("", "")
) -> None:
    """Dice with its interval, and what explains it, for each test set.

    Args:
        tests: of the run.
        baseline: of its baseline, if it has one.
        console: where to.
        trained_on: what the run and its baseline learned from.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("test set", style="cyan")
    if baseline is not None:
        table.add_column("trained on")
    for name in ("images", "Dice [95 % CI]", "IoU", "precision", "recall"):
        table.add_column(escape(name), justify="right", no_wrap=True)
    for label, values in tests.items():
        rows = zip(trained_on, [values, baseline[label]] if baseline and label in baseline else [values], strict=False)
        for learned_from, row in rows:
            dice = format_number(row["dice"]) + format_interval(row["dice_ci"], 2)
            numbers = [str(row["images"]), dice, *(format_number(row[key]) for key in ("iou", "precision", "recall"))]
            table.add_row(label, *([learned_from] if baseline is not None else []), *map(escape, numbers))
    console.print(table)


def show_quality(quality: dict[str, Any], console: Console) -> None:
    """How good the generator's images are, for each dataset that it was given."""
    shown = [key for key in QUALITY if any(key in values for values in quality.values())]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("translated", style="cyan")
    table.add_column("images", justify="right")
    for key in shown:
        table.add_column(QUALITY[key][0], justify="right")
    for label, values in quality.items():
        cells = [format_number(values.get(key), digits=QUALITY[key][1]) for key in shown]
        table.add_row(escape(label), str(values["images"]), *cells)
    console.print(table)


def show_counts(tests: dict[str, Any], console: Console) -> None:
    """How predicted and true numbers of objects agree, for each test set, and for each of several classes."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("test set", style="cyan")
    table.add_column("objects")
    for name in ("true", "predicted", "MAE", "relative", "bias [95 % limits]"):
        table.add_column(escape(name), justify="right", no_wrap=True)
    for label, values in tests.items():
        counts = values["counts"]
        for name, row in {"all": counts, **counts.get("classes", {})}.items():
            bias = format_number(row["bias"], "+", 2) + format_interval(row["limits"], 2)
            relative = "-" if row["relative_error"] is None else f"{row['relative_error']:.1%}"
            totals = f"{row['true']:,}", f"{row['predicted']:,}"
            table.add_row(label, name, *totals, format_number(row["mae"], digits=2), relative, escape(bias))
    console.print(table)
