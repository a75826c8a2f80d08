"""Confidence intervals and a paired test over groups of images.

Frames of one video, or patches of one slide, are alike: to treat them as independent makes intervals too narrow. So
what is drawn anew, or changes its sign, is always a whole group. Nothing here is random from call to call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

SEED = 0
BOOTSTRAPS = 2000
PERMUTATIONS = 9999
BATCH = 500
"""Permutations that are drawn at once, so that memory does not grow with their number."""


def bootstrap_intervals(values: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """95 % percentile intervals of means over images (Efron & Tibshirani 1993, doi:10.1201/9780429246593).

    Args:
        values: ``(images, metrics)``, NaN where one is undefined.
        groups: of the images.

    Returns:
        ``(metrics, 2)`` lower and upper ends, NaN for a metric that is defined in fewer than two groups.
    """
    _, counts = group_sums(values, groups)
    enough = (counts > 0).sum(0) > 1
    ends = np.full((len(enough), 2), np.nan)
    if enough.any():
        ends[enough] = percentile_intervals(bootstrap_means(values[:, enough], groups))
    return ends


def bootstrap_means(values: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Means over images, of groups that are drawn anew: the same draws for all metrics, and from call to call.

    Args:
        values: ``(images, metrics)``, NaN where one is undefined.
        groups: of the images.

    Returns:
        ``(BOOTSTRAPS, metrics)``, NaN where no group with a value was drawn.
    """
    sums, counts = group_sums(values, groups)
    random, number = np.random.default_rng(SEED), len(sums)
    means = np.full((BOOTSTRAPS, values.shape[1]), np.nan)
    for row in means:
        weights = np.bincount(random.integers(number, size=number), minlength=number)
        total, count = weights @ sums, weights @ counts
        np.divide(total, count, out=row, where=count > 0)
    return means


def percentile_intervals(draws: np.ndarray) -> np.ndarray:
    """95 % of what was drawn: ``(draws, quantities)`` -> ``(quantities, 2)`` ends; NaN does not count."""
    return np.nanpercentile(draws, (2.5, 97.5), axis=0).T


def interval_ends(interval: np.ndarray) -> list[float] | None:
    """An interval as JSON has it; None for one that is not defined."""
    return None if math.isnan(interval[0]) else interval.tolist()


def paired_permutation_test(differences: np.ndarray, groups: Sequence[str]) -> float | None:
    """Two-sided p of a mean difference of nought, by flipping the signs of groups (Fisher's permutation test).

    The test is exact up to 13 groups and drawn at random beyond. It asks about the mean difference, which is what the
    tables show, where Wilcoxon's would ask about ranks.

    Args:
        differences: ``(images,)``, none of them NaN.
        groups: of the images.

    Returns:
        None with fewer than two groups.
    """
    sums, _ = group_sums(differences[:, None], groups)
    if len(sums) < 2:
        return None
    values = sums[:, 0]
    observed, exact = values.sum(), 2 ** len(values) <= PERMUTATIONS
    flipped = observed - 2 * (_all_subsets(values) if exact else _random_subsets(values))
    rounding = np.finfo(np.float64).eps * len(values) * np.abs(values).sum()
    sides = (flipped <= observed + rounding).sum(), (flipped >= observed - rounding).sum()
    drawn = 0 if exact else 1  # what was observed is one of the draws, so that no p is nought
    return min(1.0, 2 * float(min(sides) + drawn) / (len(flipped) + drawn))


def _all_subsets(values: np.ndarray) -> np.ndarray:
    """The sums of all subsets of ``(N,)``, ``(2**N,)``: of the groups whose sign is flipped."""
    chosen = np.arange(2 ** len(values))[:, None] >> np.arange(len(values)) & 1
    return chosen @ values


def _random_subsets(values: np.ndarray) -> np.ndarray:
    """The sums of subsets of ``(N,)`` that are drawn at random, ``(PERMUTATIONS,)``."""
    random, number = np.random.default_rng(SEED), len(values)
    found = np.empty(PERMUTATIONS)
    for first in range(0, PERMUTATIONS, BATCH):
        rows = min(BATCH, PERMUTATIONS - first)
        octets = random.integers(256, size=(rows, -(-number // 8)), dtype=np.uint8)
        found[first : first + rows] = np.unpackbits(octets, axis=1, count=number).astype(np.float64) @ values
    return found


def holm_adjust(p: Sequence[float | None], comparisons: int) -> list[float | None]:
    """Adjusted p values that hold for all comparisons at once (Holm 1979, Scand J Stat 6:65-70).

    Args:
        p: of the tests that were made; None where none could be.
        comparisons: how many could have been chosen from, at least as many as ``p`` has numbers. With more of them the
            result is what the whole family's would be at most: each p is at least as far down in the family's order.

    Returns:
        As many, 1 at most.
    """
    adjusted: list[float | None] = [None] * len(p)
    largest = 0.0
    numbers = sorted((value, place) for place, value in enumerate(p) if value is not None)
    for position, (value, place) in enumerate(numbers):
        largest = max(largest, min(1.0, (comparisons - position) * value))
        adjusted[place] = largest
    return adjusted


def group_sums(values: np.ndarray, groups: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the values that are not NaN, and their number, ``(groups, metrics)`` each."""
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    sums, counts = np.zeros((2, len(names), values.shape[1]))
    np.add.at(sums, place, np.nan_to_num(values))
    np.add.at(counts, place, ~np.isnan(values))
    return sums, counts
