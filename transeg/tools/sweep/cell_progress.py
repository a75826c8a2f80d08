"""How far the training of a cell is, from the files that it writes."""

from __future__ import annotations

from dataclasses import dataclass

from transeg.core.errors import UsageError
from transeg.core.experiment.settings import read_settings
from transeg.core.runs.history import read_scalars
from transeg.core.runs.run_folder import RunFolder

TAIL = 8192
"""Bytes of the end of a file of scalars that are read."""


@dataclass(frozen=True)
class CellProgress:
    """Of a training.

    Attributes:
        stage: of several that make a run, such as ``fold-1``; '' for one alone.
        iteration: the last one that was noted.
        total: how many there will be.
        speed: iterations in a second; None before any was noted.
    """

    stage: str
    iteration: int
    total: int
    speed: float | None


def read_cell_progress(folder: RunFolder) -> CellProgress | None:
    """How far a run is; None before its training has begun."""
    files = [path for pattern in ("", "*/", "*/*/") for path in folder.path.glob(f"{pattern}{folder.scalars.name}")]
    try:
        newest = max(files, key=lambda path: path.stat().st_mtime)
        total = read_settings(folder.experiment)["train"]["iterations"]
        lines = read_scalars(newest, TAIL)
    except (OSError, ValueError, KeyError, UsageError):  # nothing has begun, or a file is being written
        return None
    speeds = [line["seconds_per_iteration"] for line in lines if line.get("seconds_per_iteration")]
    stage = str(newest.parent.relative_to(folder.path))
    return CellProgress(
        "" if stage == "." else stage,
        max((int(line["iteration"]) for line in lines), default=0),
        total,
        1 / speeds[-1] if speeds else None,
    )
