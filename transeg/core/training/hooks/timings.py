"""Notes where the seconds of a training go."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from transeg.core.runs.run_folder import RunFolder
from transeg.core.runs.timings import add_seconds


class TimingsHook(Hook):
    """Notes them at each validation, each checkpoint and at the end: a kill loses those since.

    A GPU works asynchronously and is never waited for here; what it still had to do when a validation or a
    picture begins counts there.

    Args:
        run: whose ``times.json`` it is.
        part: the training.
    """

    def __init__(self, run: RunFolder, part: RunFolder) -> None:
        self._run = run
        self._part = part
        self._noted = self._waited = self._validating = 0.0
        self._beside: dict[str, float] = {}

    @contextmanager
    def measuring(self, what: str) -> Iterator[None]:
        """What happens inside is not training."""
        begin = time.perf_counter()
        yield
        self._spent(what, time.perf_counter() - begin)

    def before_train(self, runner: Runner) -> None:
        """Begin."""
        self._noted = time.perf_counter()

    def before_val(self, runner: Runner) -> None:
        """Begin a validation."""
        self._validating = time.perf_counter()

    def after_val(self, runner: Runner) -> None:
        """End it."""
        self._spent("validation", time.perf_counter() - self._validating)
        self._validating = 0.0
        self._note(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note, so that what a checkpoint continues from is accounted for."""
        if not self._validating:  # the best one is saved while a validation ends
            self._note(runner)

    def after_train(self, runner: Runner) -> None:
        """Note the rest."""
        self._note(runner)

    def _spent(self, what: str, seconds: float) -> None:
        self._beside[what] = self._beside.get(what, 0.0) + seconds

    def _note(self, runner: Runner) -> None:
        now, waited = time.perf_counter(), runner.train_loop.waited
        self._spent("waiting for data", waited - self._waited)
        training = max(0.0, now - self._noted - sum(self._beside.values()))
        add_seconds(self._run, self._part, {"training": training, **self._beside})
        self._noted, self._waited, self._beside = now, waited, {}
