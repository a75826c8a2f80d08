"""What a dataset, a segmenter, a loss and a generator must be.

Images are ``(H, W, C)`` NumPy arrays inside a dataset and ``(N, C, H, W)`` float tensors scaled to [-1, 1]
everywhere else. Masks are integer label maps with background as class 0 and :data:`IGNORE` where nothing is known.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

IGNORE = 255
"""The label of pixels that neither losses nor metrics look at."""


Condition = Literal["image", "mask", "mask+boundary"]
"""What a generator is given of the source: images in [-1, 1]; label maps as one channel for each class, background
included, in {0, 1}; or these and a channel that outlines single objects."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a dataset, decoded but not augmented.

    Attributes:
        image: ``(H, W, C)``, uint8, uint16 or float32 in [0, 1].
        mask: ``(H, W)`` integer label map, or None where there is no label.
        target: the paired image of the other domain, ``(H, W, C')``, or None.
        name: unique in its dataset; names the files written for this sample.
        group: subject, slide or video sequence; splits never cut a group.
        instances: ``(H, W)`` integer numbers of single objects (nuclei, glands), 0 where there is none, or None.
        depth: ``(H, W)`` float32 distance from the camera, or None.
        pixel_size: height and width of a pixel in micrometres, or None where nobody said.
    """

    image: np.ndarray
    mask: np.ndarray | None
    name: str
    group: str
    target: np.ndarray | None = None
    instances: np.ndarray | None = None
    depth: np.ndarray | None = None
    pixel_size: tuple[float, float] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]


class Region(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


class Origin(NamedTuple):
    """What a sample is made of: samples of equal origins are equal, wherever and whenever they are decoded.

    Attributes:
        files: whose contents decide it.
        how: whatever else does: the options of the dataset, the sample's own name and group.
        reader: the class that decodes it; when the source of that changes, nothing decoded before counts.
    """

    files: tuple[Path, ...]
    how: str
    reader: type


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with one file of a dataset, as `toolkit data verify` reports it."""

    file: str
    reason: str


class Writer(ABC):
    """Writes samples in a dataset's layout, so that the dataset reads them again; built by ``Class(root, about)``.

    Several processes may write different samples of one tree side by side; one of them finishes it.
    """

    @abstractmethod
    def has(self, name: str, split: str) -> bool:
        """Whether a sample of that name is there already, whole."""

    @abstractmethod
    def add(self, sample: Sample, split: str) -> None:
        """Write a sample: whole or not at all.

        Args:
            sample: its labels are class numbers, and it has the classes and channels that were announced.
            split: `train`, `val` or `test`.

        Raises:
            DataError: the layout cannot hold it; a sentence that says why.
        """

    @abstractmethod
    def finish(self, samples: Sequence[Written]) -> None:
        """Write what describes the whole tree, once all samples are in it."""


@dataclass(frozen=True, slots=True)
class Written:
    """What is known of a sample that a :class:`Writer` has written."""

    name: str
    split: str
    group: str
    pixel_size: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class About:
    """What a :class:`Writer` must know before it sees a sample.

    Attributes:
        classes: names, background first.
        channels: of every image.
        name: of the dataset, for layouts that state one.
        domain: of the images, for layouts that name it; '' where there is one domain only.
    """

    classes: tuple[str, ...]
    channels: int
    name: str
    domain: str = ""


class Dataset(ABC):
    """Images of one or more domains, with masks where there are any.

    A dataset is built by ``Class(root, split, **options)``. One with several domains takes the option ``domain``.
    """

    classes: tuple[str, ...] = ("background", "foreground")
    """Class names, background first."""
    domains: ClassVar[tuple[str, ...]] = ()
    """Names of the domains, the usual source first; empty where there is one domain only. `*` alone stands for names
    that only the files know, and, as an option, for the only one there is."""
    test_domains: ClassVar[tuple[str, ...]] = ()
    """Domains that are test sets of their own: to test on the dataset means on each of them."""
    paired: bool = False
    """Whether samples carry their counterpart in the other domain."""
    channels: int = 3
    """Channels of every image."""
    target_channels: int = 3
    """Channels of every counterpart, where there are counterparts."""
    preset: ClassVar[Mapping[str, Any]] = {}
    """Experiment options that suit this dataset better than the published sizes, as nested tables; those under
    ``generator/NAME`` and ``segmenter/NAME`` are for that component alone."""
    needs_root: ClassVar[bool] = True
    """Whether it reads a folder."""
    writer: ClassVar[type[Writer] | None] = None
    """What writes its layout, for `toolkit data convert` and `toolkit translate`; None where nothing does."""

    faults: Sequence[Fault] = ()
    """What was found wrong when the files were listed; a run does not begin with any."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Decode a sample.

        Raises:
            DataError: a file cannot be used; `toolkit data verify` reports what every index raises.
        """

    def size_of(self, index: int) -> tuple[int, int]:
        """Height and width of a sample, for windows; a dataset that need not decode it to tell says so here.

        Raises:
            DataError: as for decoding it.
        """
        return self[index].size

    def pixel_size_of(self, index: int) -> tuple[float, float] | None:
        """Height and width of a sample's pixels in micrometres; a dataset that need not decode it to tell says so here.

        Raises:
            DataError: as for decoding it.
        """
        return self[index].pixel_size

    def group_of(self, index: int) -> str:
        """The group of a sample, for splits; a dataset that need not decode it to tell says so here.

        Raises:
            DataError: as for decoding it.
        """
        return self[index].group

    def read_region(self, index: int, region: Region) -> Sample | None:
        """A part of a sample, for images larger than memory; None where the whole must be decoded for it.

        Args:
            index: of the sample.
            region: within it.

        Raises:
            DataError: as for decoding it.
        """
        return None

    def origin_of(self, index: int) -> Origin | None:
        """What a sample is made of, so that it may be kept decoded (``data.cache``); None where it may not."""
        return None


class Segmenter(nn.Module):
    """A network from image to logits, built by ``Class(in_channels, num_classes, **options)``.

    ``num_classes`` is the number K of output channels: 1 means background against one class through a sigmoid, more
    mean a softmax with background as class 0. ``forward(image (N, C, H, W)) -> (N, K, H, W)`` logits; a network with
    auxiliary heads returns ``[final, auxiliary, ...]`` in training mode only, the auxiliary ones at any resolution:
    the core resizes them.
    """

    heads: int = 1
    """How many logits ``forward`` returns in training mode."""

    size_multiple: int = 1
    """Height and width must be multiples of this; the core pads and crops."""
    mean: tuple[float, ...] = (0.5,)
    """Per channel (or one for all), of intensities in [0, 1]: subtracted before the forward."""
    std: tuple[float, ...] = (0.5,)
    """Per channel (or one for all): divided by before the forward."""
    key_map: ClassVar[tuple[tuple[str, str | None], ...]] = ()
    """(pattern, replacement) pairs that turn published state-dict keys into ours; None drops the key."""

    def load_pretrained(self) -> None:
        """Load the weights that options of the network name: called before a training that begins with them.

        A constructor must leave this to it, because a trained network needs neither its first weights nor the
        connection or file that they came from.

        Raises:
            ValueError: they cannot be had; a clause that says why.
        """


class Loss(nn.Module):
    """``forward(logits (N, K, H, W), target (N, H, W) integer) -> scalar``; pixels of :data:`IGNORE` do not count."""


class DistillationLoss(nn.Module):
    """``forward(student, teacher) -> scalar`` over outputs by name, those of one student and one teacher.

    ``logits`` are ``(N, K, H, W)``, in the student's number of channels; a layer's name stands for its output,
    ``(N, C, h, w)``. Gradients flow into the student's alone. Pixels without a label count like any other.
    """

    layer: str = "logits"
    """The student's output that is compared."""
    teacher_layer: str = "logits"
    """The teacher's output that it is compared with."""

    def prepare(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> None:
        """See the outputs once before the optimizers are made: for parameters whose shape depends on them.

        Raises:
            ValueError: the outputs cannot be compared; a clause that says why.
        """


@dataclass(frozen=True, slots=True)
class Noise:
    """The chance in a translation: rows of equal seeds get equal draws, whatever else is in the batch.

    Draws are made on the CPU, so that they are the same on every device, and in every window of an image.

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


_BLOCK = 64


def _normal(key: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(key).standard_normal(shape, dtype=np.float32)


@dataclass(slots=True)
class Batch:
    """What a training step sees.

    Attributes:
        source: ``(N, C, H, W)`` float32 in [-1, 1], or what else the generator is given of the source.
        source_mask: ``(N, H, W)`` int64, or None.
        target: ``(N, C', H, W)`` float32 in [-1, 1], or None; row i belongs to source row i only where data are paired.
        positions: ``(N,)`` int64, global place of each row in the sample stream: the same on any number of ranks.
        seed: differs in each iteration and is the same on all ranks; draws that the whole batch shares come from it.
        instances: ``(N, H, W)`` int64 numbers of single objects, 0 for none, or None.
        iteration: how many came before this one, on any number of ranks and after any number of resumes.
    """

    source: Tensor
    source_mask: Tensor | None
    target: Tensor | None
    positions: Tensor
    seed: int
    instances: Tensor | None = None
    iteration: int = 0

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

    def adapted(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Published weights by our names, in the shapes that they have here; as they are, by default."""
        return weights

    @abstractmethod
    def optimizers(self) -> dict[str, Optimization]:
        """New optimizers over this generator's parameters, by name."""

    @abstractmethod
    def phases(self, batch: Batch) -> Iterator[Phase]:
        """One training step, called once for each iteration and resumed after each phase's update.

        Never yield inside a context manager such as ``torch.no_grad()``: it would leak into the core.
        """

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
