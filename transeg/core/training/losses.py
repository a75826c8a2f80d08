"""Weighted sums of segmentation losses, as ``--loss dice+0.5*bce`` names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor, nn

from transeg.core.builders.construct import construct
from transeg.core.errors import UsageError
from transeg.core.experiment.choices import Choice
from transeg.core.experiment.completion import loss_options
from transeg.core.experiment.settings import parse_sum
from transeg.core.registry import Registry


class LossSum(nn.Module):
    """A weighted sum of losses over one or several heads.

    Args:
        terms: (weight, loss) by name.
        head_weights: of the final head and each auxiliary one; without, all heads count alike.
    """

    def __init__(self, terms: Mapping[str, tuple[float, nn.Module]], head_weights: Sequence[float] = ()) -> None:
        super().__init__()
        self.head_weights = tuple(head_weights)
        self.weights = {name: weight for name, (weight, _) in terms.items()}
        self.terms = nn.ModuleDict({name: loss for name, (_, loss) in terms.items()})

    def shares(self, heads: int) -> tuple[float, ...]:
        """What each of so many heads counts, the final one first."""
        return self.head_weights if heads > 1 and self.head_weights else (1.0,) * heads

    def forward(self, heads: Sequence[Tensor], target: Tensor) -> dict[str, Tensor]:
        """Every weighted term by name, summed over the heads.

        Args:
            heads: logits ``(N, K, H, W)``, the final head first.
            target: ``(N, H, W)`` integer.

        Raises:
            UsageError: an option of a loss does not fit the number of classes.
        """
        head_weights = self.shares(len(heads))
        losses = {}
        for name, loss in self.terms.items():
            try:
                values = [
                    share * loss(logits, target) for share, logits in zip(head_weights, heads, strict=True) if share > 0
                ]
            except ValueError as error:
                raise UsageError(f"loss.{name}: {error}.") from error
            losses[name] = self.weights[name] * sum(values[1:], start=values[0])
        return losses


def build_loss(choice: Choice, registry: Registry, head_weights: Sequence[float] = ()) -> LossSum:
    """The weighted sum that a loss expression names, over heads of these weights."""
    options = loss_options(choice)
    terms = {}
    for name, weight in parse_sum(choice.name).items():
        cls = registry.class_of("loss", name)
        terms[name] = (weight, construct(partial(cls, **options.get(name, {})), f"loss.{name}"))
    return LossSum(terms, head_weights)
