"""The folder of a sweep, and what it says about each cell; nothing heavy is imported.

``SWEEP/sweep.toml`` is an experiment file with a table ``[sweep]`` of axes. Each combination of their values is a cell:
``SWEEP/cells/CELL/`` is an ordinary run folder with a few files more. What state a cell is in follows from what lies
there, so that any number of processes may ask.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transeg.core.errors import TransegError, UsageError
from transeg.core.experiment.settings import Settings, read_settings
from transeg.core.runs.run_folder import RunFolder, is_locked
from transeg.tools.sweep.grid import REPEATS, grid_points, parse_axes

State = Literal["done", "running", "failed", "waiting"]


@dataclass(frozen=True)
class Cell:
    """One combination of a sweep, and the run that it becomes.

    Attributes:
        name: stable; that of its folder.
        values: the label of its value on each axis.
        settings: what it lays over the settings of all cells.
        folder: of the run.
    """

    name: str
    values: dict[str, str]
    settings: Settings
    folder: RunFolder

    @property
    def combination(self) -> str:
        """The name without what is repeated, such as seeds; '' where nothing else distinguishes cells."""
        return "_".join(label for axis, label in self.values.items() if axis not in REPEATS)

    @property
    def definition(self) -> Path:
        """The complete experiment that its process is given."""
        return self.folder.path / "cell.toml"

    @property
    def log(self) -> Path:
        """What its processes have printed."""
        return self.folder.path / "log.txt"

    @property
    def failure(self) -> Path:
        """Says why its last process failed; else it is not there."""
        return self.folder.path / "failure.json"

    @property
    def claim(self) -> Path:
        """Locked by the process of `toolkit sweep` that takes care of the cell."""
        return self.folder.path / ".claim"

    @property
    def shared(self) -> Path:
        """Where the sweep's cells note which trainings they have in common."""
        return self.folder.path.parent.parent / "stages"

    def state(self) -> State:
        """What has become of it by now."""
        if self.folder.metrics.exists():
            return "done"
        if is_locked(self.claim) or is_locked(self.folder.lock):
            return "running"
        return "failed" if self.failure.exists() else "waiting"

    def orphaned(self) -> bool:
        """Whether it is trained by a process that no sweep takes care of."""
        return self.state() == "running" and not is_locked(self.claim)

    def reason(self) -> str:
        """Why it failed, in a sentence; '' where it has not.

        Raises:
            TransegError: the file that says so is damaged.
        """
        try:
            return str(json.loads(self.failure.read_text(encoding="utf-8"))["reason"])
        except FileNotFoundError:
            return ""
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TransegError(f"{self.failure} cannot be read: {error}; delete it.") from error


@dataclass(frozen=True)
class Sweep:
    """A sweep as its folder defines it.

    Attributes:
        path: of the folder.
        base: settings that all cells share, as in an experiment file.
        axes: the labels of each axis's values.
        cells: all combinations but those that were left out, the last axis varying fastest.
        left_out: why combinations were, by the names that their cells would have.
    """

    path: Path
    base: Settings
    axes: dict[str, list[str]]
    cells: list[Cell]
    left_out: dict[str, str]

    def combinations(self) -> dict[str, list[Cell]]:
        """The cells that differ in seed and fold alone, by the name that they share."""
        found: dict[str, list[Cell]] = {}
        for cell in self.cells:
            found.setdefault(cell.combination or self.path.resolve().name, []).append(cell)
        return found


def definition_path(path: Path) -> Path:
    """The file that makes a folder that of a sweep."""
    return path / "sweep.toml"


def left_out_path(path: Path) -> Path:
    """The file that says which combinations were left out, and why; it is not there where none were."""
    return path / "left_out.json"


def is_sweep(path: Path) -> bool:
    """Whether a folder is that of a sweep."""
    return definition_path(path).is_file()


def read_sweep(path: Path) -> Sweep:
    """Read the folder of a sweep.

    Raises:
        UsageError: it is none, or what defines it cannot be read.
    """
    if not is_sweep(path):
        raise UsageError(f"{path} is not a sweep: it has no sweep.toml.")
    settings = read_settings(definition_path(path))
    return build_sweep(path, settings, _left_out(left_out_path(path)))


def build_sweep(path: Path, settings: Settings, left_out: dict[str, str]) -> Sweep:
    """The sweep that an experiment file with a table ``[sweep]`` defines.

    Raises:
        UsageError: it defines none.
    """
    table = settings.get("sweep")
    if not isinstance(table, dict) or not table:
        raise UsageError(
            'There is no axis to sweep; repeat an option, as in --seed 0 --seed 1, or write [sweep] "train.lr" = [...] '
            "into the experiment file."
        )
    axes = parse_axes(table)
    cells = [
        Cell(point.name, point.labels, point.settings, RunFolder(path / "cells" / point.name))
        for point in grid_points(axes)
        if point.name not in left_out
    ]
    base = {key: value for key, value in settings.items() if key != "sweep"}
    return Sweep(path, base, {axis: list(labels) for axis, labels in axes.items()}, cells, left_out)


def _left_out(path: Path) -> dict[str, str]:
    try:
        return {str(name): str(reason) for name, reason in json.loads(path.read_text(encoding="utf-8")).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error
