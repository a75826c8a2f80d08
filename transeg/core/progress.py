"""A progress bar in a terminal, a line elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def bar(console: Console, title: str, total: int, unit: str = "images") -> Iterator[Callable[[], None]]:
    """Give a function that advances by one."""
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
        yield lambda: progress.advance(task)
