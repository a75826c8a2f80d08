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
    """

    def __init__(self, terms: Mapping[str, tuple[float, nn.Module]]) -> None:
        super().__init__()
        self.weights = {name: weight for name, (weight, _) in terms.items()}
        self.terms = nn.ModuleDict({name: loss for name, (_, loss) in terms.items()})

    def forward(self, heads: Sequence[Tensor], target: Tensor) -> dict[str, Tensor]:
        """Every weighted term by name, summed over the heads.

        Args:
            heads: logits ``(N, K, H, W)``, the final head first; auxiliary heads count as much as the final one.
            target: ``(N, H, W)`` integer.
        """
        losses = {}
        for name, loss in self.terms.items():
            values = [loss(logits, target) for logits in heads]
            losses[name] = self.weights[name] * sum(values[1:], start=values[0])
        return losses
