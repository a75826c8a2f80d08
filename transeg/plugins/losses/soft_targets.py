"""Distillation from what a teacher says of each pixel: Kullback-Leibler divergence, squared error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from transeg.core.interfaces import DistillationLoss


class KLDistillation(DistillationLoss):
    """Divergence of the student's softened class probabilities from the teacher's, at every pixel.

    Hinton, Vinyals and Dean, 2015, arXiv:1503.02531, section 2: both are softened by a temperature, and the loss is
    multiplied by its square, so that its gradient keeps its size. The teacher's doubts, which a hard mask leaves out,
    are what is learned. Begin with this one: it asks nothing of the two architectures.

    Args:
        temperature: divides the logits; higher ones show more of the teacher's doubts.
        divide_by: `pixels` gives the mean over the pixels; `elements` divides by the number of classes, too, as
            zh320/medical-segmentation-pytorch does: half as much for two classes.
    """

    def __init__(self, *, temperature: float = 4.0, divide_by: Literal["pixels", "elements"] = "pixels") -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"a temperature of {temperature} softens nothing; it must be above 0")
        self._temperature = temperature
        self._divide_by = divide_by

    def forward(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
        ours = _log_probabilities(student["logits"], self._temperature)
        theirs = _log_probabilities(teacher["logits"], self._temperature)
        divergence = F.kl_div(ours, theirs, reduction="none", log_target=True)
        per_pixel = divergence.sum(1) if self._divide_by == "pixels" else divergence
        return per_pixel.mean() * self._temperature**2


class MSEDistillation(DistillationLoss):
    """Mean squared difference of the two networks' logits, or of a layer of each.

    On logits, the limit of the divergence at high temperatures (arXiv:1503.02531, section 2.1). Choose it to match
    scores themselves; on layers, both need equally many channels.

    Args:
        layer: the student's output that is compared.
        teacher_layer: the teacher's; by default the one of the same name.
    """

    def __init__(self, *, layer: str = "logits", teacher_layer: str | None = None) -> None:
        super().__init__()
        self.layer = layer
        self.teacher_layer = teacher_layer or layer

    def prepare(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> None:
        ours, theirs = student[self.layer].shape[1], teacher[self.teacher_layer].shape[1]
        if ours != theirs:
            raise ValueError(
                f"{self.layer} has {ours} channels and the teacher's {self.teacher_layer} {theirs}; fitnet learns a "
                f"projection between them"
            )

    def forward(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
        ours = student[self.layer].float()
        return F.mse_loss(ours, resize_like(ours, teacher[self.teacher_layer].float()))


def resize_like(map_: Tensor, other: Tensor) -> Tensor:
    """The other map ``(N, C, h, w)`` at the height and width of the first."""
    if other.shape[2:] == map_.shape[2:]:
        return other
    return F.interpolate(other, size=map_.shape[2:], mode="bilinear", align_corners=False)


def _log_probabilities(logits: Tensor, temperature: float) -> Tensor:
    """Of all classes; one channel is the difference between two."""
    soft = logits.float() / temperature
    if soft.shape[1] == 1:
        soft = torch.cat((torch.zeros_like(soft), soft), 1)
    return soft.log_softmax(1)
