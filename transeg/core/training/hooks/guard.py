"""Stops a training whose losses are no longer numbers."""

from __future__ import annotations

import math
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from transeg.core.distributed.collectives import all_gather, any_rank
from transeg.core.errors import TransegError


class GuardHook(Hook):
    """Looks at every loss; on a GPU it only waits for the answer once in an interval, and before each checkpoint.

    What is not finite on one rank is in the weights of all, so all stop.

    Args:
        interval: iterations between two looks on a GPU.
    """

    priority = "HIGH"

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._last: dict[str, Tensor] = {}
        self._worst: Tensor | None = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        """Note whether all losses are finite."""
        self._last = outputs or {}
        if self._last:
            total = torch.stack([value.float() for value in self._last.values()]).sum()
            self._worst = total if self._worst is None else self._worst + total
        on_cpu = next(runner.model.parameters()).device.type == "cpu"
        if on_cpu or (batch_idx + 1) % self._interval == 0:
            self._check(batch_idx + 1)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Never let a broken network overwrite a good checkpoint."""
        self._check(runner.iter)

    def _check(self, iteration: int) -> None:
        broken_here = self._worst is not None and not math.isfinite(float(self._worst))
        if any_rank(broken_here):  # asked on every rank, also where fp16 has skipped a step and left nothing to look at
            broken = all_gather([name for name, value in self._last.items() if not math.isfinite(float(value))])
            which = f"The loss {broken[0]} is not a finite number" if broken else "A loss was not a finite number"
            raise TransegError(
                f"{which} at iteration {iteration}. The last checkpoint is from before; a lower learning rate "
                f"(train.lr, generator.lr) usually helps."
            )
        self._worst = None
