"""The chance in a translation as inputs of a graph, in the order in which a generator asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NoReturn, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from transeg.core.errors import UsageError
from transeg.core.interfaces import Generator, Noise


@dataclass(frozen=True)
class Draw:
    """What a generator asks its noise for.

    Attributes:
        kind: values for each pixel, or for each image.
        stream: see :class:`transeg.core.interfaces.Noise`.
        length: channels of a field, values of a vector.
    """

    kind: Literal["field", "vector"]
    stream: int
    length: int


@dataclass(frozen=True)
class Draws:
    """Everything that one translation draws; graphs take it as two inputs.

    Attributes:
        each: in the order in which they are asked for.
    """

    each: tuple[Draw, ...] = ()

    @property
    def inputs(self) -> dict[str, int]:
        """Channels of the input ``noise`` ``(N, C, H, W)`` and length of ``latent`` ``(N, L)``, where it has them."""
        lengths = {"noise": self._length("field"), "latent": self._length("vector")}
        return {name: length for name, length in lengths.items() if length}

    def of(self, seeds: Tensor, height: int, width: int) -> list[Tensor]:
        """What :class:`transeg.core.interfaces.Noise` of these seeds draws, as the graph's inputs."""
        noise = Noise(seeds)
        fields = [noise.field(d.stream, d.length, height, width) for d in self.each if d.kind == "field"]
        vectors = [noise.vector(d.stream, d.length) for d in self.each if d.kind == "vector"]
        return [torch.cat(parts, 1) for parts in (fields, vectors) if parts]

    def _length(self, kind: str) -> int:
        return sum(draw.length for draw in self.each if draw.kind == kind)


class UnseededNoise:
    """In the place of :class:`Noise`, without its seeds: a graph has numbers, from which nothing can be drawn."""

    @property
    def seeds(self) -> NoReturn:
        """There are none."""
        raise UsageError(
            "This generator draws random numbers of its own whenever it translates, and a graph cannot; switch that "
            "off where it has an option for it, as in --set generator.noise=false."
        )

    def integers(self, stream: int, limit: int) -> Tensor:
        """Not to be had either: which numbers they are would decide what the graph looks like."""
        return self.seeds


class RecordingNoise(UnseededNoise):
    """Notes what it is asked for, and gives zeros."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self.draws: list[Draw] = []

    def field(self, stream: int, channels: int, height: int, width: int) -> Tensor:
        """Zeros."""
        self.draws.append(Draw("field", stream, channels))
        return torch.zeros(self._rows, channels, height, width)

    def vector(self, stream: int, length: int) -> Tensor:
        """Zeros."""
        self.draws.append(Draw("vector", stream, length))
        return torch.zeros(self._rows, length)


class ReplayedNoise(UnseededNoise):
    """Gives what came in as a graph's inputs; at the padding of an image, the last rows and columns again.

    Args:
        draws: what will be asked for.
        inputs: the tensors of :attr:`Draws.inputs`.
    """

    def __init__(self, draws: Draws, inputs: tuple[Tensor, ...]) -> None:
        by_name = dict(zip(draws.inputs, inputs, strict=True))
        self._left = {"field": by_name.get("noise"), "vector": by_name.get("latent")}

    def field(self, stream: int, channels: int, height: int, width: int) -> Tensor:
        """The next channels of ``noise``."""
        field = self._next("field", channels)
        padding = (0, width - field.shape[3], 0, height - field.shape[2])
        return F.pad(field, padding, mode="replicate")

    def vector(self, stream: int, length: int) -> Tensor:
        """The next values of ``latent``."""
        return self._next("vector", length)

    def _next(self, kind: str, length: int) -> Tensor:
        values = self._left[kind]
        assert values is not None
        self._left[kind] = values[:, length:]
        return values[:, :length]


@torch.no_grad()
def record_draws(generator: Generator, channels: int, direction: str) -> Draws:
    """What a translation asks for.

    Raises:
        UsageError: it draws in a way of its own.
    """
    side = max(generator.size_multiple, generator.smallest)
    side += -side % generator.size_multiple
    asked = RecordingNoise(1)
    generator.translate(torch.zeros(1, channels, side, side), direction, cast("Noise", asked))
    return Draws(tuple(asked.draws))
