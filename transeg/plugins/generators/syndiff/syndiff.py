"""SynDiff: unpaired translation, both ways, by adversarial diffusion.

Özbey, Dalmaz, Dar, Bedel, Özturk, Güngör and Çukur, "Unsupervised Medical Image Translation with Adversarial Diffusion
Models", IEEE Transactions on Medical Imaging 2023, arXiv:2207.08208. docs/decisions/syndiff.md says where the paper
and the released code differ, and what was chosen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transeg.core.interfaces import Batch, Generator, Noise, Optimization, Phase, send
from transeg.plugins.generators.layers import to_float32
from transeg.plugins.generators.patch_discriminator import PatchDiscriminator
from transeg.plugins.generators.resnet import ResnetTranslator
from transeg.plugins.generators.syndiff.denoiser import LATENT, Denoiser
from transeg.plugins.generators.syndiff.diffusion import STEPS, Diffusion
from transeg.plugins.generators.syndiff.discriminators import StepDiscriminator

EPOCHS = 500
"""Published length; the learning rate changes between two epochs."""
LOWEST_LR = 1e-5
R1_WEIGHT = 1.0
L1_WEIGHT = 0.5
"""Of both absolute differences: of denoised images, and of images that were translated there and back."""


class Sizes(NamedTuple):
    """How large the networks are."""

    width: int
    multipliers: tuple[int, ...]
    blocks: int
    discriminator_width: int
    translator_width: int
    translator_blocks: int


PRESETS = {
    "published": Sizes(64, (1, 1, 2, 2, 4, 4), 2, 64, 64, 6),
    "small": Sizes(32, (1, 1, 2, 2), 1, 16, 16, 4),
}


class PhaseNoise(NamedTuple):
    """The chance in one training phase of one domain.

    Attributes:
        step: ``(N,)`` int64 in [0, STEPS): which step of the diffusion.
        noise: ``(N, C, H, W)``, of that step.
        more: ``(N, C, H, W)``, of the step that follows it.
        latent: ``(N, LATENT)``.
        back: ``(N, C, H, W)``, of the way back from there.
    """

    step: Tensor
    noise: Tensor
    more: Tensor
    latent: Tensor
    back: Tensor


class Side(NamedTuple):
    """One domain and its networks.

    Attributes:
        denoiser: makes its images, given one of the other domain.
        steps: judges steps of the diffusion of its images.
        patches: judges the translator's images.
        real: its images ``(N, C, H, W)``.
        partner: their translations to the other domain.
    """

    denoiser: Denoiser
    steps: StepDiscriminator
    patches: PatchDiscriminator
    real: Tensor
    partner: Tensor


class SynDiff(Generator):
    """Unpaired translation in both directions: a diffusion of four large steps, each made and judged adversarially.

    Choose it where the look of the target matters more than time, as between modalities of microscopy or MRI, and where
    both directions are wanted. It trains eight networks and is the slowest of the generators; `preset=small` is for
    a laptop's GPU or a CPU. Images are single-channel as published, or have any number of channels.

    In training, a pair of translators makes each image's missing counterpart; afterwards only the denoiser of the
    wanted direction is used, in four forward passes, each with noise and a latent vector of its own. Inference uses
    moving averages of the weights.

    Args:
        source_channels: channels of the source domain.
        target_channels: channels of the target domain.
        preset: `published` sizes, or `small` ones; the options that follow change single sizes of it.
        width: channels of the denoisers' first level, a multiple of 4; 64, or 32 if small.
        multipliers: channels of each of the denoisers' levels, in widths; 1, 1, 2, 2, 4, 4, or 1, 1, 2, 2 if small.
            Each level but the first halves the resolution, and the step discriminators halve it once more: sides of
            training images are multiples of 32 (8), and at least 64 (32).
        blocks: residual blocks of each level; 2, or 1 if small.
        attention: the level whose blocks attend, counted from 0; by default the last but one. Published weights for
            images of 64, 128, 256 and 512 pixels have it at 2, 3, 4 and 5.
        discriminator_width: channels of the patch discriminators' first convolution, and half of those of the step
            discriminators'; 64, or 16 if small.
        translator_width: channels of the translators' first convolution; 64, or 16 if small.
        translator_blocks: residual blocks of the translators; 6, or 4 if small.
        lr: learning rate of denoisers and translators; it falls along a cosine to 1e-5.
        discriminator_lr: learning rate of the discriminators; it falls likewise.
        pixel_loss: what is compared with the true image: the `one-step` guess of the denoiser, as in the released code,
            or an image `sampled` in all four steps, as the paper has it, for which each denoiser is passed five times
            instead of once.
        r1_interval: iterations between two gradient penalties on the step discriminators.
        r1_scaling: `none`: penalties count as they are, as published; `interval`: each counts as many times as the
            interval is long, so that its length leaves their strength as it is (Karras et al., arXiv:1912.04958).

    Raises:
        ValueError: a size with which the networks cannot be built.
    """

    directions = ("source-to-target", "target-to-source")
    key_map = ((r"(?<![^.])(module\.)+", ""), (r"^(\w+)_dict\.", r"\1."))
    uncompiled = ("disc_diffusive_1", "disc_diffusive_2", "diffusion")  # R1 is a loss of the former's gradients
    averages = dict.fromkeys(
        ("gen_diffusive_1", "gen_diffusive_2", "gen_non_diffusive_1to2", "gen_non_diffusive_2to1"), 0.999
    )

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        *,
        preset: Literal["published", "small"] = "published",
        width: int | None = None,
        multipliers: tuple[int, ...] | None = None,
        blocks: int | None = None,
        attention: int | None = None,
        discriminator_width: int | None = None,
        translator_width: int | None = None,
        translator_blocks: int | None = None,
        lr: float = 1.6e-4,
        discriminator_lr: float = 1e-4,
        pixel_loss: Literal["one-step", "sampled"] = "one-step",
        r1_interval: int = 10,
        r1_scaling: Literal["none", "interval"] = "none",
    ) -> None:
        super().__init__()
        chosen = (width, multipliers, blocks, discriminator_width, translator_width, translator_blocks)
        pairs = zip(PRESETS[preset], chosen, strict=True)
        sizes = Sizes._make(usual if given is None else given for usual, given in pairs)
        levels = len(sizes.multipliers)
        attention = levels - 2 if attention is None else attention
        _check(sizes, attention, r1_interval)
        self.size_multiple = max(4, 2 ** (levels - 1))
        self.smallest = max(32, 2**levels)  # what the two kinds of discriminator can halve
        self._lr = lr
        self._discriminator_lr = discriminator_lr
        self._sampled = pixel_loss == "sampled"
        self._r1_interval = r1_interval
        self._r1_weight = R1_WEIGHT * (r1_interval if r1_scaling == "interval" else 1)

        def denoiser(channels: int) -> Denoiser:
            both = source_channels + target_channels
            return Denoiser(both, channels, sizes.width, sizes.multipliers, sizes.blocks, attention)

        def translator(inputs: int, outputs: int) -> ResnetTranslator:
            return ResnetTranslator(inputs, outputs, sizes.translator_width, sizes.translator_blocks)

        # Published names, in which contrast 1 is the source and 2 the target.
        self.gen_diffusive_1 = denoiser(source_channels)
        self.gen_diffusive_2 = denoiser(target_channels)
        self.gen_non_diffusive_1to2 = translator(source_channels, target_channels)
        self.gen_non_diffusive_2to1 = translator(target_channels, source_channels)
        self.disc_diffusive_1 = StepDiscriminator(source_channels, sizes.discriminator_width, levels)
        self.disc_diffusive_2 = StepDiscriminator(target_channels, sizes.discriminator_width, levels)
        self.disc_non_diffusive_cycle1 = PatchDiscriminator(source_channels, sizes.discriminator_width)
        self.disc_non_diffusive_cycle2 = PatchDiscriminator(target_channels, sizes.discriminator_width)
        self.diffusion = Diffusion()

    def optimizers(self) -> dict[str, Optimization]:
        """One for each phase: Adam treats every weight alone, so networks that step together share one."""
        step_judges = self.disc_diffusive_1, self.disc_diffusive_2
        patch_judges = self.disc_non_diffusive_cycle1, self.disc_non_diffusive_cycle2
        makers = self.gen_diffusive_1, self.gen_diffusive_2, self.gen_non_diffusive_1to2, self.gen_non_diffusive_2to1
        return {
            "D_diffusive": _adam(step_judges, self._discriminator_lr),
            "D_cycle": _adam(patch_judges, self._discriminator_lr),
            "G": _adam(makers, self._lr),
        }

    def phases(self, batch: Batch) -> Iterator[Phase]:
        """Step discriminators, patch discriminators, then denoisers and translators.

        Losses: ``D_diff_real``, ``D_diff_fake`` and, every so many iterations, ``R1``; ``D_cycle_real`` and
        ``D_cycle_fake``; ``G_diff``, ``G_cycle``, ``L1`` and ``cycle`` (the last two weighted). Each is a sum over both
        domains. What is made of either has the true image's pixels where the target shows nothing.
        """
        assert batch.target is not None
        source, target = batch.source, batch.target
        # The translators learn in the last phase alone, so what they make serves all three.
        made_target, made_source = self.gen_non_diffusive_1to2(source), self.gen_non_diffusive_2to1(target)
        sides = (
            Side(self.gen_diffusive_1, self.disc_diffusive_1, self.disc_non_diffusive_cycle1, source, made_target),
            Side(self.gen_diffusive_2, self.disc_diffusive_2, self.disc_non_diffusive_cycle2, target, made_source),
        )
        yield Phase(
            ("D_diffusive",), _sums(self._judge_steps(side, batch, number) for number, side in enumerate(sides))
        )
        made = batch.where_valid(made_source, source), batch.where_valid(made_target, target)
        yield Phase(("D_cycle",), _sums(map(_judge_patches, sides, made)))
        losses = _sums(
            self._generate(side, fake, batch, number)
            for number, (side, fake) in enumerate(zip(sides, made, strict=True))
        )
        source_again = self.gen_non_diffusive_2to1(made_target)
        target_again = batch.where_valid(self.gen_non_diffusive_1to2(made_source), target)
        losses["cycle"] = L1_WEIGHT * (F.l1_loss(source_again, source) + F.l1_loss(target_again, target))
        yield Phase(("G",), losses, fake=made_target)

    def translate(self, image: Tensor, direction: str, noise: Noise | None = None) -> Tensor:
        denoiser = self.gen_diffusive_2 if direction == "source-to-target" else self.gen_diffusive_1
        return self._sample(denoiser, image, noise or Noise(torch.zeros(len(image), dtype=torch.long)), 0)

    def adapted(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Published denoisers make as many channels as they are given, and only the first of them count."""
        fitting = dict(weights)
        for name, denoiser in (("gen_diffusive_1", self.gen_diffusive_1), ("gen_diffusive_2", self.gen_diffusive_2)):
            for kind in ("weight", "bias"):
                last = f"{name}.all_modules.{len(denoiser.all_modules) - 1}.{kind}"
                if last in fitting:
                    fitting[last] = fitting[last][: denoiser.out_channels]
        return fitting

    def draws(self, batch: Batch, phase: int, domain: int, like: Tensor) -> PhaseNoise:
        """What a phase draws for a domain: for each position of the stream its own, the same on any number of ranks.

        Args:
            batch: of this step.
            phase: 0 for the step discriminators, 1 for the denoisers.
            domain: 0 for the source, 1 for the target.
            like: images of the domain.
        """
        noise, stream = batch.noise(), 10 * (2 * phase + domain)
        fields = [noise.field(stream + offset, *like.shape[1:]) for offset in range(3)]
        drawn = [*fields, noise.vector(stream + 4, LATENT), noise.integers(stream + 3, STEPS).float()]
        # one copy for all of them: each takes a GPU as long to begin as thousands of pixels
        together = send(torch.cat([draw.flatten() for draw in drawn]), like.device).to(like.dtype)
        parts = together.split([draw.numel() for draw in drawn])
        first, second, third, latent, step = (part.view_as(draw) for part, draw in zip(parts, drawn, strict=True))
        return PhaseNoise(step.long(), first, second, latent, third)

    def _judge_steps(self, side: Side, batch: Batch, number: int) -> dict[str, Tensor]:
        draws = self.draws(batch, 0, number, side.real)
        earlier = self.diffusion.noisy(side.real, draws.step, draws.noise)
        later = self.diffusion.noisier(earlier, draws.step, draws.more)
        with torch.no_grad():
            guess = side.denoiser(torch.cat((later, side.partner), 1), draws.step, draws.latent)
            fake = self.diffusion.earlier(_shown(guess, side, batch, number), later, draws.step, draws.back)
        penalised = batch.iteration % self._r1_interval == 0
        on_real = side.steps(earlier.requires_grad_(penalised), draws.step, later)
        losses = {
            "D_diff_real": F.softplus(-on_real).mean(),
            "D_diff_fake": F.softplus(side.steps(fake, draws.step, later)).mean(),
        }
        if penalised:
            (gradient,) = torch.autograd.grad(on_real.sum(), earlier, create_graph=True)
            losses["R1"] = self._r1_weight / 2 * gradient.square().sum((1, 2, 3)).mean()
        return losses

    def _generate(self, side: Side, made: Tensor, batch: Batch, number: int) -> dict[str, Tensor]:
        draws = self.draws(batch, 1, number, side.real)
        earlier = self.diffusion.noisy(side.real, draws.step, draws.noise)
        later = self.diffusion.noisier(earlier, draws.step, draws.more)
        guess = side.denoiser(torch.cat((later, side.partner), 1), draws.step, draws.latent)
        guess = _shown(guess, side, batch, number)
        fake = self.diffusion.earlier(guess, later, draws.step, draws.back)
        compared = guess
        if self._sampled:
            sampled = self._sample(side.denoiser, side.partner, batch.noise(), 100 * (number + 1))
            compared = _shown(sampled, side, batch, number)
        return {
            "G_diff": F.softplus(-side.steps(fake, draws.step, later)).mean(),
            "G_cycle": F.softplus(-to_float32(side.patches(made))).mean(),
            "L1": L1_WEIGHT * F.l1_loss(compared, side.real),
        }

    def _sample(self, denoiser: Denoiser, condition: Tensor, noise: Noise, stream: int) -> Tensor:
        """All steps back from pure noise: ``(N, C, H, W)`` of one domain -> ``(N, C', H, W)`` of the other."""
        size = denoiser.out_channels, *condition.shape[2:]

        def on_device(draw: Tensor) -> Tensor:
            return send(draw, condition.device).to(condition.dtype)

        image = on_device(noise.field(stream, *size))
        for step in reversed(range(STEPS)):
            steps = torch.full((image.shape[0],), step, device=image.device)
            latent = on_device(noise.vector(stream + 2 * step + 1, LATENT))
            guess = denoiser(torch.cat((image, condition), 1), steps, latent)
            if step > 0:
                back = on_device(noise.field(stream + 2 * step + 2, *size))
                image = self.diffusion.earlier(guess, image, steps, back)
        return guess  # the last step back is the guess itself


