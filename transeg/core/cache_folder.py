"""Where things are kept that can be obtained again."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder(name: str) -> Path:
    """A folder below TRANSEG_CACHE, or below the user's folder for caches; it need not exist."""
    return Path(os.environ.get("TRANSEG_CACHE") or user_cache_path("transeg", appauthor=False), name).absolute()
