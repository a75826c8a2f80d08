"""Cross-entropy over all classes, of every pixel or of the hard ones."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from transeg.core.interfaces import IGNORE, Loss
from transeg.plugins.losses.targets import TINY, as_softmax


class CrossEntropyLoss(Loss):
    """Cross-entropy of the classes, background included; for one channel, that of its two classes.

    The plain choice for several classes, and what zh320's experiments were trained with. It knows what to do with
    empty masks. Where the foreground is a small part of the image, weigh the classes or add an overlap loss
    (`ce+dice`, the loss of nnU-Net). Without options and for one channel it is `bce`.

    Args:
        class_weights: one for each class, background first (two for a binary network); the mean is a weighted one.
        label_smoothing: share of the truth, in [0, 1), that is spread evenly over all classes; good against
            overconfidence and against labels that are wrong here and there.
    """

    class_weights: Tensor | None

    def __init__(self, *, class_weights: tuple[float, ...] | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if class_weights is not None and (min(class_weights, default=0) < 0 or not any(class_weights)):
            raise ValueError(f"class_weights must not be negative nor all zero, as {class_weights} are")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), not {label_smoothing}")
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)
        self._smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        losses, weights = self._pixels(as_softmax(logits), target.long())
        return losses.sum() / weights.sum().clamp(min=TINY)

    def _pixels(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted loss and weight of each pixel, ``(N, H, W)``; both 0 where the label is to be ignored."""
        table = self.class_weights
        if table is not None and len(table) != logits.shape[1]:
            raise ValueError(f"class_weights has {len(table)} weights, but there are {logits.shape[1]} classes")
        losses = F.cross_entropy(
            logits, target, table, ignore_index=IGNORE, reduction="none", label_smoothing=self._smoothing
        )
        weights = (target != IGNORE).float()
        if table is not None:
            weights = weights * table[target.where(target != IGNORE, 0)]
        return losses, weights


class OHEMLoss(CrossEntropyLoss):
    """Cross-entropy of the hard pixels alone: online hard example mining (Shrivastava et al., arXiv:1604.03540).

    Hard are pixels whose true class has a probability below `threshold`, and in any case the hardest `keep` of all.
    Choose it where a network that is right almost everywhere stays wrong in a few places, such as thin edges; with
    noisy labels it runs after the noise. Which pixels are hard is decided before class weights and label smoothing,
    because the threshold is a probability; their mean is then a weighted one. Pixels that tie with the last of the
    hardest are all kept, so that the choice never depends on an order.

    Args:
        threshold: probability of the true class below which a pixel is hard, in (0, 1).
        keep: least share of the pixels that is kept, in (0, 1].
    """

    def __init__(
        self,
        *,
        threshold: float = 0.7,
        keep: float = 1 / 16,
        class_weights: tuple[float, ...] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(class_weights=class_weights, label_smoothing=label_smoothing)
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must be in (0, 1), not {threshold}")
        if not 0 < keep <= 1:
            raise ValueError(f"keep must be in (0, 1], not {keep}")
        self._hard = -math.log(threshold)
        self._keep = keep

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        logits, target = as_softmax(logits), target.long()
        losses, weights = self._pixels(logits, target)
        kept = self._kept(logits.detach(), target)
        return (losses * kept).sum() / (weights * kept).sum().clamp(min=TINY)

    def _kept(self, logits: Tensor, target: Tensor) -> Tensor:
        """``(N, H, W)`` bool: the pixels that count. How many they are is never asked: that would stall a GPU."""
        hardness = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
        most = max(1, int(self._keep * target.numel()))
        least = (self._keep * (target != IGNORE).sum()).long().clamp(1, most)
        hardest = hardness.flatten().topk(most).values
        return (hardness > self._hard) | (hardness >= hardest.gather(0, least.view(1) - 1))
