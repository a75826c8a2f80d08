"""A training step and a sample of the published SynDiff, from its checkout, for train_step.py.

Its filters are compiled for a GPU when they are imported; a general filter in PyTorch takes their place. Its networks
are imported and run; the step goes as its training does (generators with a graph in all phases, translations made
anew in each, discriminators frozen parameter by parameter), but without the anomaly detection that it leaves on and
that slows it down further, and without moving averages, on both sides.
"""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transeg.plugins.generators.syndiff.diffusion import STEPS, Diffusion


def upfirdn(x: Tensor, kernel: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)) -> Tensor:
    """Put zeros between pixels, pad, filter, and keep every so many pixels."""
    count, channels, height, width = x.shape
    if up > 1:
        spread = x.new_zeros(count, channels, height, up, width, up)
        spread[:, :, :, 0, :, 0] = x
        x = spread.view(count, channels, height * up, width * up)
    weight = kernel.flip(0, 1).to(x).expand(channels, 1, -1, -1)
    return F.conv2d(F.pad(x, (*pad, *pad)), weight, stride=down, groups=channels)


def networks(checkout: Path, size: int, device: str) -> dict[str, nn.Module]:
    """The eight published networks at their published sizes, by name."""
    sys.path.insert(0, str(checkout))
    package, op, filters = (types.ModuleType(name) for name in ("utils", "utils.op", "utils.op.upfirdn2d"))
    package.__path__ = [str(checkout / "utils")]
    members: dict[str, Any] = {"upfirdn2d": upfirdn, "FusedLeakyReLU": None, "fused_leaky_relu": None}
    vars(op).update(members)
    vars(filters).update(members)
    sys.modules.update({"utils": package, "utils.op": op, "utils.op.upfirdn2d": filters})
    from backbones.discriminator import Discriminator_large  # type: ignore[import-not-found]
    from backbones.generator_resnet import define_D, define_G  # type: ignore[import-not-found]
    from backbones.ncsnpp_generator_adagn import NCSNpp  # type: ignore[import-not-found]

    options = argparse.Namespace(
        image_size=size, num_channels=2, num_channels_dae=64, ch_mult=[1, 1, 2, 2, 4, 4], num_res_blocks=2,
        attn_resolutions=(16,), dropout=0.0, resamp_with_conv=True, conditional=True, fir=True, fir_kernel=[1, 3, 3, 1],
        skip_rescale=True, resblock_type="biggan", progressive="none", progressive_input="residual",
        progressive_combine="sum", embedding_type="positional", fourier_scale=16.0, not_use_tanh=False, nz=100,
        z_emb_dim=256, n_mlp=3, centered=True,
    )  # fmt: skip
    made = {}
    for own, other in ("12", "21"):
        made[f"denoiser{own}"] = NCSNpp(options)
        made[f"steps{own}"] = Discriminator_large(nc=2, ngf=64, t_emb_dim=256, act=nn.LeakyReLU(0.2))
        made[f"translator{own}{other}"] = define_G(netG="resnet_6blocks", gpu_ids=[])
        made[f"patches{own}"] = define_D(gpu_ids=[])
    return {name: network.to(device) for name, network in made.items()}


