"""What a run came to on its test sets: tables, intervals, distributions, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from markupsafe import Markup

from transeg.core.errors import TransegError
from transeg.core.evaluation.comparison import compare_runs
from transeg.core.evaluation.metrics.calibration import calibration_error
from transeg.core.evaluation.metrics.table import Rows, among, metrics_of, shown_in
from transeg.core.experiment.planned_stages import fold_names
from transeg.tools.report import figures
from transeg.tools.report.record import Record, Scores, read_scores

ALIKE = 1e-3
"""Means that differ by less are the same, except for how a CSV file rounds."""


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        name: of the model, or of the class.
        images: how many.
        values: means and their intervals by metric.
    """

    name: str
    images: int
    values: dict[str, tuple[float | None, tuple[float, float] | None]]


@dataclass(frozen=True)
class TestSet:
    """What is told of a test set.

    Attributes:
        label: its name.
        rows: of the run, its baseline and its folds.
        means: their Dice, drawn; None where there is but one.
        classes: of the run, where there are several.
        against_baseline: see :func:`transeg.core.evaluation.comparison.compare_metric`, of Dice; None without a
        baseline.
        distribution: of the Dice of single images; None where it is defined on none.
        calibration: drawn; None where nothing gave probabilities.
        ece: expected calibration errors over all pixels, by model.
        counts: how counted objects agree, by class; empty where they were not counted.
        evaluation: name of the evaluation after the run that measured it; '' where the run did itself.
        unlike: whether the images were measured again, with another result, since the run.
    """

    label: str
    rows: list[Row]
    means: Markup | None
    classes: list[Row]
    against_baseline: dict[str, Any] | None
    distribution: Markup | None
    calibration: Markup | None
    ece: dict[str, float]
    counts: dict[str, dict[str, Any]]
    evaluation: str
    unlike: bool

    @property
    def ece_in_words(self) -> str:
        """The errors, by model."""
        return ", ".join(f"{value:.3f} ({model})" for model, value in self.ece.items())


def shown_metrics(record: Record, rows: Rows) -> list[str]:
    """What tables show of a test set; metrics of plugins where the run was measured by them."""
    return among(shown_in("report", rows), _measured(record))


def shown_of_classes(record: Record) -> list[str]:
    """What tables show of each class of a test set."""
    return among(metrics_of("class"), _measured(record))


def _measured(record: Record) -> set[str]:
    return {metric for scores in record.scores.values() for metric in scores.values}


def test_sets(record: Record, metrics: Sequence[str]) -> list[TestSet]:
    """Everything that was measured on labelled images.

    Args:
        record: of the run.
        metrics: that tables show.

    Raises:
        TransegError: a file is damaged.
    """
    models = _models(record)
    return [_test_set(record, label, number, models, metrics) for number, label in enumerate(record.scores, start=1)]


def _models(record: Record) -> dict[str, dict[str, Scores]]:
    """The scores of all that was measured, by what it is: this run comes first."""
    folder, experiment = record.folder, record.experiment
    ours, theirs = record.trained_on
    if experiment.folds is not None:
        ours = f"{ours}, ensemble" if experiment.generator is not None else "ensemble"
    found = {ours: record.scores}
    if experiment.baseline != "none":
        found[theirs] = read_scores(folder.part("baseline").path)
    for name in fold_names(experiment.folds or 0):
        found[name.replace("-", " ")] = read_scores(folder.part(name).path)
    return found


def _test_set(
    record: Record, label: str, number: int, models: Mapping[str, Mapping[str, Scores]], metrics: Sequence[str]
) -> TestSet:
    scores = {name: tables[label] for name, tables in models.items() if label in tables}
    rows = [_row(name, found, metrics) for name, found in scores.items()]
    own, measured = record.scores[label], record.metrics.get("tests", {}).get(label, {})
    names = [key.removeprefix("dice_") for key in own.values if key.startswith("dice_")]
    counts = measured.get("counts")
    folds = {name.replace("-", " ") for name in fold_names(record.experiment.folds or 0)}
    shown = {name: found for name, found in scores.items() if name not in folds}
    mean, noted = own.mean("dice"), measured.get("dice")
    return TestSet(
        label,
        rows,
        _means(f"means-{number}", label, rows) if len(rows) > 1 else None,
        [_class_row(name, own) for name in names],
        _against_baseline(record, label),
        _distribution(f"spread-{number}", label, shown, names),
        *_calibration(f"calibration-{number}", label, shown, binary=not names),
        {} if counts is None else {"all": counts, **counts.get("classes", {})},
        own.evaluation,
        mean is not None and noted is not None and abs(mean - noted) > ALIKE,
    )


def _row(name: str, scores: Scores, metrics: Sequence[str], suffix: str = "") -> Row:
    values = {metric: (scores.mean(metric + suffix), scores.interval(metric + suffix)) for metric in metrics}
    return Row(name, len(scores.names), values)


def _class_row(name: str, scores: Scores) -> Row:
    """Many an image has no pixel of the class, neither in truth nor as found: it does not count."""
    row = _row(name, scores, metrics_of("class"), f"_{name}")
    return replace(row, images=int((~np.isnan(scores.values[f"dice_{name}"])).sum()))


def _means(name: str, label: str, rows: list[Row]) -> Markup | None:
    measured = [(row.name, *row.values["dice"]) for row in rows]
    shown = [figures.Estimate(model, mean, ends) for model, mean, ends in measured if mean is not None]
    return (
        figures.plot_estimates(name, f"Mean Dice on {label}", shown, "Dice, mean and 95 % interval") if shown else None
    )


def _against_baseline(record: Record, label: str) -> dict[str, Any] | None:
    """How much better than its baseline the run is, image by image."""
    if record.experiment.baseline == "none":
        return None
    try:
        compared = compare_runs(
            record.folder.part("baseline").path, record.folder.path, tests=[label], metrics=["dice"]
        )
    except TransegError:  # the baseline has not been measured on these images
        return None
    found: dict[str, Any] = compared["tests"][label]["metrics"]["dice"]
    return found if found["difference"] is not None else None


def _distribution(name: str, label: str, scores: Mapping[str, Scores], classes: list[str]) -> Markup | None:
    """Dice of single images: of the run and its baseline; of the run alone, by class, where there are several."""
    own = next(iter(scores.values()))
    rows = {model: found.values["dice"] for model, found in scores.items()}
    if classes:
        rows = {f"{each}": own.values[f"dice_{each}"] for each in classes}
    defined = {row: values[~np.isnan(values)] for row, values in rows.items()}
    defined = {row: values for row, values in defined.items() if len(values)}
    if not defined:
        return None
    return figures.plot_distribution(name, f"Dice of each image of {label}", defined, "Dice of an image")


def _calibration(
    name: str, label: str, scores: Mapping[str, Scores], *, binary: bool
) -> tuple[Markup | None, dict[str, float]]:
    bins = {model: found.bins for model, found in scores.items() if found.bins is not None and found.bins[:, 0].any()}
    if not bins:
        return None, {}
    drawn = figures.plot_reliability(name, f"Reliability on {label}", bins, binary=binary)
    return drawn, {model: calibration_error(each) for model, each in bins.items()}
