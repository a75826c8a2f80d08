"""The networks of CUT: ResNet generator, patch discriminator, projection heads.

Children are laid out so that state-dict keys are the published ones, except for the fixed blur filters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transeg.plugins.generators.layers import InstanceNorm, ResidualBlock, normed_relu, to_float32


class BlurDown(nn.Module):
    """Halve the resolution after a [1, 2, 1] low-pass filter (Zhang, "Making Convolutional Networks
    Shift-Invariant Again", arXiv:1904.11486): ``(N, C, H, W) -> (N, C, ceil(H/2), ceil(W/2))``.
    """

    filter: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("filter", torch.outer(taps, taps).repeat(channels, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
        return F.conv2d(padded, self.filter, stride=2, groups=x.shape[1])


class BlurUp(nn.Module):
    """Double the resolution; CUT's replicate-padded [1, 3, 3, 1] transposed filter is bilinear interpolation."""

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class ResnetGenerator(nn.Module):
    """The anti-aliased ResNet generator, ``(N, C, H, W) -> (N, C', H, W)`` in [-1, 1]; H and W multiples of 4.

    Args:
        in_channels: channels of the source.
        out_channels: channels of the result.
        width: channels of the first convolution; the residual blocks have four times as many.
        blocks: residual blocks.
    """

    def __init__(self, in_channels: int, out_channels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(in_channels, width, 7),
            *normed_relu(width),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            *normed_relu(2 * width),
            BlurDown(2 * width),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1),
            *normed_relu(4 * width),
            BlurDown(4 * width),
            *(ResidualBlock(4 * width) for _ in range(blocks)),
            BlurUp(),
            nn.Conv2d(4 * width, 2 * width, 3, padding=1),
            *normed_relu(2 * width),
            BlurUp(),
            nn.Conv2d(2 * width, width, 3, padding=1),
            *normed_relu(width),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, out_channels, 7),
            nn.Tanh(),
        )
        init_weights(self)

    def forward(
        self, x: Tensor, layers: Sequence[int] = (), last: int | None = None
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """The result; with ``layers``, also the outputs of these, from one pass that may end after the ``last``."""
        features = []
        for index, layer in enumerate(self.model[: None if last is None else last + 1]):
            x = layer(x)
            if index in layers:
                features.append(x)
        return (x, features) if layers else x

    def with_features(self, x: Tensor, layers: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
        """The result, and the outputs of the given layers."""
        both: tuple[Tensor, list[Tensor]] = self(x, layers)  # a call, which torch.compile sees
        return both

    def features(self, x: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """The outputs of the given layers; nothing after the last of them is computed."""
        both: tuple[Tensor, list[Tensor]] = self(x, layers, max(layers))
        return both[1]


class PatchDiscriminator(nn.Module):
    """The anti-aliased PatchGAN: ``(N, C, H, W)`` -> one logit for each 84x84 patch (30x30 of them at 256x256)."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, width, 4, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            BlurDown(width),
        ]
        for channels in (2 * width, 4 * width, 8 * width):
            layers += [
                nn.Conv2d(channels // 2, channels, 4, padding=1),
                InstanceNorm(channels),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            if channels < 8 * width:
                layers.append(BlurDown(channels))
        layers.append(nn.Conv2d(8 * width, 1, 4, padding=1))
        self.model = nn.Sequential(*layers)
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        return out


class PatchProjection(nn.Module):
    """One two-layer perceptron for each feature map, onto the unit sphere of 256 dimensions.

    Args:
        channels: channels of each feature map.
        width: dimensions of the sphere.
    """

    def __init__(self, channels: Sequence[int], width: int = 256) -> None:
        super().__init__()
        for index, count in enumerate(channels):
            head = nn.Sequential(nn.Linear(count, width), nn.ReLU(), nn.Linear(width, width))
            self.add_module(f"mlp_{index}", head)
        init_weights(self)

    def forward(self, features: Sequence[Tensor], positions: Sequence[Tensor]) -> list[Tensor]:
        """Features ``(N, C_l, H_l, W_l)`` at flat positions ``(N, S_l)`` -> one ``(N, S_l, 256)`` for each layer."""
        projected = []
        for head, feature, where in zip(self.children(), features, positions, strict=True):
            patches = feature.flatten(2).gather(2, where[:, None, :].expand(-1, feature.shape[1], -1))
            with torch.autocast(feature.device.type, enabled=False):  # vectors this short overflow when divided by
                vectors = head(to_float32(patches.transpose(1, 2)))
            projected.append(vectors / (vectors.norm(dim=-1, keepdim=True) + 1e-7))
        return projected


def init_weights(module: nn.Module) -> None:
    """Xavier-normal weights with gain 0.02 and zero biases, as CUT publishes."""
    for part in module.modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_normal_(part.weight, gain=0.02)
            assert part.bias is not None
            nn.init.zeros_(part.bias)
