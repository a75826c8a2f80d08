"""How losses become steps of optimizers: in which precision, over how many micro-batches, with which limits."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from typing import Any, cast

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from transeg.core.errors import TransegError
from transeg.core.experiment.schema import Precision
from transeg.core.interfaces import Batch
from transeg.core.training.precision import HALF

SMALLEST_SCALE = 2.0**-10
"""Below it, it is not for their scale that gradients overflow. Those of CUT begin at up to 400, unscaled."""


class Updates:
    """What a task does between the losses of a phase and the steps of its optimizers.

    In fp16, small gradients would become zero: losses are scaled up before the backward and gradients down before the
    step (Micikevicius et al., "Mixed Precision Training", arXiv:1710.03740). Each phase has a scale of its own, which
    rises until a gradient overflows: then the step of every optimizer of the phase is skipped, and the scale halved.
    The gradients are looked at once they are averaged over the ranks, so that all ranks skip together.

    Args:
        device: where the task is.
        precision: in which the networks compute.
        accumulation: into how many micro-batches a batch is split.
        clip: largest norm of each optimizer's gradients; None for any.
        clip_value: largest size of each number in the gradients, before their norm counts; None for any.
        channels_last: whether images come with their channels innermost.
        compiled: whether networks are called as torch.compile has translated them.
    """

    def __init__(
        self,
        device: torch.device | None = None,
        *,
        precision: Precision = "fp32",
        accumulation: int = 1,
        clip: float | None = None,
        clip_value: float | None = None,
        channels_last: bool = False,
        compiled: bool = False,
    ) -> None:
        self.accumulation = accumulation
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._device = device or torch.device("cpu")
        self._half = HALF.get(precision)
        self._clip = clip
        self._clip_value = clip_value
        self._compiled = compiled
        self._scalers: dict[str, torch.amp.GradScaler] = {}

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Networks compute in the precision that was chosen, compiled where they are, for as long as this lasts.

        Weights are cast for each use: a cast that older releases of PyTorch keep may have been made under ``no_grad``,
        and the weight then gets no gradient (pytorch/pytorch#158232).
        """
        with ExitStack() as stack:
            if self._half is not None:
                stack.enter_context(torch.autocast(self._device.type, self._half, cache_enabled=False))
            if self._compiled:
                stack.enter_context(torch.compiler.set_stance("default"))
            yield

    def backward(self, losses: Collection[Tensor], optimizers: Mapping[str, OptimWrapper]) -> None:
        """Add the gradients of a micro-batch to those of the ones before it.

        The backward reaches the parameters of the optimizers alone, so nothing needs to be frozen.

        Args:
            losses: scalars; their sum is minimised.
            optimizers: of the phase, by name.
        """
        total = torch.stack([loss.float() for loss in losses]).sum() / self.accumulation
        scaler = self._scaler(optimizers)
        total = total if scaler is None else scaler.scale(total)
        total.backward(inputs=[p for optimizer in optimizers.values() for p in optimizer_parameters(optimizer)])

    def step(self, optimizers: Mapping[str, OptimWrapper]) -> bool:
        """Step all optimizers of a phase, or none, and drop their gradients.

        Returns:
            Whether they stepped; false where gradients overflowed in fp16.

        Raises:
            TransegError: they overflow however little they are scaled.
        """
        together, scaler = _Together(list(optimizers.values())), self._scaler(optimizers)
        if scaler is not None:
            scaler.unscale_(cast("torch.optim.Optimizer", together))
        for optimizer in optimizers.values():
            self._limit(optimizer_parameters(optimizer))
        if scaler is None:
            together.step()
        else:
            scaler.step(cast("torch.optim.Optimizer", together))
            scaler.update()
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        if scaler is not None and not together.stepped and scaler.get_scale() < SMALLEST_SCALE:
            raise TransegError(
                f"The losses of {' and '.join(optimizers)} overflow in fp16, however little they are scaled; "
                f"start again with --precision bf16 or fp32, or with a lower learning rate."
            )
        return together.stepped

    def _limit(self, parameters: Sequence[nn.Parameter]) -> None:
        """Make the gradients of an optimizer as small as they must be."""
        if self._clip_value is not None:
            nn.utils.clip_grad_value_(parameters, self._clip_value)
        if self._clip is not None:
            nn.utils.clip_grad_norm_(parameters, self._clip)

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """The scale of each phase, by its optimizers."""
        return {name: scaler.state_dict() for name, scaler in self._scalers.items()}

    def load_state_dict(self, state: Mapping[str, dict[str, Any]]) -> None:
        """Go on from what :meth:`state_dict` returned."""
        for name, scale in state.items():
            self._scalers[name] = torch.amp.GradScaler(self._device.type)
            self._scalers[name].load_state_dict(scale)

    def _scaler(self, optimizers: Mapping[str, OptimWrapper]) -> torch.amp.GradScaler | None:
        if self._half != torch.float16:
            return None
        name = "+".join(optimizers)
        if name not in self._scalers:
            self._scalers[name] = torch.amp.GradScaler(self._device.type)
        return self._scalers[name]


class _Together:
    """The optimizers of a phase as a GradScaler's only one, so that it skips all of them or none."""

    def __init__(self, optimizers: Sequence[OptimWrapper]) -> None:
        self._optimizers = optimizers
        self.param_groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        self.stepped = False

    def step(self) -> None:
        for optimizer in self._optimizers:
            optimizer.step()
        self.stepped = True


def optimizer_parameters(optimizer: OptimWrapper) -> list[nn.Parameter]:
    """All that an optimizer updates."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def micro_batches(batch: Batch, count: int) -> list[Batch]:
    """A batch cut into a number of equal parts; what its rows share, all parts have."""
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    rows = {name: value.chunk(count) for name, value in values.items() if isinstance(value, Tensor)}
    return [Batch(**{**values, **{name: parts[part] for name, parts in rows.items()}}) for part in range(count)]
