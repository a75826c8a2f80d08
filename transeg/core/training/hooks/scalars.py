"""Losses, rates and validation metrics over time: JSON lines, trackers, message hub."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner
from torch import Tensor

from transeg.core.errors import TransegError
from transeg.core.files import write_text
from transeg.core.runs.history import read_scalars
from transeg.core.training.trackers import Trackers

HISTORY = 100
"""Values that the message hub keeps of each scalar; mmengine would copy a million for every new one."""


class ScalarsHook(Hook):
    """Writes the mean of each loss over an interval, so that a GPU is waited for only once in it.

    It is the mean over the iterations that had the loss: some come rarely, and fp16 may leave out others.

    Args:
        path: the JSON-lines file; each line has ``iteration`` (iterations done) and scalars by name.
        trackers: get the same scalars.
        interval: iterations between two lines.
    """

    def __init__(self, path: Path, trackers: Trackers, interval: int) -> None:
        self._path = path
        self._trackers = trackers
        self._interval = interval
        self._sums: dict[str, Tensor] = {}
        self._counts: Counter[str] = Counter()
        self._iterations = 0
        self._since = 0.0

    def before_train(self, runner: Runner) -> None:
        """Drop the lines of iterations that a resumed run does again."""
        if self._path.exists():
            kept = [line for line in read_scalars(self._path) if line["iteration"] <= runner.iter]
            write_text(self._path, "".join(f"{json.dumps(line)}\n" for line in kept))
        self._since = time.perf_counter()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add what an interval has come to that has not ended yet."""
        sums = {name: value.cpu() for name, value in self._sums.items()}
        checkpoint["scalars"] = {"sums": sums, "counts": dict(self._counts)}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Go on within the interval; checkpoints of earlier releases do not know it."""
        device = next(runner.model.parameters()).device
        begun = checkpoint.get("scalars", {"sums": {}, "counts": {}})
        self._sums = {name: value.to(device) for name, value in begun["sums"].items()}
        self._counts = Counter(begun["counts"])

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        """Add up, and write where an interval ends."""
        for name, value in (outputs or {}).items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] += 1
        self._iterations += 1
        done = batch_idx + 1
        if done % self._interval and done != runner.max_iters:
            return
        means = {f"train/{name}": float(value) / self._counts[name] for name, value in self._sums.items()}
        rates = {f"lr/{name}": values[0] for name, values in _rates(runner).items()}
        now = time.perf_counter()
        speed = {"seconds_per_iteration": (now - self._since) / self._iterations}
        self._sums, self._counts, self._iterations, self._since = {}, Counter(), 0, now
        self._write(runner, done, {**means, **rates, **speed})

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Write the validation metrics; the time they took does not count as training."""
        self._write(runner, runner.iter, {key: value for key, value in (metrics or {}).items() if value is not None})
        self._since = time.perf_counter()

    def _write(self, runner: Runner, iteration: int, scalars: dict[str, float]) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"iteration": iteration, **scalars}) + "\n")
        except OSError as error:
            raise TransegError(f"{self._path} cannot be written: {error.strerror}.") from error
        self._trackers.scalars(scalars, iteration)
        for name, value in scalars.items():
            runner.message_hub.log_scalars.setdefault(name, HistoryBuffer(max_length=HISTORY))
            runner.message_hub.update_scalar(name, value)


def _rates(runner: Runner) -> dict[str, list[float]]:
    return {name: [group["lr"] for group in wrapper.param_groups] for name, wrapper in runner.optim_wrapper.items()}
