"""The PatchGAN of Isola et al. (arXiv:1611.07004) with instance norm, as CycleGAN and SynDiff have it.

Children are numbered so that state-dict keys are the published ones.
"""

from __future__ import annotations

from torch import Tensor, nn

from transeg.plugins.generators.layers import InstanceNorm, normal_weights


class PatchDiscriminator(nn.Module):
    """Whether patches of 70x70 are real: ``(N, C, H, W)`` -> one logit for each (30x30 of them at 256x256).

    Args:
        channels: of an image.
        width: channels of the first layer.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        for factor in (2, 4, 8):
            layers += [
                nn.Conv2d(factor // 2 * width, factor * width, 4, 1 if factor == 8 else 2, 1),
                InstanceNorm(factor * width),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.model = nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 1))
        normal_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        return out
