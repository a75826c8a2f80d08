"""What a run folder tells of a run, finished or not; reading it disturbs nothing and imports nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from transeg.core.runs.run_folder import RunFolder, is_locked

State = Literal["not begun", "running", "stopped", "finished"]


def run_state(folder: RunFolder) -> State:
    """Whether the run goes on: a process that trains into the folder holds its lock."""
    if is_locked(folder.lock):
        return "running"
    if folder.metrics.exists():
        return "finished"
    return "stopped" if folder.experiment.exists() else "not begun"


def read_scalars(path: Path, last: int | None = None) -> list[dict[str, float]]:
    """The lines of a ``metrics.jsonl``, without one that is being written or that a kill cut short; with
    ``last``, those in so many bytes at its end.
    """
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(0 if last is None else max(0, path.stat().st_size - last))
        texts = file.read().decode(errors="replace").splitlines()
    return [line for text in texts if (line := _parsed(text)) is not None]


def _parsed(text: str) -> dict[str, float] | None:
    try:
        line: Any = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and "iteration" in line else None


def scalar_series(lines: Sequence[dict[str, float]], name: str) -> tuple[list[int], list[float]]:
    """Iterations and values of one scalar."""
    found = [(int(line["iteration"]), line[name]) for line in lines if name in line]
    return [iteration for iteration, _ in found], [value for _, value in found]
