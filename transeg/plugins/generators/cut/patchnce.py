"""The contrastive loss between patches (CUT, section 3, equation 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def patch_nce(query: Tensor, key: Tensor, temperature: float, counts: Tensor | None = None) -> Tensor:
    """Cross-entropy of finding each query's own key among all keys of the same image.

    Args:
        query: ``(N, S, D)`` unit vectors of the translated images.
        key: ``(N, S, D)`` unit vectors of the source images at the same positions; no gradient flows into it.
        temperature: divides the cosines.
        counts: ``(N, S)`` bool, the positions whose queries count; None for all.

    Returns:
        The mean over the positions of each image that count, ``(N,)``, and 0 where none does. A key's similarity to its
        own query stands once as the positive; the reference's additional, masked entry (-10 / temperature) is kept, as
        it belongs to the published value.
    """
    key = key.detach()
    with torch.autocast(query.device.type, enabled=False):  # the temperature makes much of small differences
        cosines = query @ key.transpose(1, 2)
    positive = (query * key).sum(-1, keepdim=True)
    own = torch.eye(query.shape[1], dtype=torch.bool, device=query.device)
    logits = torch.cat((positive, cosines.masked_fill(own, -10.0)), dim=-1) / temperature
    first = torch.zeros(logits.shape[:2], dtype=torch.long, device=logits.device)
    each = F.cross_entropy(logits.transpose(1, 2), first, reduction="none")
    return each.mean(1) if counts is None else (each * counts).sum(1) / counts.sum(1).clamp(min=1)
