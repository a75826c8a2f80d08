"""Keeps moving averages of weights while a training runs."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from transeg.core.models.ema import EMA


class EMAHook(Hook):
    """Updates averages after each iteration, saves them, and validates with them; the training sees none of them.

    Args:
        averages: of what is trained, or of parts of it.
        key: what checkpoints call them.
        validated: whether validations see the averages, and not the weights.
    """

    priority = "VERY_HIGH"  # before all that looks at the networks or saves them

    def __init__(self, averages: EMA, key: str = "averages", *, validated: bool = True) -> None:
        self._averages = averages
        self._key = key
        self._validated = validated

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Go on where the checkpoint was."""
        self._averages.load_state_dict(checkpoint.get(self._key, {}))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the averages."""
        checkpoint[self._key] = self._averages.state_dict()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Update the averages."""
        self._averages.update()

    def before_val_epoch(self, runner: Runner) -> None:
        """Put the averages into the networks."""
        if self._validated:
            self._averages.exchange()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Take them out again."""
        if self._validated:
            self._averages.exchange()
