"""Weighted sums of segmentation losses, as ``--loss dice+0.5*bce`` names them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from transeg.core.errors import UsageError

_TERM = re.compile(r"(?:(?P<weight>\d*\.?\d+(?:e[+-]?\d+)?)\s*\*\s*)?(?P<name>[a-z][\w:.-]*)", re.IGNORECASE)


def parse_sum(expression: str) -> dict[str, float]:
    """``dice+0.5*bce`` -> ``{"dice": 1.0, "bce": 0.5}``.

    Raises:
        UsageError: it is not such a sum, or a loss stands in it twice.
    """
    terms: dict[str, float] = {}
    for part in expression.split("+"):
        match = _TERM.fullmatch(part.strip())
        if match is None:
            raise UsageError(f"The loss {expression!r} is not a sum such as dice+0.5*bce.")
        if match["name"] in terms:
            raise UsageError(f"The loss {expression!r} names {match['name']} twice.")
        terms[match["name"]] = float(match["weight"] or 1)
    return terms


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

    def forward(self, heads: Sequence[Tensor], target: Tensor) -> dict[str, Tensor]:
        """Every weighted term by name, summed over the heads.

        Args:
            heads: logits ``(N, K, H, W)``, the final head first.
            target: ``(N, H, W)`` integer.
        """
        head_weights = self.head_weights if len(heads) > 1 and self.head_weights else (1.0,) * len(heads)
        losses = {}
        for name, loss in self.terms.items():
            values = [
                share * loss(logits, target) for share, logits in zip(head_weights, heads, strict=True) if share > 0
            ]
            losses[name] = self.weights[name] * sum(values[1:], start=values[0])
        return losses
