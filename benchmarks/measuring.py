"""What the benchmarks share: checkouts by name, processes of their own, what a side takes, medians and ranges."""

from __future__ import annotations

import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

CHECKOUTS = {
    "cut": "models/cut_model.py",
    "cut-seg": "models/harDMSEG.py",
    "pix2pix": "models/pix2pix_model.py",
    "syndiff": "backbones/ncsnpp_generator_adagn.py",
    "zh320": "models/model_registry.py",
    "hardnet-mseg": "lib/HarDMSEG.py",
    "revisit": "model.py",
}
"""Published code that is no package, and a file that a checkout of it has."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison, ready to be measured.

    Attributes:
        work: what is measured; it is done again and again.
        count: pieces in it, such as images; what is told is of each.
        warm_up: done once before; by default the work.
        outcome: numbers that are the same on both sides where both do the same, asked for after measuring.
    """

    work: Callable[[], object]
    count: int = 1
    warm_up: Callable[[], object] | None = None
    outcome: Callable[[], list[float]] | None = None


def checkouts(named: Sequence[str], known: Sequence[str] = tuple(CHECKOUTS)) -> dict[str, Path]:
    """The folder of each reference that the command line names as ``NAME=DIR``."""
    found = {}
    for text in named:
        name, _, folder = text.partition("=")
        if name not in known:
            raise SystemExit(f"There is no reference {name!r}; there are {', '.join(known)}: --reference NAME=DIR.")
        if not (Path(folder) / CHECKOUTS[name]).exists():
            raise SystemExit(f"{folder or '(nothing)'} is not a checkout of {name}: it has no {CHECKOUTS[name]}.")
        found[name] = Path(folder).resolve()
    return found


def answer(line: Sequence[object], environment: Mapping[str, str] | None = None, seconds: float | None = None) -> Any:
    """What a Python process of its own prints as JSON.

    Args:
        line: its arguments, the script first.
        environment: variables that it gets besides.
        seconds: that it has; None for any number.

    Raises:
        RuntimeError: it failed; what it said goes to standard error.
        subprocess.TimeoutExpired: it was not done in time.
    """
    words = [sys.executable, *map(str, line)]
    variables = {**os.environ, **(environment or {})}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=variables, timeout=seconds)
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise RuntimeError((done.stderr.strip().splitlines() or ["killed"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def stdout_for_answers() -> TextIO:
    """Standard output, which nothing else reaches from now on: published code and libraries print."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def measure(side: Side, enough: float) -> dict[str, Any]:
    """Do the work once and then for as long as it takes to compute for ``enough`` seconds.

    Returns:
        ``processor`` and ``clock``, median seconds of a piece; ``bytes``, the process's peak memory; ``outcome``.
    """
    (side.warm_up or side.work)()
    processor: list[float] = []
    clock: list[float] = []
    while sum(processor) < enough or not processor:
        computed, begin = processor_time(), time.perf_counter()
        side.work()
        clock.append((time.perf_counter() - begin) / side.count)
        processor.append((processor_time() - computed) / side.count)
    return {
        "processor": statistics.median(processor),
        "clock": statistics.median(clock),
        "bytes": peak_memory(),
        "outcome": side.outcome() if side.outcome else None,
    }


def processor_time() -> float:
    """Seconds that this process, all its threads and the processes that it began and saw end have computed."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def peak_memory() -> int:
    """Bytes of this process, without PyTorch, which a side may do without."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found.group(1)) * 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def summary(values: Sequence[float], digits: int) -> str:
    """Median and, of several, range."""
    if not values:
        return ""
    span = f" ({min(values):.{digits}f}-{max(values):.{digits}f})" if len(values) > 1 else ""
    return f"{statistics.median(values):.{digits}f}{span}"
