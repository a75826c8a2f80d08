"""The denoiser: NCSN++ whose normalisations are modulated by a latent vector.

Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations", arXiv:2011.13456; the latent
as in Xiao, Kreis and Vahdat, "Tackling the Generative Learning Trilemma with Denoising Diffusion GANs",
arXiv:2112.07804. Children are named and numbered so that state-dict keys are the published ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transeg.plugins.generators.layers import to_float32
from transeg.plugins.generators.syndiff.embedding import PixelNorm, init_uniform, scaled_uniform, sinusoids
from transeg.plugins.generators.syndiff.resampling import Downsample, Smooth, Upsample2x

Part = TypeVar("Part", bound=nn.Module)

LATENT = 100
"""Dimensions of the latent vector."""
NEARLY_ZERO = 1e-10
"""Scale of the weights that begin as good as zero."""


def groups_of(channels: int) -> int:
    """As many groups as published, a quarter of the channels but at most 32; fewer where they would not divide."""
    wanted = max(1, min(channels // 4, 32))
    return next(groups for groups in range(wanted, 0, -1) if channels % groups == 0)


class AdaptiveNorm(nn.Module):
    """Group norm whose scale and shift come from the latent: ``(N, C, H, W), (N, E) -> (N, C, H, W)``."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self._groups = groups_of(channels)
        self.style = nn.Linear(embedding, 2 * channels)

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        scale, shift = to_float32(self.style(latent)).chunk(2, 1)  # no norm takes short ones beside a float32 image
        if torch.compiler.is_exporting() or torch._C._get_tracing_state():  # the rest is for one number of rows
            return F.group_norm(x, self._groups, eps=1e-6) * scale[:, :, None, None] + shift[:, :, None, None]
        # The rows as channels of one image: one pass normalises and modulates, each row by its own numbers.
        rows = x.reshape(1, -1, *x.shape[2:])
        normed = F.group_norm(rows, len(x) * self._groups, scale.flatten(), shift.flatten(), eps=1e-6)
        return normed.view_as(x)


class ModulatedResidualBlock(nn.Module):
    """A residual block (BigGAN's, arXiv:1809.11096), with its input resampled where it is told to.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        embedding: dimensions of the embedded step.
        latent: dimensions of the transformed latent.
        resample: on both paths, or None.
    """

    def __init__(
        self, inputs: int, outputs: int, embedding: int, latent: int, resample: Downsample | Upsample2x | None = None
    ) -> None:
        super().__init__()
        self.GroupNorm_0 = AdaptiveNorm(inputs, latent)
        self.Conv_0 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.Dense_0 = nn.Linear(embedding, outputs)
        self.GroupNorm_1 = AdaptiveNorm(outputs, latent)
        self.Conv_1 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.Conv_2 = nn.Conv2d(inputs, outputs, 1) if inputs != outputs or resample is not None else None
        self.resample = resample

    def forward(self, x: Tensor, time: Tensor, latent: Tensor) -> Tensor:
        h = F.silu(self.GroupNorm_0(x, latent))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.Conv_0(h).add_(self.Dense_0(time)[:, :, None, None])
        h = self.Conv_1(F.silu(self.GroupNorm_1(h, latent)))
        return _merged(x if self.Conv_2 is None else self.Conv_2(x), h)


class ChannelLinear(nn.Module):
    """A linear layer over channels: ``(N, L, C) -> (N, L, C)``."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(channels, channels))
        self.b = nn.Parameter(torch.zeros(channels))
        scaled_uniform(self.W, scale)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.W + self.b


class SelfAttention(nn.Module):
    """Each position looks at all others, with one head: ``(N, C, H, W) -> (N, C, H, W)``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.GroupNorm_0 = nn.GroupNorm(groups_of(channels), channels, eps=1e-6)
        self.NIN_0 = ChannelLinear(channels, 0.1)
        self.NIN_1 = ChannelLinear(channels, 0.1)
        self.NIN_2 = ChannelLinear(channels, 0.1)
        self.NIN_3 = ChannelLinear(channels, NEARLY_ZERO)

    def forward(self, x: Tensor) -> Tensor:
        positions = self.GroupNorm_0(x).flatten(2).transpose(1, 2)
        query, key, value = (mix(positions)[:, None] for mix in (self.NIN_0, self.NIN_1, self.NIN_2))
        h = self.NIN_3(F.scaled_dot_product_attention(query, key, value)[:, 0])  # ONNX wants the axis of the heads
        return _merged(x, h.transpose(1, 2).reshape(x.shape))


