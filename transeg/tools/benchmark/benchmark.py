"""How fast segmenters are on the machine at hand, each measured in a process of its own."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from transeg.core.component_options import check_options
from transeg.core.device import pick_device
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import TransegError, UsageError, describe_exit_code
from transeg.core.experiment.settings import Settings, merge, parse_assignment
from transeg.core.registry import Registry
from transeg.tools.benchmark.speed import Speed, SpeedRequest, send_outcome


def benchmark_segmenters(
    names: Sequence[str],
    registry: Registry,
    console: Console,
    *,
    assignments: Sequence[str],
    size: int,
    batch: int | None,
    threads: int | None,
    device: str | None,
    train: bool,
) -> dict[str, Any]:
    """Measure segmenters, one after the other.

    Args:
        names: of segmenters; all that can be used where there is none.
        registry: where they come from.
        console: for progress.
        assignments: options of the segmenters that are named, ``segmenter.base=64``.
        size: see :class:`SpeedRequest`.
        batch: likewise; None for one image in inference, and two in training.
        threads: see :class:`SpeedRequest`.
        device: likewise; None for a GPU where there is one.
        train: see :class:`SpeedRequest`.

    Returns:
        ``size``, ``batch``, ``device``, ``train``, and ``segmenters``: for each one its ``name`` and what
        :class:`Speed` has, or ``error``, a sentence.

    Raises:
        UsageError: an unknown segmenter, option or device.
    """
    options = _options(assignments)
    if options and not names:
        raise UsageError("--set needs the name of the segmenter that it is for: toolkit benchmark NAME --set ...")
    chosen = {
        name: check_options(registry.load(registry.find("segmenter", name)), options, "segmenter") for name in names
    }
    chosen = chosen or {name: {} for name in _usable(registry)}
    batch = batch or (2 if train else 1)
    place = pick_device(device or "auto")
    rows: list[dict[str, Any]] = []
    with progress_bar(console, "measuring", len(chosen), "segmenters") as advance:
        for name, values in chosen.items():
            request = SpeedRequest(name, values, registry.files, size, batch, threads, place, train)
            try:
                rows.append({"name": name, **asdict(measure_in_subprocess(request))})
            except TransegError as error:
                rows.append({"name": name, "error": str(error)})
            advance()
    return {"size": size, "batch": batch, "device": place, "train": train, "segmenters": rows}


def _options(assignments: Sequence[str]) -> Settings:
    settings: Settings = {}
    for text in assignments:
        settings = merge(settings, parse_assignment(text))
    others = [key for key, value in settings.items() if key != "segmenter" or not isinstance(value, dict)]
    if others:
        raise UsageError(f"A benchmark has options of segmenters only, such as segmenter.base=64, not {others[0]}.")
    return dict(settings.get("segmenter", {}))


def _usable(registry: Registry) -> list[str]:
    found = [component for component in registry.components("segmenter") if component.status in ("ok", "conflict")]
    return [c.name if c.status == "ok" else f"{c.package}:{c.name}" for c in found]


def measure_in_subprocess(request: SpeedRequest) -> Speed:
    """Measure in a fresh process, so that peak memory is one segmenter's and a crash ends nothing else.

    Raises:
        TransegError: it failed there.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=send_outcome, args=(request, sender), daemon=True)
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child inherits it: Ctrl-C is for this process
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, handler)
    sender.close()
    try:
        found: Speed | str = receiver.recv()
    except EOFError:
        process.join()
        found = describe_exit_code(process.exitcode or 0)
    finally:
        process.kill()
        process.join()
    if isinstance(found, str):
        raise TransegError(f"{request.segmenter} cannot be measured: {found.removesuffix('.')}.")
    return found
