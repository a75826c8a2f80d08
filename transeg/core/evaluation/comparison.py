"""Compares two runs image by image, from the CSV files that their evaluations left."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transeg.core.errors import UsageError, did_you_mean
from transeg.core.evaluation.metrics.table import IN_PLACE_OF, TABLE, Rows, among, is_lower_better, row_of, shown_in
from transeg.core.evaluation.statistics import bootstrap_intervals, interval_ends, paired_permutation_test
from transeg.core.runs.evaluations import is_later, score_files

logger = logging.getLogger(__name__)

Lines = dict[str, dict[str, str]]
"""The lines of a CSV file by image."""


def compare_runs(
    first: Path, second: Path, *, tests: Sequence[str] = (), metrics: Sequence[str] = (), rows: Rows = TABLE
) -> dict[str, Any]:
    """Compare the runs on the images that both were tested on.

    Args:
        first: run A: its folder, or a folder of CSV files.
        second: run B.
        tests: names of test sets; all that the runs share where there are none.
        metrics: columns; see :func:`compared_metrics` where there are none.
        rows: what is known of metrics.

    Returns:
        ``a`` and ``b``, the folders; ``tests``: for each test set ``images`` and ``groups`` that both have,
        ``unpaired``, the number of images that one alone has, ``metrics``: for each see :func:`compare_metric`, and
        ``evaluations``: see :func:`later_evaluations`.

    Raises:
        UsageError: there is nothing to compare.
    """
    files = evaluation_files(first), evaluation_files(second)
    shared = sorted(files[0].keys() & files[1].keys())
    if not shared:
        names = [", ".join(sorted(each)) for each in files]
        raise UsageError(
            f"{first} was tested on {names[0]} and {second} on {names[1]}; measure one on the other's images with: "
            "toolkit evaluate RUN --test DATA"
        )
    for name in tests:
        if name not in shared:
            raise UsageError(
                f"There is no test set {name!r} that both runs were tested on.{did_you_mean(name, shared)}"
            )
    chosen = {name: (files[0][name], files[1][name]) for name in tests or shared}
    metrics = compared_metrics([path for paths in chosen.values() for path in paths], metrics, rows)
    return {
        "a": str(first),
        "b": str(second),
        "tests": {
            name: {**_compare_set(*paths, metrics, rows), "evaluations": later_evaluations(paths)}
            for name, paths in chosen.items()
        },
    }


def later_evaluations(files: Iterable[Path]) -> list[str]:
    """The folders of those CSV files that no run has written itself, but an evaluation after it."""
    return list(dict.fromkeys(str(path.parent) for path in files if is_later(path)))


def compared_metrics(files: Sequence[Path], named: Sequence[str], rows: Rows) -> list[str]:
    """The columns that are compared: those that the user names, else those whose rows say so.

    A plugin's metric is compared unasked where all files have it: some may be older than the plugin.
    """
    columns = [read_columns(path) for path in files]
    everywhere = set(columns[0]).intersection(*columns) if columns else set()
    for name in everywhere.intersection(named):
        if row_of(name, rows) is None:
            logger.warning("No installed plugin has the metric %s; more of it is taken to be better.", name)
    for pixels, micrometres in IN_PLACE_OF.items():
        if not named and any(pixels in each for each in columns) and any(micrometres in each for each in columns):
            logger.warning("%s is in pixels in some files and in micrometres in others; it is left out.", pixels)
    return list(named) or among(shown_in("compare", rows), everywhere)


def compare_metric(a: np.ndarray, b: np.ndarray, groups: Sequence[str], lower_is_better: bool) -> dict[str, Any]:
    """Compare one metric on the images where both runs define it.

    Args:
        a: ``(images,)`` of run A, NaN where it is undefined.
        b: of run B.
        groups: of the images.
        lower_is_better: whether B is better where its value is the lower one.

    Returns:
        Means ``a`` and ``b``; ``difference``, b - a; its 95 % interval ``ci``; ``p`` of the paired test; the number of
        ``images``, and those where B is ``better`` and ``worse``. None where nothing is defined, or for ``ci`` and
        ``p`` where fewer than two groups are.
    """
    both = ~np.isnan(a) & ~np.isnan(b)
    a, b, groups = a[both], b[both], [group for group, defined in zip(groups, both, strict=True) if defined]
    if not groups:
        return dict.fromkeys(("a", "b", "difference", "ci", "p")) | {"images": 0, "better": 0, "worse": 0}
    difference = b - a
    ends = bootstrap_intervals(difference[:, None], groups)[0]
    gain = -difference if lower_is_better else difference
    return {
        "a": float(a.mean()),
        "b": float(b.mean()),
        "difference": float(difference.mean()),
        "ci": interval_ends(ends),
        "p": paired_permutation_test(difference, groups),
        "images": len(groups),
        "better": int((gain > 0).sum()),
        "worse": int((gain < 0).sum()),
    }


def _compare_set(first: Path, second: Path, metrics: Sequence[str], rows: Rows) -> dict[str, Any]:
    lines = read_lines(first, metrics), read_lines(second, metrics)
    names = [name for name in lines[0] if name in lines[1]]
    if not names:
        raise UsageError(f"{first} and {second} have no image in common: they were not made from the same test set.")
    groups = [lines[0][name]["group"] for name in names]
    compared = {}
    for metric in metrics:
        a, b = (np.array([float(table[name][metric] or "nan") for name in names]) for table in lines)
        compared[metric] = compare_metric(a, b, groups, is_lower_better(metric, rows))
    unpaired = len(lines[0]) + len(lines[1]) - 2 * len(names)
    return {"images": len(names), "groups": len(set(groups)), "unpaired": unpaired, "metrics": compared}


def evaluation_files(folder: Path) -> dict[str, Path]:
    """The CSV files of a run, or those in a folder of their own, by test set; see
    :func:`transeg.core.runs.evaluations.score_files`.

    Raises:
        UsageError: there is none.
    """
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.")
    files = score_files(folder)
    if not files:
        raise UsageError(f"{folder} holds no evaluation; measure it with: toolkit evaluate {folder}")
    return files


def read_columns(path: Path) -> list[str]:
    """What a CSV file says of each image."""
    with path.open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file), [])


def read_lines(path: Path, metrics: Sequence[str]) -> Lines:
    """The lines of a CSV file by image.

    Raises:
        UsageError: it lacks groups or one of the metrics.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        if "group" not in columns:
            raise UsageError(f"{path} is of an older version; write it again with: toolkit evaluate RUN")
        for metric in metrics:
            if metric not in columns:
                known = [column for column in columns if column not in ("name", "group")]
                raise UsageError(f"{path} has no metric {metric!r}.{did_you_mean(metric, known)}")
        return {row["name"]: row for row in reader}
