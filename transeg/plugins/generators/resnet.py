"""CycleGAN's ResNet (arXiv:1703.10593), which SynDiff has for images of the other domain that are missing.

Children are numbered so that state-dict keys are the published ones.
"""

from __future__ import annotations

from torch import Tensor, nn

from transeg.plugins.generators.layers import ResidualBlock, normal_weights, normed_relu


class ResnetTranslator(nn.Module):
    """``(N, C, H, W) -> (N, C', H, W)`` in [-1, 1]; H and W multiples of 4.

    Args:
        in_channels: of an image.
        out_channels: of the result.
        width: channels of the first convolution; the residual blocks have four times as many.
        blocks: residual blocks.
    """

    def __init__(self, in_channels: int, out_channels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(in_channels, width, 7),
            *normed_relu(width),
            nn.Conv2d(width, 2 * width, 3, 2, 1),
            *normed_relu(2 * width),
            nn.Conv2d(2 * width, 4 * width, 3, 2, 1),
            *normed_relu(4 * width),
            *(ResidualBlock(4 * width) for _ in range(blocks)),
            nn.ConvTranspose2d(4 * width, 2 * width, 3, 2, 1, 1),
            *normed_relu(2 * width),
            nn.ConvTranspose2d(2 * width, width, 3, 2, 1, 1),
            *normed_relu(width),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, out_channels, 7),
            nn.Tanh(),
        )
        normal_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        return out
