"""What leaves PyTorch: one module from images as files hold them to probabilities or images, of any size."""

from __future__ import annotations

import copy
from typing import Literal, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transeg.core.inference.conditioning import Conditioning
from transeg.core.interfaces import Generator, Noise, Segmenter
from transeg.core.models.forward import shift_and_scale
from transeg.tools.export.draws import Draws, ReplayedNoise

Network = TypeVar("Network", Generator, Segmenter)
Part = Literal["segmenter", "generator", "generator and segmenter"]


class TranslationGraph(nn.Module):
    """``(N, C, H, W)`` as the generator takes it, and its draws -> ``(N, C', H, W)`` in [-1, 1].

    Args:
        generator: in eval mode.
        direction: one of its.
        given: what it is given of the source.
        draws: what it asks for.
        signs: see :attr:`transeg.core.inference.translator.Translator.signs`.
    """

    def __init__(
        self, generator: Generator, direction: str, given: Conditioning, draws: Draws, signs: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__()
        self.generator = copy_contiguous(generator)
        self.direction = direction
        self.given = given
        self.draws = draws
        self.before, self.after = signs

    def forward(self, image: Tensor, *draws: Tensor) -> Tensor:
        noise = cast("Noise", ReplayedNoise(self.draws, draws)) if draws else None
        padded = pad_traceably(_signed(image, self.before), self.generator.size_multiple)
        made = _signed(self.generator.translate(padded, self.direction, noise), self.after)
        return crop_padding(made, image, self.generator.size_multiple).clamp(-1, 1)


class SegmentationGraph(nn.Module):
    """``(N, C, H, W)`` in [-1, 1] -> probabilities ``(N, K, H, W)``.

    Args:
        segmenter: in eval mode, ready for inference.
        channels: of its images.
        sigmoid: whether its one output is the foreground; otherwise each class has its own.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, segmenter: Segmenter, channels: int, *, sigmoid: bool) -> None:
        super().__init__()
        self.sigmoid = sigmoid
        self.segmenter = copy_contiguous(segmenter)
        statistics = shift_and_scale(segmenter.mean, segmenter.std, channels, torch.device("cpu"), torch.float32)
        for name, tensor in zip(("shift", "scale"), statistics, strict=True):
            self.register_buffer(name, tensor)

    def forward(self, image: Tensor) -> Tensor:
        padded = pad_traceably(image * self.scale + self.shift, self.segmenter.size_multiple)
        logits = crop_padding(self.segmenter(padded), image, self.segmenter.size_multiple)
        return logits.sigmoid() if self.sigmoid else logits.softmax(1)


class Graph(nn.Module):
    """A generator, a segmenter, or one after the other.

    ``forward(image, *draws)``: images ``(N, C, H, W)`` float32 in [0, 1], or where the generator was trained on label
    maps class numbers ``(N, H, W)`` int64; then what the generator draws, see :attr:`Draws.inputs`. Gives
    probabilities ``(N, K, H, W)``, or without a segmenter images ``(N, C', H, W)`` in [0, 1].

    Args:
        translating: sees the image first.
        segmenting: sees the image, or what it was translated to.
        channels: of the images that come in.
    """

    def __init__(
        self, translating: TranslationGraph | None, segmenting: SegmentationGraph | None, channels: int
    ) -> None:
        super().__init__()
        self.translating = translating
        self.segmenting = segmenting
        self.channels = channels

    def forward(self, image: Tensor, *draws: Tensor) -> Tensor:
        if self.translating is not None and self.by_mask:
            x = self.translating(self.translating.given.encode(image, None), *draws)
        elif self.translating is not None:
            x = self.translating(image * 2 - 1, *draws)
        else:
            x = image * 2 - 1
        return (x + 1) / 2 if self.segmenting is None else self.segmenting(x)

    @property
    def part(self) -> Part:
        """What it holds."""
        if self.translating is None:
            return "segmenter"
        return "generator" if self.segmenting is None else "generator and segmenter"

    @property
    def by_mask(self) -> bool:
        """Whether label maps come in."""
        return self.translating is not None and self.translating.given.by_mask

    @property
    def draws(self) -> Draws:
        """What its generator asks for."""
        return Draws() if self.translating is None else self.translating.draws

    @property
    def inputs(self) -> list[str]:
        """Names of what comes in, in order."""
        return ["labels" if self.by_mask else "image", *self.draws.inputs]

    @property
    def output(self) -> str:
        """The name of what comes out."""
        return "translated" if self.segmenting is None else "probabilities"


def copy_contiguous(network: Network) -> Network:
    """A copy without what only helps a CPU here: its weights in their usual order."""
    return copy.deepcopy(network).cpu().to(memory_format=torch.contiguous_format).requires_grad_(False)


def _signed(image: Tensor, sign: int) -> Tensor:
    """Times 1 or -1, of which the former is no operation in the graph."""
    return image if sign == 1 else -image


def pad_traceably(image: Tensor, multiple: int) -> Tensor:
    """As :func:`transeg.core.models.forward.pad_to_multiple`, but alike for every size, so that one graph holds them
    all.
    """
    if multiple == 1:
        return image
    height, width = image.shape[2:]
    # as multiples that are rounded up, and not as remainders, their halves and quarters have short formulas
    rows, columns = ((length + multiple - 1) // multiple * multiple for length in (height, width))
    return F.pad(image, (0, columns - width, 0, rows - height), mode="replicate")


def crop_padding(result: Tensor, image: Tensor, multiple: int) -> Tensor:
    """The part of a padded image's result that is the image's.

    Rows and columns are chosen, not sliced: a slice's layout depends on whether anything was cut off, and
    ``torch.export`` would keep one of the two cases.
    """
    if multiple == 1:
        return result
    rows, columns = (torch.arange(length, device=result.device) for length in image.shape[2:])
    return result.index_select(2, rows).index_select(3, columns)
