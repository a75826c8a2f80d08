"""How a run went: curves over its iterations, and where its time went."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from transeg.core.evaluation.metrics.table import TABLE, drawn_in
from transeg.core.runs.history import scalar_series
from transeg.tools.report import figures
from transeg.tools.report.record import Record

OF_IMAGES = [name for name in drawn_in("curves") if TABLE[name].of in ("made", "made set")]
"""Validation metrics of a generator's images, each with an axis of its own."""
OF_MASKS = [f"val/{name}" for name in drawn_in("curves") if name not in OF_IMAGES]
"""Those of a segmenter, which share an axis from 0 to 1; the Dice, which selects the checkpoint, first."""


@dataclass(frozen=True)
class TrainingCurves:
    """The curves of a training, or of those that differ in what they hold out alone.

    Attributes:
        title: what was trained.
        validation: figures of a segmenter, and of a generator's images, by what they show.
        losses: a figure for each, by its name.
        rates: of learning, in one figure by what it shows; empty where none was noted.
    """

    title: str
    validation: dict[str, Markup]
    losses: dict[str, Markup]
    rates: dict[str, Markup]


@dataclass(frozen=True)
class StageTime:
    """Where the time of one training, and of what belongs to it, went.

    Attributes:
        title: what was trained.
        seconds: by what they were spent on.
        share_waiting: of the training's iterations, in [0, 1]; None where nothing was trained.
        per_iteration: seconds, as the training noted them; None where it did not.
    """

    title: str
    seconds: dict[str, float]
    share_waiting: float | None
    per_iteration: float | None

    @property
    def total(self) -> float:
        """Seconds."""
        return sum(self.seconds.values())


def training_curves(record: Record) -> list[TrainingCurves]:
    """Curves of every training that has begun, folds of one together."""
    groups: dict[str, list[str]] = {}
    for name in record.scalars:
        groups.setdefault(name.rpartition("fold-")[0] if "fold-" in name else name, []).append(name)
    return [_course(record, number, names) for number, names in enumerate(groups.values(), start=1)]


def _course(record: Record, number: int, names: list[str]) -> TrainingCurves:
    lines = {name: record.scalars[name] for name in names}
    kinds = dict.fromkeys(key for found in lines.values() for line in found for key in line)
    several = len(names) > 1

    def curve(scalar: str, label: str) -> dict[str, tuple[list[int], list[float]]]:
        found = {name: scalar_series(lines[name], scalar) for name in names}
        return {
            (name.rpartition("/")[2].replace("-", " ") if several else label): each
            for name, each in found.items()
            if each[0]
        }

    def small(scalar: str) -> Markup:
        label = scalar.partition("/")[2]
        place = f"curve-{number}-{list(kinds).index(scalar)}"
        return figures.plot_curves(place, label, curve(scalar, label), small=True)

    words = record.trainings[names[0]]
    title = words.rpartition(", ")[0] if several else words
    validation = {}
    shared = [key for key in OF_MASKS[: 1 if several else None] if key in kinds]
    if shared:
        shown: dict[str, tuple[list[int], list[float]]] = {}
        for key in shared:
            shown |= curve(key, key.removeprefix("val/"))
        rule = "val/agreement" if "val/agreement" in kinds else "val/dice"
        best = None if several else _best(*scalar_series(lines[names[0]], rule))
        axis = "Dice on the images that each fold holds out" if several else "on validation images"
        validation[axis] = figures.plot_curves(f"validation-{number}", axis, shown, mark=best)
    validation |= {f"{name} on validation images": small(f"val/{name}") for name in OF_IMAGES if f"val/{name}" in kinds}
    return TrainingCurves(
        title,
        validation,
        {key.removeprefix("train/"): small(key) for key in kinds if key.startswith("train/")},
        _rates(f"rates-{number}", [curve(key, key.removeprefix("lr/")) for key in kinds if key.startswith("lr/")]),
    )


def _rates(place: str, curves: list[dict[str, tuple[list[int], list[float]]]]) -> dict[str, Markup]:
    """Learning rates; those that lie on each other are one line, as only the last would be seen."""
    alike: list[tuple[list[str], tuple[list[int], list[float]]]] = []
    for label, shown in (each for curve in curves for each in curve.items()):
        same = next((labels for labels, other in alike if _on_each_other(shown, other)), None)
        if same is None:
            alike.append(([label], shown))
        else:
            same.append(label)
    lines = {", ".join(labels): shown for labels, shown in alike}
    if not lines:
        return {}
    title = "learning rates" if len(lines) > 1 else f"learning rate of {next(iter(lines))}"
    return {title: figures.plot_curves(place, title, lines)}


def _on_each_other(one: tuple[list[int], list[float]], other: tuple[list[int], list[float]]) -> bool:
    """Whether two curves differ by less than a line is wide."""
    return one[0] == other[0] and np.allclose(one[1], other[1], rtol=0, atol=0.01 * max(other[1]))


def _best(iterations: list[int], values: list[float]) -> int | None:
    """The first iteration with the highest value, whose checkpoint was kept; None without any."""
    return iterations[values.index(max(values))] if values else None


def stage_times(record: Record) -> list[StageTime]:
    """Where the time went, by training; empty for runs of a version that did not note it."""
    names = dict.fromkeys([*record.trainings, *record.times])
    found = []
    for name in names:
        seconds = record.times.get(name, {})
        if not seconds:
            continue
        working, waiting = seconds.get("training", 0.0), seconds.get("waiting for data", 0.0)
        _, each = scalar_series(record.scalars.get(name, []), "seconds_per_iteration")
        share = waiting / (working + waiting) if working else None
        title = "all folds together" if name == "." and not working else record.trainings.get(name, "the run")
        found.append(StageTime(title, seconds, share, sum(each) / len(each) if each else None))
    return found


def plot_stage_times(rows: list[StageTime]) -> Markup:
    """A bar for each training."""
    longest = max(row.total for row in rows)
    unit, factor = ("hours", 3600) if longest > 7200 else ("minutes", 60) if longest > 120 else ("seconds", 1)
    amounts = {row.title: {what: value / factor for what, value in row.seconds.items()} for row in rows}
    return figures.plot_shares("times", "Where the time went", amounts, unit)
