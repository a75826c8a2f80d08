"""What this process computes on: its device, its cores, its memory."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import sys

from transeg.core.errors import UsageError


def available_cores() -> int:
    """Processor cores that are there for this process, which may be fewer than the machine has; one at least."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, allowed // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def check_device_name(name: str) -> None:
    """Whether a device could be called that, on whichever machine.

    Raises:
        UsageError: none is.
    """
    if not re.fullmatch(r"(auto|cpu|(cuda|mps|xpu)(:\d+)?)", name):
        raise UsageError(f"There is no device {name!r}; say cpu, cuda or cuda:0.")


def pick_device(name: str) -> str:
    """A device that is there; ``auto`` means a GPU where there is one.

    Raises:
        UsageError: there is no such device.
    """
    check_device_name(name)
    if name == "cpu":
        return name
    import torch  # only where its answer is needed: wrong options are to be reported before seconds of importing

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("--device cuda: this machine has no GPU that PyTorch can use; say --device cpu.")
    return name


def release_memory() -> None:
    """Free what nothing but cycles of references keeps, as mmengine's runners are, and give a GPU's memory back."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()


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
