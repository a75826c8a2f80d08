"""What a run came to, on its test sets and in its images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from transeg.core.evaluation.metrics.table import TABLE, Rows, among, digits_of, drawn_in, metrics_of, shown_in, titles
from transeg.core.evaluation.numbers import format_interval, format_number

if TYPE_CHECKING:
    from transeg.core.runs.run_folder import RunFolder


def show_results(
    metrics: dict[str, Any], folder: RunFolder, console: Console, rows: Rows = TABLE, *, segments: bool
) -> None:
    """The table of a finished run, and where everything is.

    Args:
        metrics: of its ``metrics.json``.
        folder: of the run.
        console: where to.
        rows: what is known of metrics, as below.
        segments: whether it trained a segmenter.
    """
    if metrics["tests"]:
        show_tests(metrics["tests"], metrics["baseline"], console, metrics["trained_on"], rows)
    _show_details(metrics["tests"], console)
    for label, words in metrics.get("transductive", {}).items():
        console.print(f"{escape(label)}: {words}", highlight=False)
    if metrics["folds"] is not None:
        show_folds(metrics["folds"], metrics["tests"], console, rows)
    if metrics["quality"]:
        show_quality(metrics["quality"], console)
    _show_places(metrics, folder, console, segments=segments)


def _show_places(metrics: dict[str, Any], folder: RunFolder, console: Console, *, segments: bool) -> None:
    """Where a finished run has put what, and what to type next."""
    use = "predict {} IMAGES -o masks" if segments else "translate {} IMAGES -o translated"
    rows = [
        ("Checkpoint", f"iteration {metrics['best_iteration']:,} of {metrics['iterations']:,}: {metrics['selection']}"),
        ("Run folder", str(folder.path)),
        ("Picture", str(folder.previews / "final.png")),
        *([("Each image", str(folder.evaluation))] if metrics["tests"] else []),
        ("Next", f"toolkit report {folder.path} -o report.html"),
        ("", f"toolkit {use.format(folder.path)}"),
    ]
    for name, value in rows:
        console.print(f"{name + ':' * bool(name):12}{value}", highlight=False, markup=False, soft_wrap=True)


def show_measured(tests: dict[str, Any], folder: Path, console: Console, rows: Rows = TABLE) -> None:
    """Everything that was measured on test sets, and where the values of each image are."""
    show_tests(tests, None, console, rows=rows)
    _show_details(tests, console)
    console.print(f"Per image: {folder}", highlight=False)


def show_folds(folds: dict[str, Any], ensemble: dict[str, Any], console: Console, metrics: Rows = TABLE) -> None:
    """What each fold's segmenter reaches alone, their mean and their ensemble, for each test set."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("test set", style="cyan")
    table.add_column("segmenter")
    shown = _measured(shown_in("folds", metrics), folds["mean"].values())
    for name in ("images", *titles(shown, metrics).values()):
        table.add_column(escape(name), justify="right", no_wrap=True)
    for label, mean in folds["mean"].items():
        rows = {name: fold["tests"][label] for name, fold in folds["each"].items()} | {"mean": mean}
        if label in ensemble:
            rows["ensemble"] = ensemble[label]
        for name, row in rows.items():
            numbers = _numbers(row, shown, metrics)
            table.add_row(escape(label), name, f"{row['images']:.3g}", *numbers)
    console.print(table)


def _show_details(tests: dict[str, Any], console: Console) -> None:
    """Each of several classes, and counted objects."""
    if any(len(values["classes"]) > 1 for values in tests.values()):
        show_classes(tests, console)
    if any("counts" in values for values in tests.values()):
        show_counts(tests, console)
        show_objects(tests, console)
    for label, values in tests.items():
        if "videos" in values:
            show_videos(label, values["videos"], console)
        if "volumes" in values:
            show_volumes(label, values["volumes"], console)


