"""A segmenter learns from what it said of target images itself when the epoch began.

PL-CUT-Seg, arXiv:2307.12033.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Self

import torch
from torch import Tensor

from transeg.core.distributed.collectives import broadcast_buffers
from transeg.core.interfaces import IGNORE, Batch, Segmenter
from transeg.core.models.forward import segment, to_classes, to_float32
from transeg.core.training.tasks.segmentation_task import SegmentationTask
from transeg.core.training.tasks.target_learning import TargetLearning


class RenewedLabels(TargetLearning):
    """Each pixel of the target has the class that was likeliest at the last renewal, and counts like any other.

    Args:
        labeller: a segmenter like the one that learns; it gets that one's weights at each renewal.
        share: of target images in the segmentation loss, by progress in [0, 1); nothing before the second renewal,
            until which the labels are those of an untrained network.
        epoch: iterations between two renewals.
    """

    def __init__(self, labeller: Segmenter, *, share: Callable[[float], float], epoch: int) -> None:
        super().__init__()
        self.labeller = labeller.requires_grad_(False)
        self._share = share
        self._epoch = epoch

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.labeller.eval()
        return self

    def before_iteration(self, task: SegmentationTask) -> None:
        if task.iteration % self._epoch == 0:
            broadcast_buffers(task.segmenter)  # else ranks would look at their targets with different networks
            self.labeller.load_state_dict(task.segmenter.state_dict())

    def joined(
        self, losses: Mapping[str, Tensor], task: SegmentationTask, image: Tensor, batch: Batch
    ) -> dict[str, Tensor]:
        share = 0.0 if task.iteration < self._epoch else self._share(task.progress)
        if share == 0:
            return dict(losses)
        assert batch.target is not None
        with torch.no_grad():
            labels = to_classes(segment(self.labeller, batch.target)[0])
        if batch.target_valid is not None:
            labels = labels.masked_fill(~batch.target_valid, IGNORE)
        heads = [to_float32(logits) for logits in segment(task.segmenter, batch.target)]
        with torch.autocast(batch.target.device.type, enabled=False):
            on_target: dict[str, Tensor] = task.loss(heads, labels)
        return {**losses, **{name: (1 - share) * losses[name] + share * loss for name, loss in on_target.items()}}