class Pyramid(nn.Module):
    """Halve what the network was given and bring it to a level's channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.smooth = Smooth()
        self.Conv2d_0 = nn.Conv2d(inputs, outputs, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.Conv2d_0(self.smooth(x))
        return out


@dataclass
class ResolutionLevel:
    """What happens at one resolution, in order; the modules are children of the denoiser's one list.

    Attributes:
        blocks: residual blocks.
        attentions: one after each block (on the way down), or after the last (on the way up), or none.
        resample: to the next resolution; None at the last.
        pyramid: what the halved input adds there.
    """

    blocks: list[ModulatedResidualBlock] = field(default_factory=list)
    attentions: list[SelfAttention] = field(default_factory=list)
    resample: ModulatedResidualBlock | None = None
    pyramid: Pyramid | None = None


class Denoiser(nn.Module):
    """Guesses a clean image: ``(N, C, H, W)``, steps ``(N,)``, latents ``(N, 100)`` -> ``(N, C', H, W)`` in [-1, 1].

    H and W are multiples of 2 to the number of halvings.

    Args:
        in_channels: of the noisy image and the condition together.
        out_channels: of the clean image.
        width: channels of the first level, a multiple of 4.
        multipliers: channels of each level, in widths; one more level halves once more.
        blocks: residual blocks of each level.
        attention: the level whose blocks attend, counted from 0; the innermost resolution always does once.
    """

    def __init__(
        self, in_channels: int, out_channels: int, width: int, multipliers: Sequence[int], blocks: int, attention: int
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self._width = width
        self._time, self._latent = 4 * width, min(256, 4 * width)
        self.all_modules = nn.ModuleList(
            [
                nn.Linear(width, self._time),
                nn.Linear(self._time, self._time),
                nn.Conv2d(in_channels, width, 3, padding=1),
            ]
        )
        levels = [width * multiplier for multiplier in multipliers]
        self._down, skips = self._build_down(in_channels, levels, blocks, attention)
        before, middle = self._block(levels[-1], levels[-1]), self._add(SelfAttention(levels[-1]))
        self._middle = ResolutionLevel([before, self._block(levels[-1], levels[-1])], [middle])
        self._up = self._build_up(levels, skips, blocks, attention)
        self._add(nn.GroupNorm(groups_of(levels[0]), levels[0], eps=1e-6))
        self._add(nn.Conv2d(levels[0], out_channels, 3, padding=1))
        transform: list[nn.Module] = [PixelNorm(), nn.Linear(LATENT, self._latent), nn.SiLU()]
        for _ in range(3):
            transform += [nn.Linear(self._latent, self._latent), nn.SiLU()]
        self.z_transform = nn.Sequential(*transform)
        self._initialise()

    def forward(self, x: Tensor, step: Tensor, z: Tensor) -> Tensor:
        first, second, begin = self.all_modules[:3]
        # Every block puts the embedded step through the same activation: it is done once.
        time = F.silu(second(F.silu(first(sinusoids(step, self._width, x.dtype)))))
        latent = self.z_transform(z)
        h, pyramid = begin(x), x
        skips = [h]
        for level in self._down:
            for index, block in enumerate(level.blocks):
                h = block(h, time, latent)
                if level.attentions:
                    h = level.attentions[index](h)
                skips.append(h)
            if level.resample is not None and level.pyramid is not None:
                h = pyramid = _merged(level.pyramid(pyramid), level.resample(h, time, latent))
                skips.append(h)
        h = self._middle.attentions[0](self._middle.blocks[0](h, time, latent))
        h = self._middle.blocks[1](h, time, latent)
        for level in self._up:
            for block in level.blocks:
                h = block(torch.cat((h, skips.pop()), 1), time, latent)
            for attention in level.attentions:
                h = attention(h)
            if level.resample is not None:
                h = level.resample(h, time, latent)
        norm, last = self.all_modules[-2:]
        return torch.tanh(last(F.silu(norm(h))))

    def _build_down(
        self, channels: int, levels: Sequence[int], blocks: int, attention: int
    ) -> tuple[list[ResolutionLevel], list[int]]:
        """The way down, and the channels that it leaves for the way up."""
        skips, current, built = [levels[0]], levels[0], []
        for index, width in enumerate(levels):
            level = ResolutionLevel()
            for _ in range(blocks):
                level.blocks.append(self._block(current, width))
                if index == attention:
                    level.attentions.append(self._add(SelfAttention(width)))
                skips.append(width)
                current = width
            if index < len(levels) - 1:
                level.resample = self._block(width, width, Downsample())
                level.pyramid = self._add(Pyramid(channels, width))
                channels = width
                skips.append(width)
            built.append(level)
        return built, skips

    def _build_up(self, levels: Sequence[int], skips: list[int], blocks: int, attention: int) -> list[ResolutionLevel]:
        current, built = levels[-1], []
        for index, width in reversed(list(enumerate(levels))):
            level = ResolutionLevel()
            for _ in range(blocks + 1):
                level.blocks.append(self._block(current + skips.pop(), width))
                current = width
            if index == attention:
                level.attentions.append(self._add(SelfAttention(width)))
            if index > 0:
                level.resample = self._block(width, width, Upsample2x())
            built.append(level)
        return built

    def _block(
        self, inputs: int, outputs: int, resample: Downsample | Upsample2x | None = None
    ) -> ModulatedResidualBlock:
        return self._add(ModulatedResidualBlock(inputs, outputs, self._time, self._latent, resample))

    def _add(self, part: Part) -> Part:
        self.all_modules.append(part)
        return part

    def _initialise(self) -> None:
        init_uniform(self)
        scaled_uniform(self.all_modules[-1].get_parameter("weight"), NEARLY_ZERO)
        for part in self.modules():
            if isinstance(part, ModulatedResidualBlock):
                scaled_uniform(part.Conv_1.weight, NEARLY_ZERO)
            elif isinstance(part, AdaptiveNorm):
                nn.init.ones_(part.style.bias[: part.style.out_features // 2].detach())


def _merged(x: Tensor, h: Tensor) -> Tensor:
    """The sum of two paths with the variance of one."""
    return (x + h).mul_(1 / math.sqrt(2))
