"""Runs and sweeps on a command line as the entries of a leaderboard."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from transeg.core.errors import UsageError
from transeg.core.evaluation.comparison import compare_runs
from transeg.core.evaluation.leaderboard import LeaderboardEntry, leaderboard
from transeg.core.evaluation.metrics.table import TABLE, Rows
from transeg.tools.sweep.sweep_folder import is_sweep, read_sweep


def compare_entries(
    paths: Sequence[Path],
    *,
    tests: Sequence[str],
    metrics: Sequence[str],
    baseline: str | None,
    pairwise: bool,
    rows: Rows = TABLE,
) -> dict[str, Any]:
    """Two runs side by side, or a leaderboard of more.

    Args:
        paths: of runs, folders of CSV files, and sweeps.
        tests: names of test sets; all where there are none.
        metrics: columns; the usual ones where there are none.
        baseline: the name or folder of what all others are tested against; by default the best.
        pairwise: whether two runs are set side by side.
        rows: what is known of metrics.

    Returns:
        See :func:`~transeg.core.evaluation.comparison.compare_runs`, or :func:`leaderboard`.

    Raises:
        UsageError: there is nothing to compare.
    """
    sweeps = any(map(is_sweep, paths))
    if len(paths) == 2 and pairwise and baseline is None and not sweeps:
        return compare_runs(*paths, tests=tests, metrics=metrics, rows=rows)
    if len(paths) == 1 and not sweeps:
        raise UsageError(f"{paths[0]} is one run alone; name another to compare it with, or a sweep's folder.")
    entries = leaderboard_entries(paths)
    if baseline is not None:
        folder = (Path(baseline).resolve(),)
        baseline = next((e.name for e in entries if tuple(run.resolve() for run in e.runs) == folder), baseline)
    return leaderboard(entries, tests=tests, metrics=metrics, baseline=baseline, rows=rows)


def leaderboard_entries(paths: Sequence[Path]) -> list[LeaderboardEntry]:
    """Runs, and the combinations of sweeps as far as they are done.

    Raises:
        UsageError: a path is given twice, or nothing is done.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError("A run is given twice.")
    names = short_names([path for path in paths if not is_sweep(path)])
    entries = [LeaderboardEntry(name, (path,)) for path, name in names.items()]
    for path in paths:
        if is_sweep(path):
            prefix = f"{path.name}/" if len(paths) > 1 else ""
            entries += [
                LeaderboardEntry(prefix + name, tuple(cell.folder.path for cell in done))
                for name, cells in read_sweep(path).combinations().items()
                if (done := [cell for cell in cells if cell.state() == "done"])
            ]
    if not entries:
        raise UsageError(f"No cell of {paths[0]} is done yet; see: toolkit sweep {paths[0]} --status")
    if len({entry.name for entry in entries}) < len(entries):
        raise UsageError("Two of these sweeps have the same name and the same combinations; rename one's folder.")
    return entries


def short_names(paths: Iterable[Path]) -> dict[Path, str]:
    """Paths without the folders that all of them lie in."""
    whole = {path: path.resolve() for path in paths}
    if not whole:
        return {}
    common = Path(os.path.commonpath([path.parent for path in whole.values()]))
    return {path: str(full.relative_to(common)) for path, full in whole.items()}
