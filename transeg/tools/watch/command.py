"""The command `toolkit watch`, imported when it is called."""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from transeg.core.registry import Registry
from transeg.tools.common.options import run_dir, with_registry

if TYPE_CHECKING:
    from transeg.tools.watch.run_progress import RunProgress, StageProgress

SECONDS = 1.0
"""Between two looks at the folder."""
LINE_SECONDS = 15.0
"""At most one plain line in so much time, but for validations."""
BARS = "▁▂▃▄▅▆▇█"


@click.command()
@run_dir
@with_registry
def watch(registry: Registry, run_dir: Path) -> None:
    """Follow the training in the run folder RUN.

    Shows losses, learning rates, speed, time left, validation and the latest picture, and waits where the run has not
    begun yet. It ends when the run does, with the exit code 1 where that is not finished; Ctrl-C leaves the run alone.

    \b
    toolkit watch runs/mine
    """
    from transeg.tools.watch.run_progress import read_progress

    console = Console()
    read = partial(read_progress, run_dir, registry)
    try:
        progress = (_live if console.is_terminal else _lines)(run_dir, read, console)
    except KeyboardInterrupt:
        console.print("No longer watching; the run is left alone.", highlight=False)
        return
    if progress.state == "finished":
        console.print(f"The run has finished: {run_dir}", highlight=False, soft_wrap=True)
        console.print(f"Its report: toolkit report {run_dir} -o report.html", highlight=False, soft_wrap=True)
        return
    console.print("The run has stopped before its end.", highlight=False)
    console.print(f"Go on with: toolkit run --run-dir {run_dir} --resume", highlight=False, soft_wrap=True)
    sys.exit(1)


def _live(run_dir: Path, read: Callable[[], RunProgress], console: Console) -> RunProgress:
    progress = read()
    with Live(_view(run_dir, progress, console.width), console=console, auto_refresh=False) as live:
        while progress.state in ("running", "not begun"):
            time.sleep(SECONDS)
            progress = read()
            live.update(_view(run_dir, progress, console.width), refresh=True)
    return progress


def _lines(run_dir: Path, read: Callable[[], RunProgress], console: Console) -> RunProgress:
    progress = read()
    said, when = ("", 0, 0), -LINE_SECONDS
    if progress.state == "not begun":
        console.print(f"waiting for a run to begin in {run_dir}", highlight=False, soft_wrap=True)
    while True:
        stage = progress.current
        ended = progress.state in ("finished", "stopped")
        if stage is not None:
            news = stage.title, stage.done, len(stage.scores)
            validated = news[::2] != said[::2]
            if news != said and (validated or ended or time.monotonic() - when >= LINE_SECONDS):
                console.print(_line(stage, progress.batch_size), highlight=False, soft_wrap=True, markup=False)
                said, when = news, time.monotonic()
        if ended:
            return progress
        time.sleep(SECONDS)
        progress = read()


def _line(stage: StageProgress, batch_size: int) -> str:
    losses = "  ".join(f"{name} {values[-1]:.4g}" for name, values in stage.losses.items())
    score = f"val Dice {stage.scores[-1][1]:.3f} at {stage.scores[-1][0]}" if stage.scores else ""
    parts = [f"{stage.title}: {stage.done}/{stage.total}", _speed(stage, batch_size), _left(stage), losses, score]
    return "  ".join(part for part in parts if part)


def _view(run_dir: Path, progress: RunProgress, width: int) -> RenderableType:
    """The whole picture; a narrow terminal gets shorter trends."""
    if progress.state == "not begun":
        return Text(f"Waiting for a run to begin in {run_dir} ...", style="dim")
    parts: list[RenderableType] = [_stages(progress)]
    if progress.current is not None:
        parts += ["", _facts(progress.current, progress.batch_size), "", _losses(progress.current, width)]
    return Group(*parts)


def _stages(progress: RunProgress) -> Table:
    """A bar for each training."""
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(overflow="fold", max_width=28)
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True)
    for stage in progress.stages:
        style = "bold" if stage is progress.current else "" if stage.done else "dim"
        bar = ProgressBar(total=stage.total, completed=stage.done)
        table.add_row(Text(stage.title, style), bar, Text(f"{stage.done:,}/{stage.total:,}", style))
    return table


def _facts(stage: StageProgress, batch_size: int) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    best = stage.best
    rates = "  ".join(f"{name} {rate:.3g}" for name, rate in stage.rates.items())
    rows = {
        "speed": _speed(stage, batch_size),
        "time": _left(stage),
        "learning rates": rates,
        "validation": f"Dice {stage.scores[-1][1]:.3f} at {stage.scores[-1][0]:,}" if stage.scores else "",
        "best": f"Dice {best[1]:.3f} at {best[0]:,}" if best else "",
        "picture": str(stage.preview or ""),
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, escape(value))
    return table


def _losses(stage: StageProgress, width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("loss", overflow="fold")
    table.add_column("now", justify="right", no_wrap=True)
    table.add_column("over time", no_wrap=True)
    room = max(8, min(60, width - 40))
    shown = {**stage.losses, **({"val Dice": [dice for _, dice in stage.scores]} if stage.scores else {})}
    for name, values in shown.items():
        table.add_row(escape(name), f"{values[-1]:.4g}", Text(sparkline(values, room), style="cyan"))
    return table


def sparkline(values: Sequence[float], room: int) -> str:
    """A bar for each value, or for the mean of as many as must share one, between the smallest and the largest.

    What is not finite, as the last loss of a training that broke, is left empty.
    """
    count = min(room, len(values))
    ends = [index * len(values) // count for index in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(ends)]
    finite = [mean for mean in means if math.isfinite(mean)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    steps = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((mean - low) * steps)] if math.isfinite(mean) else " " for mean in means)


def _speed(stage: StageProgress, batch_size: int) -> str:
    if not stage.seconds_per_iteration:
        return ""
    rate = 1 / stage.seconds_per_iteration
    shown = f"{rate:.2f} it/s" if rate >= 1 else f"{stage.seconds_per_iteration:.2f} s/it"
    return f"{shown}, {rate * batch_size:.3g} images/s"


def _left(stage: StageProgress) -> str:
    if stage.left is None or stage.done == stage.total:
        return ""
    minutes, seconds = divmod(round(stage.left), 60)
    hours, minutes = divmod(minutes, 60)
    shown = f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
    return f"about {shown} left"
