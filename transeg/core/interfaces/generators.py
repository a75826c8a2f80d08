"""What a generator must be, and what a training step gives it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from transeg.core.conventions import Condition

_BLOCK = 64


@dataclass(frozen=True, slots=True)
class Noise:
    """The chance in a translation: rows of equal seeds get equal draws, whatever else is in the batch.

    Draws are made on the CPU, so that they are the same on every device, and in every window of an image; :func:`send`
    brings them to a GPU without waiting for it.

    Attributes:
        seeds: ``(N,)`` int64, of each row.
        places: ``(N, 2)`` int64, where each row begins in its image, top and left, where rows are windows; None for
            whole images.
    """

    seeds: Tensor
    places: Tensor | None = None

    def vector(self, stream: int, length: int) -> Tensor:
        """``(N, length)`` standard normal draws, alike in all windows of an image.

        Args:
            stream: tells apart the draws of one translation.
            length: of each row.
        """
        rows = [_normal((seed, stream), (length,)) for seed in self.seeds.tolist()]
        return torch.from_numpy(np.stack(rows))

    def integers(self, stream: int, limit: int) -> Tensor:
        """``(N,)`` int64 draws in [0, limit), each as likely as the others, alike in all windows of an image."""
        rows = [int(np.random.default_rng((seed, stream)).integers(limit)) for seed in self.seeds.tolist()]
        return torch.tensor(rows)

    def field(self, stream: int, channels: int, height: int, width: int) -> Tensor:
        """``(N, channels, height, width)`` standard normal draws: windows on an endless field for each seed.

        Where windows of an image overlap, they have the same draws.
        """
        places = [(0, 0)] * len(self.seeds) if self.places is None else self.places.tolist()
        rows = []
        for seed, (top, left) in zip(self.seeds.tolist(), places, strict=True):
            above, before = top // _BLOCK, left // _BLOCK
            blocks = [
                [
                    _normal((seed, stream, row, column), (channels, _BLOCK, _BLOCK))
                    for column in range(before, -(-(left + width) // _BLOCK))
                ]
                for row in range(above, -(-(top + height) // _BLOCK))
            ]
            y, x = top - above * _BLOCK, left - before * _BLOCK
            rows.append(np.block(blocks)[:, y : y + height, x : x + width])
        return torch.from_numpy(np.stack(rows))


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device; while a GPU gets it, from memory that is pinned for that, nobody waits.

    Args:
        tensor: of any shape.
        device: where it goes; on the CPU it stays as it is.
    """
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _normal(key: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(key).standard_normal(shape, dtype=np.float32)


@dataclass(slots=True)
class Batch:
    """What a training step sees.

    Attributes:
        source: ``(N, C, H, W)`` float32 in [-1, 1], or what else the generator is given of the source; the target where
            there is no source.
        source_mask: ``(N, H, W)`` int64, or None.
        target: ``(N, C', H, W)`` float32 in [-1, 1], or None; row i belongs to source row i only where data are paired.
        positions: ``(N,)`` int64, global place of each row in the sample stream: the same on any number of ranks.
        seed: differs in each iteration and is the same on all ranks; draws that the whole batch shares come from it.
        instances: ``(N, H, W)`` int64 numbers of single objects, 0 for none, or None.
        iteration: how many came before this one, on any number of ranks and after any number of resumes.
        target_valid: ``(N, H, W)`` bool, false where a target image shows nothing, as around an endoscope's scene; None
            where all of it counts.
    """

    source: Tensor
    source_mask: Tensor | None
    target: Tensor | None
    positions: Tensor
    seed: int
    instances: Tensor | None = None
    iteration: int = 0
    target_valid: Tensor | None = None

    def where_valid(self, image: Tensor, other: Tensor) -> Tensor:
        """An image with another's pixels where the target shows nothing.

        A loss that compares what is made with the target, or judges both, sees so the same in both there, and no
        gradient comes of it.

        Args:
            image: ``(N, C, H, W)``.
            other: of the same shape; the target itself, mostly.
        """
        return image if self.target_valid is None else torch.where(self.target_valid[:, None], image, other.to(image))

    def pin_memory(self) -> Batch:
        """The batch in memory that a GPU copies from while others compute; PyTorch's loader calls it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        pinned: dict[str, Any] = {
            name: value.pin_memory() for name, value in values.items() if isinstance(value, Tensor)
        }
        return replace(self, **pinned)

    def noise(self) -> Noise:
        """Draws for each row, the same on any number of ranks and new in each iteration."""
        return Noise(self.seed * 2**20 + self.positions.cpu() % 2**20)

    def generator(self, stream: int, device: torch.device | str | None = None) -> torch.Generator:
        """A fresh random generator, the same on all ranks, for draws that the whole batch shares.

        Args:
            stream: tells apart the draws of one step.
            device: where it draws; by default where the batch is.
        """
        return torch.Generator(device or self.source.device).manual_seed(self.seed * 1009 + stream)


@dataclass(slots=True)
class Phase:
    """One update within a training step: the named optimizers step on the sum of the losses.

    Attributes:
        optimizers: names out of :meth:`Generator.optimizers`.
        losses: scalars by name; their sum is minimised.
        fake: the source translated, ``(N, C', H, W)`` with the source's geometry, still attached to the graph. In the
            joint strategy the core adds the segmentation loss to the phase that carries it.
    """

    optimizers: tuple[str, ...]
    losses: dict[str, Tensor]
    fake: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Optimization:
    """An optimizer, and the factor on its learning rate as a function of training progress in [0, 1)."""

    optimizer: torch.optim.Optimizer
    schedule: Callable[[float], float] = lambda _progress: 1.0


class Generator(nn.Module, ABC):
    """A method of image-to-image translation, built by ``Class(source_channels, target_channels, **options)``."""

    paired: ClassVar[bool] = False
    """Whether training needs each source image's counterpart; a label map's is the image that it belongs to."""
    conditions: ClassVar[tuple[Condition, ...]] = ("image",)
    """What it can be given of the source, the usual one first; see :data:`Condition`."""
    directions: ClassVar[tuple[str, ...]] = ("source-to-target",)
    size_multiple: int = 1
    """Height and width must be multiples of this; the core pads and crops what is translated."""
    smallest: int = 1
    """Height and width that training needs at least."""
    key_map: ClassVar[tuple[tuple[str, str | None], ...]] = ()
    """As for :class:`Segmenter`."""
    averages: Mapping[str, float] = {}
    """Names of submodules of which an exponential moving average is kept, each with its decay for an iteration, which
    short trainings shorten; inference uses the average."""
    uncompiled: ClassVar[tuple[str, ...]] = ()
    """Names of submodules that torch.compile must leave as they are, such as those whose gradients a loss contains."""
    training_state: ClassVar[tuple[str, ...]] = ()
    """Names of submodules that hold what only this training goes on from, such as images of earlier steps. The
    checkpoint that is resumed has their tensors; what inference reads and exports have not, nor has a training that
    begins with these weights."""

    def adapted(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Published weights by our names, in the shapes that they have here; as they are, by default."""
        return weights

    def fit(self, target: Tensor) -> None:
        """Learn from a few target images at once, before a training begins; what is learned goes into buffers.

        Nothing by default, and then no image is read for it.

        Args:
            target: ``(N, C', H, W)`` in [-1, 1], at most 64: drawn by the run's seed, the same on all ranks, whole
                images of the size at inference; where images keep their own, the middle that all of them have.

        Raises:
            ValueError: nothing can be learned of them; the reason, which becomes a sentence for the user.
        """

    def optimizers(self) -> dict[str, Optimization]:
        """New optimizers over this generator's parameters, by name; by default none, for one that has no parameters.

        A stage that trains a generator without any takes no iterations.
        """
        return {}

    def phases(self, batch: Batch) -> Iterator[Phase]:
        """One training step, called once for each iteration and resumed after each phase's update; by default the
        translation alone, for a generator without parameters.

        Never yield inside a context manager such as ``torch.no_grad()``: it would leak into the core.
        """
        yield Phase((), {}, fake=self.translate(batch.source, self.directions[0], batch.noise()))

    @abstractmethod
    def translate(self, image: Tensor, direction: str, noise: Noise | None = None) -> Tensor:
        """Translate.

        Args:
            image: ``(N, C, H, W)``, images in [-1, 1] or label maps in {0, 1}; ``C`` is the number of target channels
                where the direction is `target-to-source`.
            direction: one of :attr:`directions`.
            noise: for generators with chance in them. None is as good as seeds of zero.

        Returns:
            ``(N, C', H, W)`` in [-1, 1].
        """
