"""Layers of a network by name: which there are, and their outputs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from transeg.core.errors import UsageError, did_you_mean
from transeg.core.interfaces import Segmenter

PROBE = 256
"""Height and width of the image by which layers are described: a multiple of every stride in use."""


class LayerOutputs:
    """Keeps what named layers put out, from one forward pass to the next.

    Args:
        network: whose layers they are.
        names: of submodules.
        owner: the option that names them, for messages.

    Attributes:
        outputs: of the last forward pass, by name.

    Raises:
        UsageError: there is no such layer.
    """

    def __init__(self, network: nn.Module, names: Collection[str], owner: str) -> None:
        modules = dict(network.named_modules())
        for name in names:
            if not name or name not in modules:
                raise UsageError(f"{owner} has no layer {name!r}.{did_you_mean(name, modules)}")
        self.outputs: dict[str, Tensor] = {}
        self._handles = [modules[name].register_forward_hook(partial(self._keep, name)) for name in names]

    def _keep(self, name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self.outputs[name] = output

    def remove(self) -> None:
        """Leave the network as it was."""
        for handle in self._handles:
            handle.remove()
        self.outputs.clear()


@dataclass(frozen=True)
class Layer:
    """A layer that may be named, with the channels and the stride of its output."""

    name: str
    channels: int
    stride: int


def layers(network: Segmenter, in_channels: int, depth: int = 2) -> list[Layer]:
    """Layers whose output is one map, in the order in which they run; computed without numbers, in no time.

    Args:
        network: on the device `meta`.
        in_channels: of its image.
        depth: how many levels of submodules are looked at.
    """
    names = [name for name, _ in network.named_modules() if name and name.count(".") < depth]
    taps = LayerOutputs(network, names, "the segmenter")
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.empty(1, in_channels, PROBE, PROBE, device="meta"))
        return list(_maps(taps.outputs))
    finally:
        network.train(training)
        taps.remove()


def default_layers(segmenter: type[Segmenter]) -> list[Layer]:
    """The layers of a component at its defaults; none where it cannot be built and run without numbers."""
    channels = 3
    try:
        with torch.device("meta"):
            network = segmenter(channels, 1)
        return layers(network, channels)
    except Exception:  # a plugin's network may do anything, and there is more to show of it than its layers
        return []


def _maps(outputs: dict[str, Tensor]) -> Iterator[Layer]:
    for name, output in outputs.items():
        if isinstance(output, Tensor) and output.ndim == 4:
            yield Layer(name, output.shape[1], PROBE // output.shape[2])
