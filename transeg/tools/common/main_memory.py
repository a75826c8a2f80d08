"""How much main memory there is."""

from __future__ import annotations

import os
from pathlib import Path


def main_memory() -> tuple[int | None, int | None]:
    """Bytes in all and available, as far as the system says."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        names = getattr(os, "sysconf_names", {})
        known = {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(names)
        return (os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else None), None
    kibibytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    available = kibibytes.get("MemAvailable")
    return kibibytes["MemTotal"] * 1024, None if available is None else available * 1024
