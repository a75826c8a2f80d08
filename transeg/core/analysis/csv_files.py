"""CSV files that grow as images come."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any


class CsvFiles(ExitStack):
    """Closes, when it is left, every file that it has begun."""

    def begin(self, path: Path, header: Sequence[str]) -> Any:
        """A writer of rows into a new file, whose first row is written."""
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = csv.writer(self.enter_context(path.open("w", newline="", encoding="utf-8")))
        writer.writerow(header)
        return writer
