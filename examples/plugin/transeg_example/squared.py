"""A loss: the Brier score."""

from torch import Tensor
from torch.nn import functional as F

from transeg.core.interfaces import IGNORE, Loss


class SquaredLoss(Loss):
    """Mean squared difference between probabilities and truth (Brier, 1950), over the pixels whose label is known."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        known = target != IGNORE
        if logits.shape[1] == 1:
            wrong = (logits[:, 0].float().sigmoid() - target).square()
        else:
            truth = F.one_hot(target.where(known, 0), logits.shape[1]).movedim(-1, 1)
            wrong = (logits.float().softmax(1) - truth).square().mean(1)
        return (wrong * known).sum() / known.sum().clamp(min=1)
