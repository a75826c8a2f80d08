"""The Lovász losses, by segmentation-models-pytorch."""

from __future__ import annotations

from segmentation_models_pytorch.losses import LovaszLoss as Wrapped
from torch import Tensor

from transeg.core.interfaces import IGNORE, Loss


class LovaszLoss(Loss):
    """A convex surrogate of the intersection over union of the thresholded mask (arXiv:1705.08790).

    The Lovász hinge for one channel; for several the Lovász-softmax over the classes that the batch has, background
    included. Choose it to gain the last points of IoU, with `ce` or `bce` beside it or after a training with those, as
    the paper does. For one channel and a batch without foreground it is the error of the worst pixel.
    """

    def __init__(self) -> None:
        super().__init__()
        self._binary = Wrapped("binary", ignore_index=IGNORE)
        self._multiclass = Wrapped("multiclass", ignore_index=IGNORE)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        wrapped = self._binary if logits.shape[1] == 1 else self._multiclass
        loss: Tensor = wrapped(logits.float(), target)
        return loss.sum()  # where all is ignored, the wrapped loss is an empty tensor
