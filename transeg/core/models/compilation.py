"""What makes training faster and leaves its result the same up to rounding: fused optimizers, compilation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from transeg.core.errors import TransegError
from transeg.core.interfaces import Generator, Segmenter
from transeg.core.models.memory_layout import laid_out_like


def fuse_optimizers(optimizers: Iterable[Optimizer], fused: bool) -> None:
    """Let each optimizer that can update all of its weights in one pass, or have none do so.

    Args:
        optimizers: before their first step.
        fused: whether to.
    """
    for optimizer in optimizers:
        if "fused" in optimizer.defaults:
            for group in (optimizer.defaults, *optimizer.param_groups):
                group["fused"] = fused


def load_optimizer_state(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Load an optimizer's state, and leave how it updates its weights, and in what order they lie, as it is."""
    own = optimizer.state_dict()["param_groups"]
    groups = [
        {**group, **({"fused": mine["fused"]} if "fused" in mine else {})}
        for group, mine in zip(state["param_groups"], own, strict=True)
    ]
    optimizer.load_state_dict({**state, "param_groups": groups})
    for weight, kept in optimizer.state.items():
        optimizer.state[weight] = {
            name: laid_out_like(value, weight) if isinstance(value, Tensor) else value for name, value in kept.items()
        }


def compilable_networks(generator: Generator | None, segmenter: Segmenter | None) -> dict[str, nn.Module]:
    """The networks that torch.compile may translate, by name."""
    found: dict[str, nn.Module] = {} if segmenter is None else {"segmenter": segmenter}
    if generator is not None:
        found |= {name: network for name, network in generator.named_children() if name not in generator.uncompiled}
    return found


@contextmanager
def compile_networks(chosen: Mapping[str, nn.Module]) -> Iterator[None]:
    """Have networks translated at their first call within ``set_stance("default")``; all other calls stay plain.

    Their names and weights stay where they are.

    Raises:
        TransegError: one of them cannot be translated here.
    """
    import torch._dynamo.exc as reasons

    for network in chosen.values():
        network.compile(dynamic=False)
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    except (reasons.TorchDynamoException, RuntimeError) as error:
        if isinstance(error, reasons.TorchDynamoException) or "torch.compile" in str(error):
            line = str(error).strip().splitlines()[0]
            raise TransegError(f"A network cannot be compiled: {line}. Train without: --no-compile.") from error
        raise
