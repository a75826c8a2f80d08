"""The training step that all tasks share: drive the phases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn

from transeg.core.distributed.collectives import average_gradients, sharing
from transeg.core.errors import TransegError
from transeg.core.inference.sliding_window import Forward, Inference
from transeg.core.interfaces import Batch, Optimization, Phase, View
from transeg.core.models.ema import EMA
from transeg.core.models.forward import to_signed_unit
from transeg.core.training.tasks.updates import Updates, micro_batches, optimizer_parameters


class Task(nn.Module, ABC):
    """Networks that are trained together, and the phases of one training step.

    Attributes:
        iteration: iterations done; the runner counts.
        iterations: length of the training.
        inference: how validation images reach the networks: in windows, or whole and those of a batch alike in size.
        view: how the segmenter sees the images that it is validated on now.
        device: where it is trained.
        updates: how losses become steps.
        decays: names of submodules of which the training needs a moving average, each with how much of its average an
            iteration leaves, which short trainings shorten; validation and inference then use the average.
        averages: of what is averaged; the training puts it here. Until the first step it is empty.
    """

    iteration: int = 0
    iterations: int = 1
    inference: Inference = Inference(None)
    view: View = "source"
    device: torch.device = torch.device("cpu")
    decays: Mapping[str, float] = {}

    def __init__(self) -> None:
        super().__init__()
        self.updates = Updates()
        self.averages = EMA(self, {})

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
        """What a metric judges, where the networks are, for each item; mmengine's validation loop calls it."""

    def validate(self, forward: Forward, images: Sequence[Tensor]) -> list[Tensor]:
        """``forward`` of validation images ``(C, h, w)``, each ``(K, h, w)`` as :meth:`Inference.run` gives it."""
        if self.inference.window:
            return [self.inference.run(forward, image, self.device) for image in images]
        whole = torch.stack([to_signed_unit(image, self.device) for image in images])
        return list(forward(whole, None).float())

    def before_iteration(self) -> None:
        """Called with ``iteration`` up to date, before a training step; nothing by default."""

    def train_step(self, batch: Batch, optim_wrapper: OptimWrapperDict) -> dict[str, Tensor]:
        """Drive one training step: each phase of all micro-batches, then the step, then the next phase.

        Returns:
            Every loss of every phase, detached: means over the micro-batches. What is not a finite number is left out
            where the step was skipped because of it.

        Raises:
            TransegError: the phases of the micro-batches differ.
        """
        batch = to_device(batch, self.device, self.updates.memory_format)
        runs = [self.phases(part) for part in micro_batches(batch, self.updates.accumulation)]
        losses: dict[str, Tensor] = {}
        while True:
            optimizers, found = self._next_phase(runs, optim_wrapper)
            if not optimizers:
                return losses
            average_gradients([p for optimizer in optimizers.values() for p in optimizer_parameters(optimizer)])
            stepped = self.updates.step(optimizers)
            losses |= {name: loss for name, loss in found.items() if stepped or loss.isfinite()}

    def _next_phase(
        self, runs: Sequence[Iterator[Phase]], optim_wrapper: OptimWrapperDict
    ) -> tuple[dict[str, OptimWrapper], dict[str, Tensor]]:
        """Forward and backward of the next phase of every micro-batch: its optimizers, and the means of its losses."""
        optimizers: dict[str, OptimWrapper] = {}
        losses: dict[str, Tensor] = {}
        for number, run in enumerate(runs):
            with sharing(), self.updates.forward():  # phases may share images between ranks
                phase = next(run, None)
            names = () if phase is None else phase.optimizers
            if number and names != tuple(optimizers):
                raise TransegError(
                    f"After {' and '.join(optimizers) or 'its last phase'} in one micro-batch, the generator updates "
                    f"{' and '.join(names) or 'nothing'} in another; all must have the same phases for "
                    f"train.accumulation, so say train.accumulation=1."
                )
            if phase is None:
                continue
            unknown = set(names) - set(optim_wrapper.keys())
            if unknown:
                raise TransegError(
                    f"A phase of {self._trained()} updates {' and '.join(sorted(unknown))}, for which there is no "
                    f"optimizer; there are {', '.join(optim_wrapper.keys())}. Mend the names that its phases() gives."
                )
            optimizers = {name: optim_wrapper[name] for name in names}
            self.updates.backward(phase.losses.values(), optimizers)
            for name, loss in phase.losses.items():
                losses[name] = losses.get(name, 0) + loss.detach() / len(runs)
            del phase  # and with it the graph, before the next micro-batch builds its own
        return optimizers, losses

    def _trained(self) -> str:
        """Whose phases these are, by class and module, for errors."""
        given = [type(each) for name in ("generator", "segmenter") if (each := getattr(self, name, None)) is not None]
        return " and ".join(f"{cls.__name__} ({cls.__module__})" for cls in given) or type(self).__name__


def to_device(batch: Batch, device: torch.device, memory_format: torch.memory_format) -> Batch:
    """The batch on a device, its images scaled to [-1, 1] and laid out as wanted."""

    def images(given: Tensor) -> Tensor:
        return to_signed_unit(given, device).contiguous(memory_format=memory_format)

    return replace(
        batch,
        source=images(batch.source),
        source_mask=None if batch.source_mask is None else batch.source_mask.to(device, torch.long, non_blocking=True),
        target=None if batch.target is None else images(batch.target),
        instances=None if batch.instances is None else batch.instances.to(device, non_blocking=True),
        target_valid=None if batch.target_valid is None else batch.target_valid.to(device, non_blocking=True),
    )
