"""CUT: contrastive learning for unpaired image-to-image translation.

Park, Efros, Zhang and Zhu, ECCV 2020, arXiv:2007.15651.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from transeg.core.interfaces import Batch, Generator, Noise, Optimization, Phase
from transeg.plugins.generators.cut.networks import PatchDiscriminator, PatchProjection, ResnetGenerator
from transeg.plugins.generators.cut.patchnce import patch_nce
from transeg.plugins.generators.layers import linear_decay, to_float32

EPOCHS = {"cut": (200, 200), "fastcut": (150, 50)}
"""Published epochs with constant and with falling learning rate."""


class CUT(Generator):
    """One-sided unpaired translation that keeps each patch recognisable among the others of its image.

    Source and target must have the same number of channels: translated images pass through the generator's encoder,
    and in the variant `cut` target images through all of it (identity loss).

    Args:
        source_channels: channels of the source domain.
        target_channels: channels of the target domain.
        variant: `cut`; or `fastcut`, without the identity loss, with ten times the contrast and with random mirroring.
        width: channels of the first convolution in generator and discriminator.
        blocks: residual blocks of the generator, at least 5.
        lr: learning rate of all three networks.
        decay: share of the training, at its end, over which that rate falls to zero; by default as published, one half
            (`fastcut`: a quarter). CUT-seg has none: 0.
        gan_weight: weight of the adversarial loss.
        nce_weight: weight of the contrastive loss; by default as published, 1 for `cut` and 10 for `fastcut`.
        temperature: of the contrastive loss.
        patches: positions that are compared in each of the five layers.

    Raises:
        ValueError: the numbers of channels differ, there are too few blocks, or the decay is no share.
    """

    size_multiple = 4
    smallest = 24  # what the discriminator makes one logit of
    key_map = ((r"^(module\.)+", ""), (r"\.filt$", None))

    layers = (0, 4, 8, 12, 16)
    """Children of the generator whose outputs are compared: the padded image, two convolutions, two blocks."""

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        *,
        variant: Literal["cut", "fastcut"] = "cut",
        width: int = 64,
        blocks: int = 9,
        lr: float = 2e-4,
        decay: float | None = None,
        gan_weight: float = 1.0,
        nce_weight: float | None = None,
        temperature: float = 0.07,
        patches: int = 256,
    ) -> None:
        super().__init__()
        if source_channels != target_channels:
            raise ValueError(
                f"cut needs as many channels in the source as in the target, "
                f"not {source_channels} and {target_channels}"
            )
        if blocks < 5:
            raise ValueError(f"cut compares the output of the fifth residual block, so {blocks} are too few")
        if decay is not None and not 0 <= decay <= 1:
            raise ValueError(f"decay={decay} is no share of the training; it is a number from 0 to 1")
        self._fast = variant == "fastcut"
        self._epochs = _epochs(variant, decay)
        self._lr = lr
        self._gan_weight = gan_weight
        self._nce_weight = nce_weight if nce_weight is not None else (10.0 if self._fast else 1.0)
        self._temperature = temperature
        self._patches = patches
        self.G = ResnetGenerator(source_channels, target_channels, width, blocks)
        self.D = PatchDiscriminator(target_channels, width)
        self.F = PatchProjection((source_channels, 2 * width, 4 * width, 4 * width, 4 * width))

    def optimizers(self) -> dict[str, Optimization]:
        schedule = partial(linear_decay, constant=self._epochs[0], decay=self._epochs[1])
        return {
            name: Optimization(torch.optim.Adam(network.parameters(), lr=self._lr, betas=(0.5, 0.999)), schedule)
            for name, network in (("D", self.D), ("G", self.G), ("F", self.F))
        }

    def phases(self, batch: Batch) -> Iterator[Phase]:
        """Discriminator, then generator and projection.

        Losses: ``D_fake``, ``D_real`` (least squares, halved); ``G_GAN``; ``NCE``, and ``NCE_identity`` for `cut`
        (each weighted, and halved where there are both). Where the target shows nothing, the discriminator sees the
        same in both, and no patch is compared for the identity loss.
        """
        assert batch.target is not None
        source, target = batch.source, batch.target
        mirrored = self._fast and self._mirrors(batch)
        inputs = [source.flip(3) if mirrored else source] + ([] if self._fast else [target])
        outputs, features = self.G.with_features(torch.cat(inputs), self.layers)
        fake = outputs[: len(source)]
        judged = batch.where_valid(fake, target)

        on_fake, on_real = to_float32(self.D(torch.cat((judged.detach(), target)))).chunk(2)
        yield Phase(("D",), {"D_fake": 0.5 * on_fake.square().mean(), "D_real": 0.5 * (on_real - 1).square().mean()})

        losses = {"G_GAN": self._gan_weight * (to_float32(self.D(judged)) - 1).square().mean()}
        queries = self.G.features(outputs, self.layers)
        if mirrored:
            queries = [feature.flip(3) for feature in queries]
            with torch.no_grad():
                features = self.G.features(source, self.layers)
        names = ["NCE"] if self._fast else ["NCE", "NCE_identity"]
        contrasts = self._contrast(queries, features, batch).chunk(len(names))
        for name, contrast in zip(names, contrasts, strict=True):
            losses[name] = self._nce_weight / len(names) * contrast.mean()
        yield Phase(("G", "F"), losses, fake=fake.flip(3) if mirrored else fake)  # as its labels lie

    def translate(self, image: Tensor, direction: str, noise: Noise | None = None) -> Tensor:
        out: Tensor = self.G(image)
        return out

    def positions(self, batch: Batch, turn: int, layer: int, count: int) -> Tensor:
        """Flat positions of a feature map of ``count`` pixels to compare; shared by the images of all ranks.

        Args:
            batch: of this step.
            turn: 0 for the source images, 1 for the identity loss.
            layer: place in :attr:`layers`.
            count: height times width of the map.
        """
        generator = batch.generator(turn * len(self.layers) + layer)
        return torch.randperm(count, generator=generator, device=batch.source.device)[: self._patches]

    def _mirrors(self, batch: Batch) -> bool:
        return bool(torch.rand((), generator=batch.generator(2 * len(self.layers), "cpu")) < 0.5)

    def _contrast(self, queries: list[Tensor], features: list[Tensor], batch: Batch) -> Tensor:
        """Mean over the layers of the contrast between each translated image and its origin, ``(N,)``."""
        turns, each = len(queries[0]) // len(batch.source), len(batch.source)
        positions = [
            torch.cat(
                [self.positions(batch, turn, i, f.shape[2] * f.shape[3]).expand(each, -1) for turn in range(turns)]
            )
            for i, f in enumerate(features)
        ]
        with torch.no_grad():
            keys = self.F(features, positions)
        counts = [_counts(batch, feature, where) for feature, where in zip(features, positions, strict=True)]
        each_layer = zip(self.F(queries, positions), keys, counts, strict=True)
        return torch.stack([patch_nce(query, key, self._temperature, c) for query, key, c in each_layer]).mean(0)


def _counts(batch: Batch, feature: Tensor, positions: Tensor) -> Tensor | None:
    """Which positions of a feature map are compared, ``(N, S)`` bool: of target images, which come behind the source's,
    those that show anything; None for all.
    """
    if batch.target_valid is None:
        return None
    height, width = feature.shape[2:]
    of_target = F.interpolate(batch.target_valid[:, None].float(), size=(height, width)).flatten(1) > 0
    of_all = torch.cat((torch.ones_like(of_target), of_target))[: len(positions)]
    return of_all.gather(1, positions)


def _epochs(variant: str, decay: float | None) -> tuple[int, int]:
    """Epochs with constant and with falling rate: the published ones, or as many with another share of the latter."""
    if decay is None:
        return EPOCHS[variant]
    falling = round(decay * sum(EPOCHS[variant]))
    return sum(EPOCHS[variant]) - falling, falling
