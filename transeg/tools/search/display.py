"""What a search shows while it runs: a bar over the trials and one over the present trial, or a line for each."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Display:
    """Bars in a terminal, which lines about ended trials pass by.

    Args:
        console: where to.
        trials: in all.
    """

    def __init__(self, console: Console, trials: int) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            expand=True,
            disable=not console.is_terminal,
        )
        self._search = self._progress.add_task("search", total=trials, note="")
        self._trial = self._progress.add_task("", total=None, visible=False, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def trials(self, done: int, note: str) -> None:
        """So many trials have ended, with the best so far."""
        self._progress.update(self._search, completed=done, note=note)

    def training(self, title: str, done: int, iterations: int, note: str) -> None:
        """Where the present trial is."""
        self._progress.update(self._trial, description=title, total=iterations, completed=done, note=note, visible=True)

    def say(self, line: str) -> None:
        """Leave a line."""
        self._progress.update(self._trial, visible=False)
        self._console.print(escape(line), highlight=False, soft_wrap=not self._console.is_terminal)


class DisplayHook(Hook):
    """Keeps the bar of a trial up to date.

    Args:
        display: that has it.
        title: of the training.
        metric: of the validation, that is shown beside it.
    """

    def __init__(self, display: Display, title: str, metric: str) -> None:
        self._display = display
        self._title = title
        self._metric = metric
        self._note = ""

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Advance."""
        self._display.training(self._title, batch_idx + 1, runner.max_iters, self._note)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Note the metric."""
        value = (metrics or {}).get(f"val/{self._metric}")
        self._note = "" if value is None else f"{self._metric} {value:.3f}"
