"""How much of the gap between two of several runs each of the others closes; docs/decisions/ladder.md.

The lower one learned from the source alone, the upper one from labels of the target. Groups of images are drawn anew,
the same for all runs, so that what is easy or hard for all of them cancels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from transeg.core.evaluation.image_values import ImageValues
from transeg.core.evaluation.numbers import format_interval, format_number
from transeg.core.evaluation.statistics import (
    bootstrap_intervals,
    bootstrap_means,
    holm_adjust,
    interval_ends,
    paired_permutation_test,
    percentile_intervals,
)

METRICS = ("dice", "iou")
"""Those that gaps are told in, the first one in words, too."""
LEAST_GROUPS = 9
"""With eight, the least p that flipping signs can give is 2 / 2^8 = 0.008: above 0.05 once adjusted for eight rungs."""


def shares_of_gap(values: ImageValues, lower: str, upper: str, *, lower_is_better: bool = False) -> dict[str, Any]:
    """What each entry reaches, and which share of the gap from one entry to another it closes.

    Args:
        values: one metric of the entries, ``lower`` among them; repeats are averaged image by image.
        lower: the name of the entry at which the share is 0.
        upper: of the one at which it is 1; it may be missing.
        lower_is_better: whether a better entry has a lower value.

    Returns:
        ``images`` and ``groups``, their numbers; ``gap``, the mean ``value`` of upper - lower and its interval ``ci``,
        or None without upper; ``note``, why there is no share, in a sentence, or ''; ``entries``: of each, in their
        order, ``entry``, ``runs``, ``mean`` and its interval ``ci``, the least and the greatest mean of its runs,
        ``range`` (None for one run), ``difference`` from lower and ``difference_ci``, ``share`` and ``share_ci``, ``p``
        of the difference and ``p_holm``, and ``of_groups``, its mean in each group. Intervals are 95 % percentile
        intervals over groups, None for fewer than two; p needs :data:`LEAST_GROUPS`.
    """
    if not values.groups:
        return {
            "images": 0,
            "groups": 0,
            "gap": None,
            "note": "There is no image that all define it on.",
            "entries": [],
        }
    bottom = values.values[:, [values.names.index(lower)]]
    differences, names = values.values - bottom, sorted(set(values.groups))
    intervals, of_differences = (bootstrap_intervals(each, values.groups) for each in (values.values, differences))
    gap, note = _gap(values, of_differences, differences, lower, upper, lower_is_better)
    shares = {} if note else _shares(values, differences, lower, upper)
    enough = len(names) >= LEAST_GROUPS
    p = [
        paired_permutation_test(differences[:, place], values.groups) if enough and name != lower else None
        for place, name in enumerate(values.names)
    ]
    adjusted = holm_adjust(p, len(values.names) - 1)
    place_of = {name: np.array([group == name for group in values.groups]) for name in names}
    entries = []
    for place, name in enumerate(values.names):
        runs = np.nanmean(values.of_runs[place], axis=0)
        share, ends = shares.get(name, (None, None))
        entries.append(
            {
                "entry": name,
                "runs": len(runs),
                "mean": float(values.values[:, place].mean()),
                "ci": interval_ends(intervals[place]),
                "range": [float(runs.min()), float(runs.max())] if len(runs) > 1 else None,
                "difference": None if name == lower else float(differences[:, place].mean()),
                "difference_ci": None if name == lower else interval_ends(of_differences[place]),
                "share": share,
                "share_ci": ends,
                "p": p[place],
                "p_holm": adjusted[place],
                "of_groups": {group: float(values.values[here, place].mean()) for group, here in place_of.items()},
            }
        )
    return {"images": len(values.groups), "groups": len(names), "gap": gap, "note": note, "entries": entries}


def _gap(
    values: ImageValues,
    intervals: np.ndarray,
    differences: np.ndarray,
    lower: str,
    upper: str,
    lower_is_better: bool,
) -> tuple[dict[str, Any] | None, str]:
    """The gap, and in a sentence why no share of it can be told; '' where it can."""
    if upper not in values.names:
        return None, f"Without {upper} there is no gap, and no share of it."
    place = values.names.index(upper)
    value, ends = float(differences[:, place].mean()), interval_ends(intervals[place])
    gap = {"value": value, "ci": ends}
    if ends is None:
        return gap, "No share of the gap is given: the test images are one group, so nothing tells how sure the gap is."
    said = f"from {lower} to {upper}, {format_number(value, '+')}{format_interval(ends)}"
    if ends[0] <= 0 <= ends[1]:
        return gap, f"No share of the gap is given: the gap {said}, may be none, for its interval contains zero."
    if (value < 0) != lower_is_better:
        return gap, f"No share of the gap is given: there is none to close {said}; {upper} is the worse one."
    return gap, ""


def _shares(
    values: ImageValues, differences: np.ndarray, lower: str, upper: str
) -> dict[str, tuple[float, list[float] | None]]:
    """Each entry's share of the gap and its interval; those of the ends are 0 and 1 by definition, and have none."""
    mean, drawn = differences.mean(0), bootstrap_means(differences, values.groups)
    top = values.names.index(upper)
    with np.errstate(divide="ignore", invalid="ignore"):  # a draw without a gap is infinitely far out, and may be
        ends = percentile_intervals(drawn / drawn[:, [top]])
    return {
        name: (float(mean[place] / mean[top]), None if name in (lower, upper) else interval_ends(ends[place]))
        for place, name in enumerate(values.names)
    }
