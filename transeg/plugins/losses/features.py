"""Distillation from a teacher's feature maps: attention, channels, hints."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from transeg.core.interfaces import DistillationLoss
from transeg.plugins.losses.soft_targets import resize_like


class ChannelWiseDistillation(DistillationLoss):
    """Divergence between where in the image each channel of student and teacher is active.

    Shu, Liu, Gao, Yan and Shen, ICCV 2021, arXiv:2011.13256: a softmax over the positions of each channel turns it
    into a distribution, so that the salient places count and the scale does not. Made for dense prediction; the paper
    weighs it by 3 on logits and by 50 on feature maps. Where the two have different channels, the student's are
    projected by a learned 1x1 convolution.

    Args:
        layer: the student's output that is compared.
        teacher_layer: the teacher's; by default the one of the same name.
        temperature: of the softmax over positions.
    """

    def __init__(self, *, layer: str = "logits", teacher_layer: str | None = None, temperature: float = 4.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"a temperature of {temperature} softens nothing; it must be above 0")
        self.layer = layer
        self.teacher_layer = teacher_layer or layer
        self._temperature = temperature
        self.projection: nn.Module = nn.Identity()

    def prepare(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> None:
        ours, theirs = student[self.layer].shape[1], teacher[self.teacher_layer].shape[1]
        if ours != theirs:
            self.projection = nn.Conv2d(ours, theirs, 1)

    def forward(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
        ours = self.projection(student[self.layer].float()).float()
        theirs = resize_like(ours, teacher[self.teacher_layer].float())
        ours, theirs = ((map_ / self._temperature).flatten(2).log_softmax(2) for map_ in (ours, theirs))
        divergence = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(2)
        return divergence.mean() * self._temperature**2


class LayerDistillation(DistillationLoss):
    """What the losses on one layer of each network share.

    Args:
        layer: the student's layer; `toolkit info segmenter/NAME` lists them.
        teacher_layer: the teacher's; by default the one of the same name.
    """

    def __init__(self, *, layer: str, teacher_layer: str | None = None) -> None:
        super().__init__()
        self.layer = layer
        self.teacher_layer = teacher_layer or layer


class AttentionTransfer(LayerDistillation):
    """Squared distance between the spatial attention maps of a layer of student and teacher.

    Zagoruyko and Komodakis, ICLR 2017, arXiv:1612.03928, equation 2 with p = 2: the sum of a layer's squared
    activations over its channels, made a unit vector. Channels may differ, so it joins any two architectures, and it
    has no parameters. The paper weighs it by 1000 divided by the number of positions; begin near 1.
    """

    def forward(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
        ours = student[self.layer].float()
        theirs = resize_like(ours, teacher[self.teacher_layer].float())
        return (_attention(ours) - _attention(theirs)).square().sum(1).mean()


class FitNetHint(LayerDistillation):
    """Half the mean squared difference between a projection of a student's layer and a teacher's.

    Romero, Ballas, Kahou, Chassang, Gatta and Bengio, "FitNets: hints for thin deep nets", ICLR 2015,
    arXiv:1412.6550, equation 3. The projection, a 1x1 convolution with the teacher's number of channels, is trained
    along and saved with the checkpoint. Choose it for a thin student and a layer in the middle of a wide teacher.
    """

    def prepare(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> None:
        self.projection = nn.Conv2d(student[self.layer].shape[1], teacher[self.teacher_layer].shape[1], 1)

    def forward(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
        ours = self.projection(student[self.layer].float()).float()
        return F.mse_loss(ours, resize_like(ours, teacher[self.teacher_layer].float())) / 2


def _attention(map_: Tensor) -> Tensor:
    """``(N, C, h, w)`` -> ``(N, h * w)`` of length one."""
    return F.normalize(map_.square().mean(1).flatten(1), dim=1)
