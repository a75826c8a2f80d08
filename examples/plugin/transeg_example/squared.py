"""A loss: the Brier score."""

from torch import Tensor
from torch.nn import functional as F

from transeg.core.interfaces import Loss


class SquaredLoss(Loss):
    """Mean squared difference between probabilities and truth (Brier, 1950)."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        if logits.shape[1] == 1:
            return (logits[:, 0].sigmoid() - target).square().mean()
        truth = F.one_hot(target, logits.shape[1]).movedim(-1, 1)
        return (logits.softmax(1) - truth).square().mean()
