"""Saves the last and the best state, and puts a saved one back."""

from __future__ import annotations

import time
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from transeg.core.distributed.collectives import any_rank


class CheckpointHook(Hook):
    """Writes ``last.pt`` at intervals and at the end, ``best.pt`` where a metric of the validation is highest.

    A checkpoint is taken before an iteration, after the validation of the one before, so that a resumed run neither
    repeats nor misses a validation.

    Args:
        interval: iterations between two checkpoints.
        metric: by which ``best.pt`` is chosen.
        minutes: between two checkpoints at most, but for the iteration that is under way; None for as long as it takes.
    """

    priority = "VERY_LOW"

    def __init__(self, interval: int, metric: str = "val/dice", minutes: float | None = None) -> None:
        self._interval = interval
        self._metric = metric
        self._minutes = minutes
        self._since = time.monotonic()
        self._saved = -1
        self.best_score = -1.0
        self.best_iteration = -1

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Remember what was best."""
        self._saved = checkpoint["iteration"]
        self.best_score = checkpoint["best"]["score"]
        self.best_iteration = checkpoint["best"]["iteration"]

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note what is best."""
        checkpoint["best"] = {"score": self.best_score, "iteration": self.best_iteration}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Save where an interval has ended, or the minutes have passed."""
        late = self._minutes is not None and any_rank(time.monotonic() - self._since >= 60 * self._minutes)
        if batch_idx and (late or batch_idx % self._interval == 0):
            self._save(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Save the best segmenter; a score that is undefined counts as zero. Generators are as good as their end."""
        if not metrics or self._metric not in metrics:
            return
        score = metrics[self._metric] or 0.0
        if score > self.best_score:
            self.best_score, self.best_iteration = score, runner.iter
            runner.save_best()

    def after_train(self, runner: Runner) -> None:
        """Save the end, or where a signal stopped the training; without validation, the end is the best."""
        self._save(runner)
        if self.best_iteration < 0 and runner.iter == runner.max_iters:
            runner.save_best()

    def _save(self, runner: Runner) -> None:
        if runner.iter != self._saved:
            runner.save_last()
            self._saved = runner.iter
            self._since = time.monotonic()
