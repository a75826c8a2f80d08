"""Pix2pix: paired image-to-image translation with a conditional adversarial network.

Isola, Zhu, Zhou and Efros, "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017,
arXiv:1611.07004.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from transeg.core.interfaces import Batch, Generator, Noise, Optimization, Phase
from transeg.plugins.generators.layers import linear_decay, to_float32
from transeg.plugins.generators.pix2pix.networks import Norm, PatchDiscriminator, Style, UNetGenerator

EPOCHS = (100, 100)
"""Published epochs with constant and with falling learning rate."""


class Pix2pix(Generator):
    """Paired translation: makes images from label maps, or from images that show the same in another way.

    From label maps it makes new labelled images where there are few: choose it for stained tissue, cells or axons
    whose masks exist or can be drawn. Label maps come in as one channel for each class; with
    `generator.condition=mask+boundary` one more channel outlines single objects, so that touching ones stay apart.
    With `generator.condition=image` the source is a paired dataset.

    Batch norm of single images is as published. Take `norm=instance` or `group` for tiny batches on several GPUs, whose
    batch statistics differ, and where large images are translated window by window.

    Args:
        source_channels: channels of the condition.
        target_channels: channels of the images that are made.
        width: channels of the first convolution in generator and discriminator.
        depth: how often the generator halves the resolution; sides of training crops are multiples of 2 to this power.
        norm: `batch`, `instance` or `group` normalisation, in both networks.
        upsampling: `transposed` convolutions, or `resize`: pixels repeated before a 3x3 convolution, which leaves no
            checkerboard (Odena et al., doi:10.23915/distill.00003).
        gan: adversarial loss: `bce` (cross-entropy), or `lsgan` (least squares, arXiv:1611.04076).
        l1_weight: weight of the absolute difference from the true image.
        dropout: probability in the inner levels (three of eight); the only noise that there is.
        noise: whether dropout stays on when images are translated, as published. Equal seeds give equal images.
        statistics: what batch norm goes by when images are translated: those of each `image`, as published, or the
            `running` ones of the training.
        lr: learning rate of both networks; it falls to zero over the second half.

    Raises:
        ValueError: the generator is too shallow.
    """

    paired = True
    conditions = ("mask", "mask+boundary", "image")
    smallest = 32  # what the discriminator makes a few logits of
    key_map = ((r"^(module\.)+", ""), (r"^(?=model\.model\.)", "G."), (r"^(?=model\.\d)", "D."))

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        *,
        width: int = 64,
        depth: int = 8,
        norm: Norm = "batch",
        upsampling: Literal["transposed", "resize"] = "transposed",
        gan: Literal["bce", "lsgan"] = "bce",
        l1_weight: float = 100.0,
        dropout: float = 0.5,
        noise: bool = True,
        statistics: Literal["image", "running"] = "image",
        lr: float = 2e-4,
    ) -> None:
        super().__init__()
        if depth < 2:
            raise ValueError(f"a depth of {depth} is too little for pix2pix; it halves the resolution twice or more")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout} is not a probability below 1")
        self.size_multiple = 2**depth
        self._least_squares = gan == "lsgan"
        self._l1_weight = l1_weight
        self._noise = noise
        self._lr = lr
        style = Style(norm, statistics == "image", upsampling, dropout)
        self.G = UNetGenerator(source_channels, target_channels, width, depth, style)
        self.D = PatchDiscriminator(source_channels + target_channels, width, norm)

    def optimizers(self) -> dict[str, Optimization]:
        schedule = partial(linear_decay, constant=EPOCHS[0], decay=EPOCHS[1])
        return {
            name: Optimization(
                torch.optim.Adam(network.parameters(), lr=self._lr, betas=(0.5, 0.999), fused=True), schedule
            )
            for name, network in (("D", self.D), ("G", self.G))
        }

    def phases(self, batch: Batch) -> Iterator[Phase]:
        """Discriminator, then generator.

        Losses: ``D_fake``, ``D_real`` (halved); ``G_GAN``, ``L1`` (weighted).
        """
        assert batch.target is not None
        condition, real = batch.source, batch.target
        fake = self.G(condition, _draws(batch.noise().seeds, condition.device))
        on_fake = self.D(
            torch.cat((condition, fake.detach()), 1)
        )  # apart from the real ones: batch norm would mix them
        on_real = self.D(torch.cat((condition, real), 1))
        yield Phase(("D",), {"D_fake": 0.5 * self._gan(on_fake, 0.0), "D_real": 0.5 * self._gan(on_real, 1.0)})

        on_fake = self.D(torch.cat((condition, fake), 1))
        losses = {"G_GAN": self._gan(on_fake, 1.0), "L1": self._l1_weight * F.l1_loss(fake, real)}
        yield Phase(("G",), losses, fake=fake)

    def translate(self, image: Tensor, direction: str, noise: Noise | None = None) -> Tensor:
        if not self._noise:
            return self.G(image, None)
        seeds = torch.zeros(len(image), dtype=torch.long) if noise is None else noise.seeds
        return self.G(image, _draws(seeds, image.device))

    def _gan(self, logits: Tensor, truth: float) -> Tensor:
        logits = to_float32(logits)
        wanted = torch.full_like(logits, truth)
        return F.mse_loss(logits, wanted) if self._least_squares else F.binary_cross_entropy_with_logits(logits, wanted)


def _draws(seeds: Tensor, device: torch.device) -> Sequence[torch.Generator]:
    """A random generator for each image."""
    return [torch.Generator(device).manual_seed(seed) for seed in seeds.tolist()]