def show_classes(tests: dict[str, Any], console: Console) -> None:
    """What is told of each class, for each test set."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("test set", style="cyan")
    table.add_column("class")
    shown = _measured(metrics_of("class"), tests.values())
    for title in titles(shown).values():
        table.add_column(title, justify="right", no_wrap=True)
    for label, values in tests.items():
        for name in values["classes"]:
            of_class = {key: values.get(f"{key}_{name}", values.get(key)) for key in shown}
            table.add_row(escape(label), escape(name), *_numbers(of_class, shown, TABLE))
    console.print(table)


def show_tests(
    tests: dict[str, Any],
    baseline: dict[str, Any] | None,
    console: Console,
    trained_on: Sequence[str] = ("", ""),
    rows: Rows = TABLE,
) -> None:
    """Dice with its interval, and what explains it, for each test set.

    Args:
        tests: of the run.
        baseline: of its baseline, if it has one.
        console: where to.
        trained_on: what the run and its baseline learned from.
        rows: what is known of metrics.
    """
    first, *others = _measured(shown_in("tests", rows), tests.values())
    names = titles([first, *others], rows)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("test set", style="cyan")
    if baseline is not None:
        table.add_column("trained on")
    for name in ("images", f"{names[first]} [95 % CI]", *(names[key] for key in others)):
        table.add_column(escape(name), justify="right", no_wrap=True)
    for label, values in tests.items():
        runs = zip(trained_on, [values, baseline[label]] if baseline and label in baseline else [values], strict=False)
        for learned_from, row in runs:
            mean = _numbers(row, [first], rows)[0] + format_interval(row[f"{first}_ci"], 2)
            numbers = [str(row["images"]), mean, *_numbers(row, others, rows)]
            table.add_row(label, *([learned_from] if baseline is not None else []), *map(escape, numbers))
    console.print(table)


def _measured(names: Sequence[str], tables: Iterable[Mapping[str, Any]]) -> list[str]:
    """The built-in metrics of these, and those that anything has been measured by."""
    return among(names, set().union(*tables))


def _numbers(values: Mapping[str, Any], names: Sequence[str], rows: Rows) -> list[str]:
    """The cells of metrics; a run that is older than a plugin has nothing to say of its metrics."""
    return [format_number(values.get(name), digits=digits_of(name, rows)) for name in names]


def show_quality(quality: dict[str, Any], console: Console) -> None:
    """How good the generator's images are, for each dataset that it was given."""
    shown = [key for key in drawn_in("quality") if any(key in values for values in quality.values())]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("translated", style="cyan")
    table.add_column("images", justify="right")
    for title in titles(shown).values():
        table.add_column(title, justify="right")
    for label, values in quality.items():
        table.add_row(escape(label), str(values["images"]), *_numbers(values, shown, TABLE))
    console.print(table)


def show_counts(tests: dict[str, Any], console: Console) -> None:
    """How predicted and true numbers of objects agree, for each test set, and for each of several classes."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("test set", style="cyan")
    table.add_column("objects")
    heads = titles(metrics_of("counts"))
    for name, title in heads.items():
        limits = " [95 % limits]" if name == "counts.bias" else ""
        table.add_column(escape(f"{title}{limits}"), justify="right", no_wrap=True)
    for label, values in tests.items():
        counts = values["counts"]
        for name, row in {"all": counts, **counts.get("classes", {})}.items():
            cells = [_count_cell(key, row) for key in heads]
            table.add_row(label, name, *map(escape, cells))
    console.print(table)


def show_objects(tests: dict[str, Any], console: Console) -> None:
    """How well single objects are found, for each test set, and for each of several classes."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("test set", style="cyan")
    table.add_column("objects")
    heads = titles(metrics_of("objects"))
    for title in heads.values():
        table.add_column(title, justify="right", no_wrap=True)
    for label, values in tests.items():
        counts = values["counts"]
        for name, row in {"all": counts, **counts.get("classes", {})}.items():
            cells = [format_number(row.get(key.removeprefix("counts."))) for key in heads]
            table.add_row(label, name, *cells)
    console.print(table)


def show_videos(label: str, videos: Mapping[str, Any], console: Console) -> None:
    """False alarms and found objects in the videos of a test set, a line for each class."""
    alarm = f"{videos['alarm_pixels']} pixels for {videos['alarm_frames']} frames"
    for name, row in videos["classes"].items():
        rate = format_number(row["false_alarms_per_minute"], digits=2)
        minutes = f"{row['false_alarms_without']} of {alarm} in {row['minutes_without']:.2f} minutes"
        console.print(
            f"{escape(label)}: {rate} false alarms per minute without {escape(name)} ({minutes}); "
            f"{row['found']} of {row['objects']} found at least once.",
            highlight=False,
        )


def show_volumes(label: str, volumes: Mapping[str, Any], console: Console) -> None:
    """What volumes reach as wholes, a line for each class."""
    count = volumes["volumes"]
    which = f"{label}, {count} {'volume' if count == 1 else 'volumes'}"
    for name, row in volumes["classes"].items():
        dice = f"Dice {format_number(row['dice'])}{format_interval(row['dice_ci'], 2)}"
        distance = f"HD95 {format_number(row['hd95_mm'], digits=2)} mm"
        near = f"surface Dice {format_number(row['surface_dice'])}"
        console.print(f"{which}, {name}: {dice}, {distance}, {near}", highlight=False, markup=False)


def _count_cell(name: str, values: Mapping[str, Any]) -> str:
    """A measure of counted objects, as its row says."""
    row, value = TABLE[name], values[name.removeprefix("counts.")]
    if name == "counts.bias":
        return format_number(value, "+", row.digits) + format_interval(values["limits"], row.digits)
    if row.unit == "%":
        return "-" if value is None else f"{value:.{row.digits}%}"
    return format_number(value, digits=row.digits) if row.digits else f"{value:,}"
