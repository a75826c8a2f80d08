"""The network that judges two neighbouring steps of a diffusion.

The time-conditional discriminator of Xiao, Kreis and Vahdat, "Tackling the Generative Learning Trilemma with Denoising
Diffusion GANs", arXiv:2112.07804. Children are named so that state-dict keys are the published ones.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transeg.plugins.generators.layers import to_float32
from transeg.plugins.generators.syndiff.embedding import init_uniform, scaled_uniform, sinusoids
from transeg.plugins.generators.syndiff.resampling import Downsample

GROUP = 4
"""How many images of a batch a minibatch deviation looks at."""


class StepDiscriminator(nn.Module):
    """Whether an image is a real earlier step of a diffusion: ``(N, C, H, W)`` twice and steps -> logits ``(N,)``.

    Args:
        channels: of an image.
        width: half the channels of the first convolution, a multiple of 4.
        halvings: how often the resolution is halved; H and W are at least 2 to this power.
    """

    def __init__(self, channels: int, width: int, halvings: int) -> None:
        super().__init__()
        embedding = min(256, 4 * width)
        widths = [width * min(8, 2 ** (index + 1)) for index in range(halvings + 1)]
        self.t_embed = StepEmbedding(embedding)
        self.start_conv = nn.Conv2d(2 * channels, widths[0], 1)
        for index in range(halvings):
            self.add_module(f"conv{index + 1}", DownBlock(widths[index], widths[index + 1], embedding))
        self.final_conv = nn.Conv2d(widths[-1] + 1, widths[-1], 3, padding=1)
        self.end_linear = nn.Linear(widths[-1], 1)
        init_uniform(self)
        for block in self._blocks():
            scaled_uniform(block.conv2.get_parameter("0.weight"), 1e-10)

    def forward(self, earlier: Tensor, step: Tensor, later: Tensor) -> Tensor:
        time = _leaky(self.t_embed(step, earlier.dtype))
        h = self.start_conv(torch.cat((earlier, later), 1))
        for block in self._blocks():
            h = block(h, time)
        h = _leaky(self.final_conv(append_deviation(h)))
        logits: Tensor = self.end_linear(h.sum((2, 3)))
        return to_float32(logits[:, 0])

    def _blocks(self) -> list[DownBlock]:
        return [child for child in self.children() if isinstance(child, DownBlock)]


class StepEmbedding(nn.Module):
    """The number of a step, ``(N,) -> (N, dimensions)``."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self._dimensions = dimensions
        self.main = nn.Sequential(
            nn.Linear(dimensions, dimensions), nn.LeakyReLU(0.2), nn.Linear(dimensions, dimensions)
        )

    def forward(self, step: Tensor, dtype: torch.dtype) -> Tensor:
        out: Tensor = self.main(sinusoids(step, self._dimensions, dtype))
        return out


class DownBlock(nn.Module):
    """A residual block that halves the resolution.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        embedding: dimensions of the embedded step.
    """

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        # Behind names of their own, as published.
        self.conv1 = nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.conv2 = nn.Sequential(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.dense_t1 = nn.Linear(embedding, outputs)
        self.skip = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False))
        self.down = Downsample()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(_leaky(x)) + self.dense_t1(time)[:, :, None, None]
        h = self.conv2(self.down(_leaky(h)))
        return (h + self.skip(self.down(x))) * (1 / math.sqrt(2))


def append_deviation(x: Tensor) -> Tensor:
    """A channel more, that says how much the images of a batch differ: ``(N, C, H, W) -> (N, C + 1, H, W)``.

    Karras et al., arXiv:1710.10196: the deviation over a group of images, averaged over channels and positions. With
    G groups, images i, i + G, i + 2G, ... form one. Groups are of :data:`GROUP` images as published, or of as many as
    there are below that; where N cannot be divided so, of the next smaller number that divides it. A single image
    is given the same small number whatever it shows.
    """
    count = len(x)
    size = next(size for size in range(min(count, GROUP), 0, -1) if count % size == 0)
    groups = to_float32(x).reshape(size, count // size, -1)  # the small number would be zero in float16
    variance = (groups - groups.mean(0)).square().mean(0)
    deviation = (variance + 1e-8).sqrt().mean(1).repeat(size)
    return torch.cat((x, deviation.to(x.dtype).view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])), 1)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)
