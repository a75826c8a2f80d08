"""The table of what translation did to labels: a line for each image, written as it is translated."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from transeg.core.analysis.csv_files import CsvFiles
from transeg.core.data.listing import natural_sort_key
from transeg.core.evaluation.label_survival import LabelSurvival

COLUMNS = ["split", "name", "shift_rows", "shift_columns", "dice"]


class LabelTable:
    """A CSV file that grows by a line for each image, also of several processes, and stays whole when they are killed.

    Args:
        path: of the file; what is in it stays.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self) -> None:
        """Write the header, unless the file is there; of several processes, one does so before any adds a line."""
        if not self._path.exists():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._append(COLUMNS)
        elif not self._path.read_bytes().endswith(b"\n"):
            self._append([])

    def add(self, split: str, name: str, found: LabelSurvival) -> None:
        """Write a line; what is not known stays empty."""
        rows, columns = ("", "") if found.shift is None else (f"{value:.2f}" for value in found.shift)
        self._append([split, name, rows, columns, "" if found.dice is None else f"{found.dice:.4f}"])

    def finish(self) -> None:
        """Leave one line for each image, in natural order, however often and wherever the work was interrupted."""
        lines = self.read()
        with CsvFiles() as files:
            rows = files.begin(self._path, COLUMNS)
            rows.writerows([lines[name][column] for column in COLUMNS] for name in sorted(lines, key=natural_sort_key))

    def read(self) -> dict[str, Mapping[str, str]]:
        """The last line of each image, by split and name: one that was killed before its image was written has two."""
        with self._path.open(newline="") as file:
            lines = [line for line in csv.DictReader(file) if None not in {*line, *line.values()}]  # else cut off
        return {f"{line['split']}/{line['name']}": line for line in lines}

    def _append(self, cells: list[str]) -> None:
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerow(cells)


def worst_labels(lines: Mapping[str, Mapping[str, str]], share: float) -> set[str]:
    """The images whose labels fit worst: those that were found again least well, or else those shifted farthest.

    Args:
        lines: see :meth:`LabelTable.read`.
        share: of them, rounded down, in [0, 1).
    """

    def fits(name: str) -> tuple[float, float]:
        line = lines[name]
        shift = np.hypot(float(line["shift_rows"]), float(line["shift_columns"])) if line["shift_rows"] else 0.0
        return float(line["dice"] or 1), -float(shift)

    return set(sorted(lines, key=fits)[: int(share * len(lines))])


def describe_labels(lines: Mapping[str, Mapping[str, str]]) -> str:
    """What a table says in a sentence or two; nothing where it has no number."""
    shifts = {
        name: float(np.hypot(float(line["shift_rows"]), float(line["shift_columns"])))
        for name, line in lines.items()
        if line["shift_rows"]
    }
    dice = {name: float(line["dice"]) for name, line in lines.items() if line["dice"]}
    said = []
    if shifts:
        most = max(shifts, key=shifts.__getitem__)
        middle = np.median(list(shifts.values()))
        said.append(f"Shifted against their labels by {middle:.1f} pixels (median), {most} by {shifts[most]:.1f}.")
    if dice:
        least = min(dice, key=dice.__getitem__)
        middle = np.median(list(dice.values()))
        said.append(f"Labels found again with a Dice of {middle:.3f} (median), that of {least} with {dice[least]:.3f}.")
    return " ".join(said)
