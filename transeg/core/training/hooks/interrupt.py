"""Lets Ctrl-C and a scheduler's SIGTERM end a training between two iterations."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from transeg.core.distributed.collectives import any_rank
from transeg.core.distributed.ranks import parent_is_gone

logger = logging.getLogger("transeg.run")


class InterruptHook(Hook):
    """The first signal lets the iteration end and a checkpoint be written; a second one stops at once.

    A signal to one rank stops all after the same iteration.

    Attributes:
        asked: whether a signal came to this process.
        interrupted: whether training ends for one that came to any rank.
    """

    def __init__(self) -> None:
        self.asked = False
        self.interrupted = False
        self._previous: dict[signal.Signals, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Take the signals over; only a main thread can."""

        def stop(_number: int, _frame: FrameType | None) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True
            logger.warning("Stopping after this iteration; press Ctrl-C again to stop at once.")

        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, stop)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Stop where any rank has been asked to."""
        self.interrupted = any_rank(self.asked or parent_is_gone())
        if self.interrupted:
            runner.train_loop.stop_training = True

    def after_train(self, runner: Runner) -> None:
        """Stop, too, where that was asked for in the last validation, before anything else begins."""
        self.interrupted = any_rank(self.asked or self.interrupted)

    def after_run(self, runner: Runner) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
