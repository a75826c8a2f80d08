"""What a run was measured on: by itself, and afterwards, each time in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from transeg.core.runs.run_folder import RunFolder

LONGEST = 60
"""Characters of a folder's name that say which data it is of."""


def new_evaluation(folder: RunFolder, tests: Iterable[str]) -> Path:
    """A folder for another evaluation of a run, named after its test sets and the time in UTC."""
    names = "+".join(tests)[:LONGEST] or "evaluation"
    first = folder.evaluations / f"{names}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    place, number = first, 2
    while place.exists():
        place, number = first.with_name(f"{first.name}-{number}"), number + 1
    return place


def score_files(folder: Path) -> dict[str, Path]:
    """The CSV files of a run by test set: its own, and of other sets those of the newest evaluation.

    Args:
        folder: of a run, or one that holds CSV files itself.
    """
    run = RunFolder(folder)
    if not (run.evaluation.is_dir() or run.evaluations.is_dir()):
        return _tables(folder)
    later = sorted(run.evaluations.glob("*/"), key=lambda place: (place.stat().st_mtime_ns, place.name), reverse=True)
    found: dict[str, Path] = {}
    for place in (run.evaluation, *later):
        found = {**_tables(place), **found}
    return found


def is_later(path: Path) -> bool:
    """Whether a CSV file is of an evaluation after the run."""
    return path.parent.parent.name == RunFolder(path).evaluations.name


def _tables(place: Path) -> dict[str, Path]:
    """Of images that were segmented; those of a generator's are of another kind."""
    return {path.stem: path for path in sorted(place.glob("*.csv")) if not path.stem.endswith("-translation")}
