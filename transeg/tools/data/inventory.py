"""Which datasets there are, under which terms, and which of them are on this machine; read without importing any."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from transeg.core.errors import UsageError
from transeg.core.manifest import DatasetEntry
from transeg.core.registry import Registry


def data_root(root: Path | None) -> Path | None:
    """The folder that holds a folder for each dataset: the one that is said, else TRANSEG_DATA."""
    said = root or os.environ.get("TRANSEG_DATA")
    return Path(said).expanduser().resolve() if said else None


def require_data_root(root: Path | None) -> Path:
    """The same, where there must be one.

    Raises:
        UsageError: there is none.
    """
    found = data_root(root)
    if found is None:
        raise UsageError("Say where datasets are kept with --root FOLDER, or set TRANSEG_DATA to that folder.")
    return found


def inventory(registry: Registry, root: Path | None) -> list[dict[str, Any]]:
    """A row for each dataset: ``name``, ``summary``, ``licence``, ``size``, ``url``, ``folder``, ``present``,
    ``download``: whether `toolkit data download` can fetch it.
    """
    base = data_root(root)
    rows = []
    for component in registry.components("dataset"):
        assert isinstance(component.entry, DatasetEntry)
        folder = base / component.name if base else None
        rows.append(
            {
                "name": component.name,
                "summary": component.entry.summary,
                "licence": component.entry.licence,
                "size": component.entry.size,
                "url": component.entry.url,
                "folder": str(folder) if folder else None,
                "present": folder is not None and is_nonempty_folder(folder),
                "download": bool(component.entry.archives),
            }
        )
    return rows


def is_nonempty_folder(folder: Path) -> bool:
    """Whether it is a folder that holds something."""
    return folder.is_dir() and any(folder.iterdir())
