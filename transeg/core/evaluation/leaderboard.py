"""Ranks any number of runs, image by image, from the CSV files that their evaluations left; docs/decisions/sweep.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transeg.core.errors import UsageError, did_you_mean
from transeg.core.evaluation.comparison import (
    Lines,
    compared_metrics,
    evaluation_files,
    later_evaluations,
    read_lines,
)
from transeg.core.evaluation.image_values import ImageValues, image_values, shared_images
from transeg.core.evaluation.metrics.table import TABLE, Rows, is_lower_better
from transeg.core.evaluation.statistics import (
    bootstrap_intervals,
    holm_adjust,
    interval_ends,
    paired_permutation_test,
)


@dataclass(frozen=True)
class LeaderboardEntry:
    """What has one line in a leaderboard: a run, or the repeats of a combination.

    Attributes:
        name: unique.
        runs: their folders, or folders of CSV files.
    """

    name: str
    runs: tuple[Path, ...]


def leaderboard(
    entries: Sequence[LeaderboardEntry],
    *,
    tests: Sequence[str] = (),
    metrics: Sequence[str] = (),
    baseline: str | None = None,
    rows: Rows = TABLE,
) -> dict[str, Any]:
    """Rank entries on each test set and by each metric.

    Args:
        entries: what is ranked.
        tests: names of test sets; all that an entry has where there are none.
        metrics: columns; see :func:`~transeg.core.evaluation.comparison.compared_metrics` where there are none.
        baseline: the name of the entry that all others are tested against; by default it is the best one.
        rows: what is known of metrics.

    Returns:
        ``entries``, the folders of each; ``baseline``; ``tests``: for each test set ``images`` and ``groups`` that all
        its entries have, ``without``, the names of the entries that were not tested on it, ``evaluations``, see
        :func:`~transeg.core.evaluation.comparison.later_evaluations`, and ``metrics``: for each
        ``images`` on which all define it, and ``rows``, from the best to the worst, see :func:`_rows`.

    Raises:
        UsageError: there is nothing to rank.
    """
    files = {entry.name: [evaluation_files(run) for run in entry.runs] for entry in entries}
    known = dict.fromkeys(label for each in files.values() for one in each for label in one)
    for name in tests:
        if name not in known:
            raise UsageError(f"There is no test set {name!r}.{did_you_mean(name, known)}")
    if baseline is not None and baseline not in files:
        raise UsageError(f"There is no entry {baseline!r} to compare with.{did_you_mean(baseline, files)}")
    boards: dict[str, Any] = {}
    labels = list(tests or known)
    chosen = [one[label] for each in files.values() for one in each for label in labels if label in one]
    metrics = compared_metrics(chosen, metrics, rows)
    for label in labels:
        lines = {
            name: [read_lines(one[label], metrics) for one in each if label in one] for name, each in files.items()
        }
        board = _board({name: each for name, each in lines.items() if each}, metrics, baseline, rows)
        boards[label] = board | {
            "without": [name for name, each in lines.items() if not each],
            "evaluations": later_evaluations(one[label] for each in files.values() for one in each if label in one),
        }
    return {
        "entries": {entry.name: [str(run) for run in entry.runs] for entry in entries},
        "baseline": baseline,
        "tests": boards,
    }


def _board(lines: dict[str, list[Lines]], metrics: Sequence[str], baseline: str | None, rows: Rows) -> dict[str, Any]:
    """One test set's."""
    groups = shared_images(lines)
    ranked = {}
    for metric in metrics:
        values = image_values(lines, groups, metric)
        ranked[metric] = {
            "images": len(values.groups),
            "rows": _rows(values, baseline, lower_is_better=is_lower_better(metric, rows)),
        }
    return {"images": len(groups), "groups": len(set(groups.values())), "metrics": ranked}


def _rows(values: ImageValues, baseline: str | None, *, lower_is_better: bool) -> list[dict[str, Any]]:
    """Entries from the best to the worst.

    Returns:
        For each ``rank`` (equal ones share it), ``entry``, ``runs``, its ``mean`` and the 95 % interval ``ci``, ``sd``,
        the standard deviation of its runs' means; ``against``, the name of the entry that it is tested against,
        ``difference`` from that, its interval ``difference_ci``, ``p`` and ``p_holm``. None where nothing is defined.
    """
    if not values.groups:
        return []
    means = values.values.mean(0)
    scores = -means if lower_is_better else means
    order = np.argsort(-scores, kind="stable")
    reference = values.names.index(baseline) if baseline in values.names else int(order[0])
    differences = values.values - values.values[:, [reference]]
    intervals, of_differences = (bootstrap_intervals(each, values.groups) for each in (values.values, differences))
    p = [
        None if place == reference else paired_permutation_test(differences[:, place], values.groups)
        for place in range(len(means))
    ]
    count = len(means)
    adjusted = holm_adjust(p, count - 1 if baseline in values.names else count * (count - 1) // 2)
    return [
        {
            "rank": 1 + int((scores > scores[place]).sum()),
            "entry": values.names[place],
            "runs": values.of_runs[place].shape[1],
            "mean": float(means[place]),
            "ci": interval_ends(intervals[place]),
            "sd": _spread(values.of_runs[place]),
            "against": None if place == reference else values.names[reference],
            "difference": None if place == reference else float(differences[:, place].mean()),
            "difference_ci": None if place == reference else interval_ends(of_differences[place]),
            "p": p[place],
            "p_holm": adjusted[place],
        }
        for place in map(int, order)
    ]


def _spread(of_runs: np.ndarray) -> float | None:
    """Standard deviation of the means of runs ``(images, runs)``; None for one run."""
    present = of_runs[:, ~np.isnan(of_runs).all(0)]
    return float(np.nanmean(present, axis=0).std(ddof=1)) if present.shape[1] > 1 else None
