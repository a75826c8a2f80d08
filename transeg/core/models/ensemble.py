"""Several segmenters as one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transeg.core.interfaces import Segmenter


class Ensemble(Segmenter):
    """Networks of one kind, for inference: its logits are those of their mean probabilities.

    Args:
        members: in eval mode.
    """

    def __init__(self, members: Sequence[Segmenter]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.size_multiple, self.mean, self.std = members[0].size_multiple, members[0].mean, members[0].std

    def forward(self, image: Tensor) -> Tensor:
        """``(N, C, H, W)`` -> ``(N, K, H, W)``."""
        logits = torch.stack([member(image) for member in self.members])
        if logits.shape[2] == 1:
            return F.logsigmoid(logits).logsumexp(0) - F.logsigmoid(-logits).logsumexp(0)
        return logits.log_softmax(2).logsumexp(0) - math.log(len(logits))
