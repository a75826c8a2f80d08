"""CSV files, whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from transeg.core.files import replacing


class CsvFiles(ExitStack):
    """Files that grow as images come, and get their names when it is left."""

    def begin(self, path: Path, header: Sequence[str]) -> Any:
        """A writer of rows into a new file, whose first row is written."""
        unfinished = self.enter_context(replacing(path))
        writer = csv.writer(self.enter_context(unfinished.open("w", newline="", encoding="utf-8")))
        writer.writerow(header)
        return writer
