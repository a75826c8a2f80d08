"""CycleGAN: unpaired image-to-image translation that can be undone.

Zhu, Park, Isola and Efros, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks", ICCV
2017, arXiv:1703.10593.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transeg.core.interfaces import Batch, Generator, Noise, Optimization, Phase
from transeg.plugins.generators.cyclegan.image_pool import ImagePool
from transeg.plugins.generators.layers import linear_decay, to_float32
from transeg.plugins.generators.patch_discriminator import PatchDiscriminator
from transeg.plugins.generators.resnet import ResnetTranslator

EPOCHS = (100, 100)
"""Published epochs with constant and with falling learning rate."""


class CycleGAN(Generator):
    """Unpaired translation in both directions: what is translated there and back must be what it was.

    The method that others are compared with: take it as the baseline of a table, or where both directions are wanted.
    It trains four networks. Networks, losses, image pools, optimizers and schedule are those of the released code,
    which has the identity loss on for all images and not, as the paper, for paintings alone. Unlike `cut`, it does not
    blur before it halves a resolution.

    Published weights are loaded as they are: `latest_net_G_A.pth`, `latest_net_G_B.pth`, and a single generator in a
    file of any other name, which is taken for the direction from source to target. For both directions, save both
    state dicts in one file, by the names `G_A` and `G_B`.

    Args:
        source_channels: channels of the source domain.
        target_channels: channels of the target domain.
        width: channels of the first convolution in generators and discriminators.
        blocks: residual blocks of the generators; 9 are published for images of 256 pixels, 6 for smaller ones.
        lr: learning rate of all networks; it falls to zero over the second half.
        cycle_weight: weight of the absolute difference after both translations, for each domain.
        identity_weight: weight of the absolute difference that a generator makes to images of the domain that it leads
            to, as a share of `cycle_weight`; 0 for none.
        pool: translations of earlier steps that each discriminator may see again; 0 for none.

    Raises:
        ValueError: a size is too small, or there is an identity loss between different numbers of channels.
    """

    directions = ("source-to-target", "target-to-source")
    size_multiple = 4
    smallest = 24  # what the discriminators make one logit of
    key_map = (
        (r"^(module\.)+", ""),
        (r"\.(running_mean|running_var|num_batches_tracked)$", None),  # of old releases' instance norm, never used
    )
    uncompiled = training_state = ("pool_A", "pool_B")

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        *,
        width: int = 64,
        blocks: int = 9,
        lr: float = 2e-4,
        cycle_weight: float = 10.0,
        identity_weight: float = 0.5,
        pool: int = 50,
    ) -> None:
        super().__init__()
        if source_channels != target_channels and identity_weight:
            raise ValueError(
                f"the identity loss of cyclegan needs as many channels in the source as in the target, not "
                f"{source_channels} and {target_channels}; say generator.identity_weight=0"
            )
        for name, value, least in (("width", width, 1), ("blocks", blocks, 0), ("pool", pool, 0)):
            if value < least:
                raise ValueError(f"{name}={value} is too few for cyclegan")
        self._lr = lr
        self._cycle_weight = cycle_weight
        self._identity_weight = identity_weight * cycle_weight
        # Published names, in which A is the source and B the target; each discriminator's is its generator's.
        self.G_A = ResnetTranslator(source_channels, target_channels, width, blocks)
        self.G_B = ResnetTranslator(target_channels, source_channels, width, blocks)
        self.D_A = PatchDiscriminator(target_channels, width)
        self.D_B = PatchDiscriminator(source_channels, width)
        self.pool_A = ImagePool(pool, 0)
        self.pool_B = ImagePool(pool, 1)

    def optimizers(self) -> dict[str, Optimization]:
        """One for both generators and one for both discriminators, as published."""
        schedule = partial(linear_decay, constant=EPOCHS[0], decay=EPOCHS[1])
        pairs = {"G": (self.G_A, self.G_B), "D": (self.D_A, self.D_B)}
        return {
            name: Optimization(
                torch.optim.Adam(
                    itertools.chain(*(network.parameters() for network in pair)), lr=self._lr, betas=(0.5, 0.999)
                ),
                schedule,
            )
            for name, pair in pairs.items()
        }

    def phases(self, batch: Batch) -> Iterator[Phase]:
        """Generators, then discriminators.

        Losses: ``G_A``, ``G_B`` (least squares), ``cycle_A``, ``cycle_B``, ``identity_A``, ``identity_B`` (weighted);
        ``D_A``, ``D_B`` (halved). Those of ``D_A`` are on the target's side, to which ``G_A`` leads. What is made on
        either side has the true image's pixels where the target shows nothing.
        """
        assert batch.target is not None
        source, target = batch.source, batch.target
        made_target, same_target = self._translated(self.G_A, source, target)
        made_source, same_source = self._translated(self.G_B, target, source)
        judged_target, judged_source = batch.where_valid(made_target, target), batch.where_valid(made_source, source)
        again = batch.where_valid(self.G_A(made_source), target)
        losses = {
            "G_A": _least_squares(self.D_A(judged_target), 1.0),
            "G_B": _least_squares(self.D_B(judged_source), 1.0),
            "cycle_A": self._cycle_weight * F.l1_loss(self.G_B(made_target), source),
            "cycle_B": self._cycle_weight * F.l1_loss(again, target),
        }
        if same_target is not None and same_source is not None:
            losses["identity_A"] = self._identity_weight * F.l1_loss(batch.where_valid(same_target, target), target)
            losses["identity_B"] = self._identity_weight * F.l1_loss(same_source, source)
        yield Phase(("G",), losses, fake=made_target)

        shown_target = self.pool_A.exchange(judged_target, batch)
        shown_source = self.pool_B.exchange(judged_source, batch)
        losses = {"D_A": _judge(self.D_A, target, shown_target), "D_B": _judge(self.D_B, source, shown_source)}
        yield Phase(("D",), losses)

    def translate(self, image: Tensor, direction: str, noise: Noise | None = None) -> Tensor:
        out: Tensor = (self.G_A if direction == "source-to-target" else self.G_B)(image)
        return out

    def adapted(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """A lone generator whose file is named after neither leads from source to target."""
        lone = all(key.startswith("model.") for key in weights)
        return {f"G_A.{key}": tensor for key, tensor in weights.items()} if lone else weights

    def _translated(self, network: nn.Module, image: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor | None]:
        """An image's translation and, for the identity loss, that of one which is as wanted; in one pass."""
        if self._identity_weight == 0:
            return network(image), None
        made, same = network(torch.cat((image, wanted))).chunk(2)
        return made, same


def _judge(network: nn.Module, real: Tensor, made: Tensor) -> Tensor:
    on_real, on_made = network(torch.cat((real, made.to(real)))).chunk(2)
    return 0.5 * (_least_squares(on_real, 1.0) + _least_squares(on_made, 0.0))


def _least_squares(logits: Tensor, wanted: float) -> Tensor:
    return (to_float32(logits) - wanted).square().mean()
