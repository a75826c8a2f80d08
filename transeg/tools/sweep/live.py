"""The table of a sweep while it works: what is done, running, failed, waiting."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from transeg.tools.sweep.cell_progress import read_cell_progress
from transeg.tools.sweep.sweep_folder import Cell, State, Sweep

LINE_SECONDS, TABLE_SECONDS = 60.0, 2.0
"""At most one plain line about running cells in this time, and one new table: each asks the locks of all cells."""
COLOURS: dict[State, str] = {"done": "green", "running": "cyan", "failed": "red", "waiting": "dim"}


class LiveTable:
    """Keeps a table up to date in a terminal; elsewhere prints a line where a cell begins or ends.

    Args:
        sweep: the sweep.
        console: where to.
    """

    def __init__(self, sweep: Sweep, console: Console) -> None:
        self._sweep = sweep
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._last = time.monotonic() if self._live is None else -TABLE_SECONDS

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def begun(self, cell: Cell) -> None:
        """Say that a cell is being trained."""
        self._say(f"{cell.name} begins")

    def ended(self, cell: Cell) -> None:
        """Say what became of it."""
        state = cell.state()
        self._say(
            f"{cell.name} {'stopped' if state == 'waiting' else state}{': ' if cell.reason() else ''}{cell.reason()}"
        )

    def stopping(self) -> None:
        """Say that a signal came."""
        self._console.print("[yellow]Stopping after this iteration; press Ctrl-C again to stop at once.[/]")

    def update(self) -> None:
        """Look at all cells, where it is time to."""
        if time.monotonic() - self._last < (LINE_SECONDS if self._live is None else TABLE_SECONDS):
            return
        states = cell_states(self._sweep)
        if self._live is not None:
            self._last = time.monotonic()
            shown = [cell for cell in self._sweep.cells if states[cell.name] in ("running", "failed")]
            self._live.update(Group(build_table(shown, states), format_counts(states)), refresh=True)
        else:
            running = [
                f"{cell.name} {_how_far(cell)[0]}" for cell in self._sweep.cells if states[cell.name] == "running"
            ]
            self._say(f"{format_counts(states)} ({', '.join(running)})")

    def _say(self, line: str) -> None:
        if self._live is None:
            self._last = time.monotonic()
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)
        else:
            self._last = -TABLE_SECONDS  # the table shows it at once


def cell_states(sweep: Sweep) -> dict[str, State]:
    """The state of each cell."""
    return {cell.name: cell.state() for cell in sweep.cells}


def format_counts(states: dict[str, State]) -> str:
    """How many cells are in which state."""
    found = Counter(states.values())
    return ", ".join(f"{found[state]} {state}" for state in COLOURS if found[state])


def build_table(cells: Sequence[Cell], states: dict[str, State]) -> Table:
    """A line for each cell."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("cell", style="cyan", overflow="fold")
    shown.add_column("state", no_wrap=True)
    shown.add_column("iteration", justify="right", no_wrap=True)
    shown.add_column("speed", justify="right", no_wrap=True)
    shown.add_column("", overflow="fold")
    for cell in cells:
        state = states[cell.name]
        iteration, speed, stage = _how_far(cell) if state in ("running", "waiting") else ("", "", "")
        said = cell.reason() if state == "failed" else stage
        shown.add_row(
            cell.name, f"[{COLOURS[state]}]{state}[/]", iteration, speed if state == "running" else "", escape(said)
        )
    return shown


def _how_far(cell: Cell) -> tuple[str, str, str]:
    """Iterations done, their speed, and the stage, in words; nothing of a cell that has not begun."""
    now = read_cell_progress(cell.folder)
    if now is None:
        return "", "", ""
    speed = ""
    if now.speed is not None:
        speed = f"{now.speed:.1f}/s" if now.speed >= 1 else f"{1 / now.speed:.1f} s each"
    return f"{now.iteration}/{now.total}", speed, now.stage
