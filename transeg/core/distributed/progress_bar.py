"""A progress bar in a terminal, a line elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from transeg.core.distributed.collectives import rank_and_world_size
from transeg.core.distributed.ranks import launched_rank_and_world_size


def progress_console(shown: bool) -> Console:
    """Where a program that calls the toolkit lets it show progress; of several processes, the first does."""
    return Console(stderr=True, quiet=not shown or launched_rank_and_world_size()[0] != 0)


@contextmanager
def progress_bar(console: Console, title: str, total: int, unit: str = "images") -> Iterator[Callable[[], None]]:
    """Give a function that advances by one, or of several ranks, which share the work, by one for each."""
    if not console.is_terminal:
        console.print(f"{title}: {total} {unit.removesuffix('s') if total == 1 else unit}")
        yield lambda: None
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, expand=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda: progress.advance(task, rank_and_world_size()[1])


class DownloadMeter:
    """A bar over bytes, whose total is known when the first come: what pooch asks of a progress bar."""

    def __init__(self, progress: Progress, title: str) -> None:
        self.total = 0
        self._progress = progress
        self._task = progress.add_task(title, total=None)

    def update(self, count: int) -> None:
        """So many bytes more."""
        self._progress.update(self._task, total=self.total, advance=count)

    def reset(self) -> None:
        """Begin anew."""
        self._progress.reset(self._task)

    def close(self) -> None:
        """Nothing more comes."""


@contextmanager
def download_meter(console: Console, title: str) -> Iterator[DownloadMeter]:
    """Give a meter that shows speed and time left in a terminal; elsewhere a line is printed."""
    if not console.is_terminal:
        console.print(f"downloading {title}", highlight=False)
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, expand=True, disable=not console.is_terminal) as progress:
        yield DownloadMeter(progress, title)
