"""A generator of three phases."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from transeg.core.interfaces import Batch, Generator, Noise, Optimization, Phase


class TwoCritics(Generator):
    """Translates unpaired images for two critics: one looks at colours, the other at edges alone.

    Adversarial losses are those of Mao et al., "Least Squares Generative Adversarial Networks", arXiv:1611.04076.

    Args:
        width: channels of all networks.
        edge_weight: of what the critic of edges says.
        content_weight: of the loss that keeps the brightness of each pixel.
        lr: learning rate of all networks.
    """

    smallest = 16

    def __init__(
        self,
        source_channels: int,
        target_channels: int,
        *,
        width: int = 32,
        edge_weight: float = 0.5,
        content_weight: float = 5.0,
        lr: float = 2e-4,
    ) -> None:
        super().__init__()
        self.translator = nn.Sequential(
            nn.Conv2d(source_channels, width, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, width, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, target_channels, 5, padding=2),
            nn.Tanh(),
        )
        self.colour_critic = _critic(target_channels, width)
        self.edge_critic = _critic(2 * target_channels, width)
        self.edge_weight = edge_weight
        self.content_weight = content_weight
        self.lr = lr

    def optimizers(self) -> dict[str, Optimization]:
        networks = {"colours": self.colour_critic, "edges": self.edge_critic, "translator": self.translator}
        return {
            name: Optimization(torch.optim.Adam(network.parameters(), self.lr, (0.5, 0.999)), lambda done: 1 - done)
            for name, network in networks.items()
        }

    def phases(self, batch: Batch) -> Iterator[Phase]:
        fake = self.translate(batch.source, "source-to-target")
        made = fake.detach()  # critics must not move the translator: each phase steps with its own optimizers alone
        yield Phase(("colours",), {"colour_critic": _judged(self.colour_critic, batch.target, made)})
        yield Phase(("edges",), {"edge_critic": _judged(self.edge_critic, _edges(batch.target), _edges(made))})
        # here, both critics have stepped
        losses = {
            "colours": (self.colour_critic(fake) - 1).square().mean(),
            "edges": self.edge_weight * (self.edge_critic(_edges(fake)) - 1).square().mean(),
            "content": self.content_weight * (fake.mean(1) - batch.source.mean(1)).abs().mean(),
        }
        yield Phase(("translator",), losses, fake=fake)

    def translate(self, image: Tensor, direction: str, noise: Noise | None = None) -> Tensor:
        return self.translator(image)


def _critic(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(2 * width, 1, 3, padding=1),
    )


def _judged(critic: nn.Module, real: Tensor, made: Tensor) -> Tensor:
    return (critic(real) - 1).square().mean() + critic(made).square().mean()


def _edges(image: Tensor) -> Tensor:
    """Differences to the pixels below and beside, ``(N, 2C, H - 1, W - 1)``."""
    inner = image[:, :, :-1, :-1]
    return torch.cat((image[:, :, 1:, :-1] - inner, image[:, :, :-1, 1:] - inner), 1)
