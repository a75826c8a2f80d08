"""The training step that all tasks share: drive the phases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from mmengine.optim import OptimWrapperDict
from torch import Tensor, nn

from transeg.core.distributed import average_gradients
from transeg.core.forward import scaled
from transeg.core.inference import Forward, Inference
from transeg.core.interfaces import Batch, Optimization, Phase


class Task(nn.Module, ABC):
    """Networks that are trained together, and the phases of one training step.

    Attributes:
        iteration: iterations done; the runner counts.
        iterations: length of the training.
        inference: how validation images reach the networks: in windows, or whole and those of a batch alike in size.
    """

    iteration: int = 0
    iterations: int = 1
    inference: Inference = Inference(None)

    @property
    def progress(self) -> float:
        """Share of the training that is done, in [0, 1)."""
        return self.iteration / self.iterations

    @abstractmethod
    def optimizers(self) -> dict[str, Optimization]:
        """New optimizers for all that is trained, by name."""

    @abstractmethod
    def phases(self, batch: Batch) -> Iterator[Phase]:
        """One training step; see :meth:`transeg.core.interfaces.Generator.phases`."""

    @abstractmethod
    def val_step(self, items: Any) -> list[Tensor]:
        """What a metric judges, on the CPU, for each item; mmengine's validation loop calls it."""

    def validate(self, forward: Forward, images: Sequence[Tensor]) -> list[Tensor]:
        """``forward`` of validation images ``(C, h, w)``, each ``(K, h, w)`` on the CPU."""
        device = next(self.parameters()).device
        if self.inference.window:
            return [self.inference.run(forward, image, device) for image in images]
        return list(forward(torch.stack([scaled(image, device) for image in images]), None).float().cpu())

    def before_iteration(self) -> None:
        """Called with ``iteration`` up to date, before a training step; nothing by default."""

    def train_step(self, batch: Batch, optim_wrapper: OptimWrapperDict) -> dict[str, Tensor]:
        """Drive one training step.

        The backward of a phase reaches the parameters of its optimizers alone, so nothing needs to be frozen.

        Returns:
            Every loss of every phase, detached.
        """
        batch = to_device(batch, next(self.parameters()).device)
        losses: dict[str, Tensor] = {}
        for phase in self.phases(batch):
            wrappers = [optim_wrapper[name] for name in phase.optimizers]
            parameters = [p for wrapper in wrappers for group in wrapper.param_groups for p in group["params"]]
            total = torch.stack([loss.float() for loss in phase.losses.values()]).sum()
            total.backward(inputs=parameters)
            average_gradients(parameters)
            for wrapper in wrappers:
                wrapper.step()
                wrapper.zero_grad()
            losses.update({name: loss.detach() for name, loss in phase.losses.items()})
        return losses


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device, its images scaled to [-1, 1]."""
    return replace(
        batch,
        source=scaled(batch.source, device),
        source_mask=None if batch.source_mask is None else batch.source_mask.to(device, torch.long, non_blocking=True),
        target=None if batch.target is None else scaled(batch.target, device),
        instances=None if batch.instances is None else batch.instances.to(device, non_blocking=True),
    )
