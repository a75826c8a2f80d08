"""Keeps the teachers of a training where the student is."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from transeg.core.training.distillation import Distillation


class DistillationHook(Hook):
    """Moves the teachers to the student's device for the training.

    The terms themselves are the task's: a hook alone cannot reach the loss. Whoever made the distillation closes it,
    because mmengine calls no hook after a training that fails.
    """

    def __init__(self, distillation: Distillation) -> None:
        self._distillation = distillation

    def before_run(self, runner: Runner) -> None:
        """Move the teachers."""
        self._distillation.to_device(next(runner.model.parameters()).device)