def cosine_factor(progress: float, lr: float) -> float:
    """The factor on a learning rate that falls to 1e-5 along half a cosine, in :data:`EPOCHS` steps.

    Loshchilov and Hutter, arXiv:1608.03983.

    Args:
        progress: share of the training, in [0, 1).
        lr: the rate at the beginning.
    """
    epoch = int(progress * EPOCHS + 1e-9)
    lowest = min(LOWEST_LR / lr, 1.0)
    return lowest + (1 - lowest) * (1 + math.cos(math.pi * epoch / EPOCHS)) / 2


def _shown(made: Tensor, side: Side, batch: Batch, number: int) -> Tensor:
    """What a denoiser has made of a domain; of the target, 1, where that shows anything, and else the target itself."""
    return batch.where_valid(made, side.real) if number == 1 else made


def _adam(networks: Sequence[nn.Module], lr: float) -> Optimization:
    parameters = [parameter for network in networks for parameter in network.parameters()]
    return Optimization(
        torch.optim.Adam(parameters, lr=lr, betas=(0.5, 0.9), fused=True), partial(cosine_factor, lr=lr)
    )


def _judge_patches(side: Side, made: Tensor) -> dict[str, Tensor]:
    on_real, on_fake = to_float32(side.patches(torch.cat((side.real, made.detach())))).chunk(2)
    return {"D_cycle_real": F.softplus(-on_real).mean(), "D_cycle_fake": F.softplus(on_fake).mean()}


def _sums(sides: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Losses of both domains, added by name."""
    source, target = sides
    return {name: loss + target[name] for name, loss in source.items()}


def _check(sizes: Sizes, attention: int, r1_interval: int) -> None:
    levels = len(sizes.multipliers)
    if levels < 2 or min(sizes.multipliers) < 1:
        raise ValueError(f"multipliers={list(sizes.multipliers)} are not two positive numbers or more")
    if not 0 <= attention < levels:
        raise ValueError(f"attention={attention} is not one of the {levels} levels, which are counted from 0")
    if r1_interval < 1:
        raise ValueError(f"r1_interval={r1_interval} is not a number of iterations")
    for name in ("width", "discriminator_width"):
        if getattr(sizes, name) < 4 or getattr(sizes, name) % 4:
            raise ValueError(f"{name}={getattr(sizes, name)} is not a multiple of 4")
    for name in ("blocks", "translator_width", "translator_blocks"):
        if getattr(sizes, name) < 1:
            raise ValueError(f"{name}={getattr(sizes, name)} is too few")
