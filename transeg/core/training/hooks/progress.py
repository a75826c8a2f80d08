"""Shows how far a training is: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 15.0
"""At most one plain line in this time."""


class ProgressHook(Hook):
    """A bar with speed, time left and the validation Dice, or a line now and then.

    Args:
        console: where to.
        title: of the training.
        later: iterations of the run's trainings that come after it. How fast these are is not known, so the time left
            for all is told as it would be at the speed of this one.
    """

    def __init__(self, console: Console, title: str, later: int) -> None:
        self._console = console
        self._title = title
        self._later = later
        self._dice = ""
        self._progress: Progress | None = None
        self._start = self._last_line = 0.0
        self._first = 0

    def before_train(self, runner: Runner) -> None:
        """Open the bar."""
        self._start = self._last_line = time.monotonic()
        self._first = runner.iter
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[speed]}"),
                TimeRemainingColumn(),
                TextColumn("left{task.fields[all]}"),
                TextColumn("{task.fields[dice]}"),
                console=self._console,
                transient=True,
                expand=True,
            )
            self._progress.start()
            self._progress.add_task(
                self._title, total=runner.max_iters, completed=runner.iter, speed="", all="", dice=""
            )
        else:
            self._console.print(f"{self._title}: {runner.max_iters} iterations")

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Advance."""
        done = batch_idx + 1
        now = time.monotonic()
        rate = (done - self._first) / max(1e-9, now - self._start)
        left = (runner.max_iters - done) / rate
        all_left = _of_all(left + self._later / rate) if self._later else ""
        speed = f"{rate:.2f} it/s" if rate >= 1 else f"{1 / rate:.2f} s/it"
        if self._progress is not None:
            (task,) = self._progress.task_ids
            self._progress.update(task, completed=done, speed=speed, all=all_left, dice=self._dice)
        elif now - self._last_line >= LINE_SECONDS or done == runner.max_iters:
            self._last_line = now
            line = f"{self._title}: {done}/{runner.max_iters}  {speed}  {left:.0f} s left{all_left}  {self._dice}"
            self._console.print(line.rstrip())

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Show the Dice."""
        dice = (metrics or {}).get("val/dice")
        self._dice = "" if dice is None else f"val Dice {dice:.3f}"

    def after_train(self, runner: Runner) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Give the terminal back, whatever happened."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _of_all(seconds: float) -> str:
    """What follows the time left of a training, where others come after it."""
    return f", all stages {timedelta(seconds=round(seconds))}"