class Training:
    """What a training step needs.

    Args:
        nets: the eight networks by name.
        size: height and width of the images.
        count: images per step.
        device: where they are.
    """

    def __init__(self, nets: dict[str, nn.Module], size: int, count: int, device: str) -> None:
        self.nets = nets
        self.diffusion = Diffusion().to(device)
        self.judges = [name for name in nets if name.startswith(("steps", "patches"))]
        self.makers = [name for name in nets if name not in self.judges]
        rates = {**dict.fromkeys(self.judges, 1e-4), **dict.fromkeys(self.makers, 1.6e-4)}
        self.optimizers = {
            name: torch.optim.Adam(net.parameters(), rates[name], (0.5, 0.9)) for name, net in nets.items()
        }
        self.real = {own: torch.rand(count, 1, size, size, device=device) * 2 - 1 for own in "12"}

    def __call__(self) -> None:
        self._freeze(False)
        self._forget(self.judges)
        self._judge_steps()
        self._judge_patches()
        self._freeze(True)
        self._forget(self.makers)
        self._generate()

    def _judge_steps(self) -> None:
        made, on_real, on_fake = self._translations(), [], []
        for own, other in ("12", "21"):
            earlier, later, t, _, fake = self._denoised(own, made[other])
            judge = self.nets[f"steps{own}"]
            on_real.append(F.softplus(-judge(earlier, t, later)).mean())
            on_fake.append(F.softplus(judge(fake, t, later)).mean())
        sum(on_real).backward()
        sum(on_fake).backward()
        self._update("steps")

    def _judge_patches(self) -> None:
        made = self._translations()
        on_real = [F.softplus(-self.nets[f"patches{own}"](self.real[own])).mean() for own in "12"]
        on_fake = [F.softplus(self.nets[f"patches{own}"](made[own])).mean() for own in "12"]
        sum(on_real + on_fake).backward()
        self._update("patches")

    def _generate(self) -> None:
        made, losses = self._translations(), []
        for own, other in ("12", "21"):
            _, later, t, guess, fake = self._denoised(own, made[other])
            back = self.nets[f"translator{other}{own}"](made[other])
            losses += [
                F.softplus(-self.nets[f"steps{own}"](fake, t, later)).mean(),
                F.softplus(-self.nets[f"patches{own}"](made[own])).mean(),
                0.5 * F.l1_loss(guess, self.real[own]),
                0.5 * F.l1_loss(back, self.real[own]),
            ]
        sum(losses).backward()
        self._update("denoiser", "translator")

    def _translations(self) -> dict[str, Tensor]:
        """Of both domains, by the domain that they look like."""
        return {"2": self.nets["translator12"](self.real["1"]), "1": self.nets["translator21"](self.real["2"])}

    def _denoised(self, own: str, made: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Two neighbouring steps, which they are, the denoiser's guess, and the step back from it."""
        real = self.real[own]
        t = torch.randint(0, STEPS, (len(real),), device=real.device)
        earlier = self.diffusion.noisy(real, t, torch.randn_like(real))
        later = self.diffusion.noisier(earlier, t, torch.randn_like(real))
        z = torch.randn(len(real), 100, device=real.device)
        guess = self.nets[f"denoiser{own}"](torch.cat((later, made), 1), t, z)[:, :1]
        return earlier, later, t, guess, self.diffusion.earlier(guess, later, t, torch.randn_like(real))

    def _freeze(self, frozen: bool) -> None:
        for name in self.judges:
            for parameter in self.nets[name].parameters():
                parameter.requires_grad = not frozen

    def _forget(self, names: list[str]) -> None:
        for name in names:
            self.nets[name].zero_grad()

    def _update(self, *kinds: str) -> None:
        for name, optimizer in self.optimizers.items():
            if name.startswith(kinds):
                optimizer.step()


def step(checkout: Path, size: int, count: int, device: str) -> Callable[[], None]:
    """A training step without the gradient penalty that every tenth has."""
    return Training(networks(checkout, size, device), size, count, device)


def sample(checkout: Path, size: int, count: int, device: str) -> Callable[[], None]:
    """Images in four steps, by one denoiser."""
    denoiser, diffusion = networks(checkout, size, device)["denoiser2"].eval(), Diffusion().to(device)
    source = torch.rand(count, 1, size, size, device=device) * 2 - 1

    @torch.no_grad()
    def run() -> None:
        image = torch.randn_like(source)
        for number in reversed(range(STEPS)):
            t = torch.full((count,), number, device=device)
            guess = denoiser(torch.cat((image, source), 1), t, torch.randn(count, 100, device=device))[:, :1]
            image = diffusion.earlier(guess, image, t, torch.randn_like(image))

    return run
