"""Labels that a network gives to images that have none, and how much each pixel of them counts.

Weights as in DAFormer: Hoyer, Dai and Van Gool, "DAFormer: Improving network architectures and training strategies for
domain-adaptive semantic segmentation", CVPR 2022, arXiv:2111.14887.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from transeg.core.interfaces import IGNORE
from transeg.core.models.forward import to_classes

Weighting = Literal["share", "pixels"]
"""What a pixel counts: the share of its image in which the network is sure, or one where the network is sure of it and
nothing elsewhere."""


class PseudoLabels(NamedTuple):
    """Classes ``(N, H, W)`` int64, and what each pixel counts, ``(N, H, W)`` float32 in [0, 1]."""

    classes: Tensor
    weights: Tensor


def pseudo_labels(logits: Tensor, threshold: float, weighting: Weighting, valid: Tensor | None = None) -> PseudoLabels:
    """The likeliest class of each pixel. No gradient flows through it.

    Args:
        logits: ``(N, K, H, W)``; one channel is the question whether a pixel is foreground.
        threshold: in [0, 1]; the network is sure of a pixel whose class it thinks more probable than this.
        weighting: what a pixel counts; in an image of which the network is nowhere sure, nothing does.
        valid: ``(N, H, W)`` bool, where images show anything; None for everywhere. Elsewhere the class is
            :data:`IGNORE`.
    """
    logits = logits.detach().float()
    confidence = logits[:, 0].abs().sigmoid() if logits.shape[1] == 1 else logits.softmax(1).amax(1)
    sure, classes = (confidence > threshold).float(), to_classes(logits)
    if valid is None:
        share = sure.mean((1, 2), keepdim=True)
    else:
        sure, classes = sure * valid, classes.masked_fill(~valid, IGNORE)
        share = sure.sum((1, 2), keepdim=True) / valid.sum((1, 2), keepdim=True).clamp(min=1)
    return PseudoLabels(classes, sure if weighting == "pixels" else share.expand_as(sure))


def weighted_cross_entropy(logits: Tensor, labels: PseudoLabels) -> Tensor:
    """The mean over all pixels whose label is known of what each loses, times what it counts; 0 where none is known.

    Args:
        logits: ``(N, K, H, W)``.
        labels: of the same pixels; :data:`IGNORE` for those that are not known.
    """
    known = labels.classes != IGNORE
    if logits.shape[1] == 1:
        truth = (labels.classes == 1).to(logits.dtype)
        loss = F.binary_cross_entropy_with_logits(logits[:, 0], truth, reduction="none")
    else:
        loss = F.cross_entropy(logits, labels.classes, ignore_index=IGNORE, reduction="none")
    return torch.where(known, loss * labels.weights, 0).sum() / known.sum().clamp(min=1)
