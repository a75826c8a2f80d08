"""What has come of a sweep: its cells, and the leaderboard of its combinations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transeg.core.errors import UsageError
from transeg.core.evaluation.leaderboard import leaderboard
from transeg.core.evaluation.leaderboard_formats import to_csv
from transeg.core.evaluation.metrics.table import Rows
from transeg.core.files import write_json, write_text
from transeg.tools.sweep.entries import leaderboard_entries
from transeg.tools.sweep.sweep_folder import Sweep


def sweep_results(sweep: Sweep, rows: Rows) -> dict[str, Any]:
    """All there is to say by now.

    Args:
        sweep: what was swept.
        rows: what is known of metrics.

    Returns:
        ``axes``; ``cells``: of each ``name``, ``values``, ``state``, and ``reason`` where it has failed;
        ``left_out``, see :class:`Sweep`; ``leaderboard`` of the cells that are done, see
        :func:`transeg.core.evaluation.leaderboard.leaderboard`, or None where none is or nothing was measured.
    """
    cells = [
        {"name": cell.name, "values": cell.values, "state": state, "reason": cell.reason() if state == "failed" else ""}
        for cell in sweep.cells
        for state in [cell.state()]
    ]
    try:
        boards = leaderboard(leaderboard_entries([sweep.path]), rows=rows)
    except UsageError:
        boards = None
    return {"axes": sweep.axes, "cells": cells, "left_out": sweep.left_out, "leaderboard": boards}


def write_results(path: Path, found: dict[str, Any]) -> None:
    """Write ``results.json`` and, where there is a leaderboard, ``sweep.csv``."""
    write_json(path / "results.json", found)
    if found["leaderboard"] is not None:
        write_text(path / "sweep.csv", to_csv(found["leaderboard"]))
