"""How this process gets its memory from the C library."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Parameters of mallopt(3)."""


def keep_freed_memory() -> bool:
    """Reuse freed tensors of any size, which a CPU frees and needs again in every step of a training, for every image.

    The GNU C library maps each block above 32 MB anew and gives it back when it is freed, so that the kernel clears
    every page of it in every step: a quarter of the time of a CUT step (docs/decisions/allocation.md).

    Returns:
        Whether this process has that library, and it took the settings.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, -1))
