"""Stops a training whose losses or weights are no longer numbers."""

from __future__ import annotations

import math
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from transeg.core.distributed.collectives import all_gather, any_rank
from transeg.core.errors import TransegError

ADVICE = "The last checkpoint is from before; a lower learning rate (train.lr, generator.lr) usually helps."


class GuardHook(Hook):
    """Looks at every loss; on a GPU it only waits for the answer once in an interval, and before each checkpoint.

    A loss may be finite and its gradient not: then the step has broken the weights, and nothing shows before the next
    iteration. So all weights are looked at before a checkpoint takes them.

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
        broken = all_gather(_broken_weights(runner.model))
        if broken:
            raise TransegError(
                f"The weights {broken[0]} are not finite numbers after iteration {runner.iter}: a gradient was not. "
                f"{ADVICE}"
            )

    def _check(self, iteration: int) -> None:
        broken_here = self._worst is not None and not math.isfinite(float(self._worst))
        if any_rank(broken_here):  # asked on every rank, also where fp16 has skipped a step and left nothing to look at
            broken = all_gather([name for name, value in self._last.items() if not math.isfinite(float(value))])
            which = f"The loss {broken[0]} is not a finite number" if broken else "A loss was not a finite number"
            raise TransegError(f"{which} at iteration {iteration}. {ADVICE}")
        self._worst = None


@torch.no_grad()
def _broken_weights(network: nn.Module) -> list[str]:
    """Names of weights that are not all finite; a GPU is waited for once where all are."""
    weights = dict(network.named_parameters())
    sums = [values.float().sum() for values in weights.values()]
    if not sums or bool(torch.stack(sums).isfinite().all()):
        return []
    return [name for name, values in weights.items() if not values.isfinite().all()]
