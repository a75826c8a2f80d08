"""Cores, memory and descriptors that are there for a run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from transeg.core.device import available_cores
from transeg.tools.common.control_groups import core_limit, memory_limit
from transeg.tools.common.main_memory import main_memory
from transeg.tools.doctor.finding import Finding, in_gib

FEW_DESCRIPTORS = 1024
"""What Linux usually gives; with 256, a few loading workers get along, but not many."""
LITTLE_MEMORY = 4 * 2**30
"""Bytes below which published sizes are likely not to fit."""
SMALL_SHARED_MEMORY = 2**29
"""Bytes; containers have 64 MiB unless they are told otherwise."""
SHARED_MEMORY = Path("/dev/shm")


def check_cores() -> Finding:
    """Processor cores that this process may use, and how many threads PyTorch will start on them."""
    cores, quota = available_cores(), core_limit()
    usable = cores if quota is None else max(1, min(cores, round(quota)))
    found = f"{cores} of the machine's {os.cpu_count()} cores are there for this process"
    if quota is not None and quota < cores:
        found += f", which the container or job limits to the work of {quota:.3g}"
    said = os.environ.get("OMP_NUM_THREADS")
    if said is None and usable < cores:
        return Finding(
            "cores",
            "note",
            f"{found}. PyTorch does not see this limit and starts {cores} threads, which wait for each other.",
            f"Set OMP_NUM_THREADS={usable}.",
        )
    if said is None:
        return Finding("cores", "ok", f"{found}. OMP_NUM_THREADS is not set, so PyTorch chooses how many to use.")
    found += f". OMP_NUM_THREADS is {said}."
    if said.isdigit() and int(said) == usable:
        return Finding("cores", "ok", found)
    if said.isdigit() and 0 < int(said) < usable:
        return Finding("cores", "note", f"{found} A run on the CPU uses no more.", "Unset it to use all cores.")
    return Finding("cores", "note", found, f"Set OMP_NUM_THREADS={usable}, or unset it.")


def check_memory() -> Finding:
    """Main memory: all, what is available, and the limit of a container or job."""
    total, available = main_memory()
    if total is None:
        return Finding("memory", "ok", "How much there is, this system does not say.")
    limit = memory_limit()
    found = f"{in_gib(total)}"
    if available is not None:
        found += f", {in_gib(available)} of it available"
    if limit is not None and limit < total:
        found += f"; the container or job is limited to {in_gib(limit)}"
    if min(size for size in (total, available, limit) if size is not None) < LITTLE_MEMORY:
        advice = "End what else needs memory, or make runs smaller: --set data.size=128 train.batch_size=2."
        return Finding("memory", "note", f"{found}. Trainings at published sizes may not fit.", advice)
    return Finding("memory", "ok", f"{found}.")


def check_shared_memory() -> Finding:
    """Where loading workers put batches on Linux."""
    if not SHARED_MEMORY.is_dir():
        return Finding("shared memory", "ok", f"This system has no {SHARED_MEMORY}, and needs none.")
    usage = shutil.disk_usage(SHARED_MEMORY)
    found = f"{SHARED_MEMORY} has {in_gib(usage.total)}, {in_gib(usage.free)} of it free"
    if usage.free < SMALL_SHARED_MEMORY:
        advice = "Start the container with --shm-size=2g, or load in the run's own process: --set data.workers=0."
        return Finding("shared memory", "note", f"{found}; loading workers put batches there and may not fit.", advice)
    return Finding("shared memory", "ok", f"{found}.")


def check_descriptors() -> Finding:
    """Files that a process may have open at a time; each batch of a loading worker is one, too."""
    try:
        import resource
    except ImportError:
        return Finding("open files", "ok", "This system has no limit that a process could ask for.")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return Finding("open files", "ok", "A process may open any number.")
    found = f"A process may open {soft:,} at a time"
    if soft >= FEW_DESCRIPTORS:
        return Finding("open files", "ok", f"{found}.")
    allowed = FEW_DESCRIPTORS * 4 if hard == resource.RLIM_INFINITY else min(hard, FEW_DESCRIPTORS * 4)
    advice = f"ulimit -n {allowed}" if allowed > soft else "Ask for more where this is set, or take few data.workers."
    return Finding("open files", "note", f"{found}, which may be few for many loading workers.", advice)
