"""Keeps the task's clock and the learning rates."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from transeg.core.training.tasks.task import Task


class ScheduleHook(Hook):
    """Tells the task the iteration, and sets each learning rate to its initial value times its schedule's factor.

    Nothing is counted here, so nothing needs to be resumed.
    """

    priority = "VERY_HIGH"

    def __init__(self, task: Task) -> None:
        self._task = task
        self._optimizations = task.optimizers().values()
        self._initial = [[group["lr"] for group in o.optimizer.param_groups] for o in self._optimizations]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set the clock and the rates."""
        self._task.iteration, self._task.iterations = batch_idx, runner.max_iters
        self._task.before_iteration()
        for optimization, initial in zip(self._optimizations, self._initial, strict=True):
            factor = optimization.schedule(self._task.progress)
            for group, rate in zip(optimization.optimizer.param_groups, initial, strict=True):
                group["lr"] = rate * factor
