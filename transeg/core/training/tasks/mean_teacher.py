"""A segmenter learns from its own moving average what target images show.

The average as teacher: Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017, arXiv:1703.01780.
Its labels weighted by how sure it is: DAFormer, arXiv:2111.14887.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from transeg.core.distributed.collectives import broadcast_buffers
from transeg.core.interfaces import Batch
from transeg.core.models.forward import segment, to_float32
from transeg.core.training.pseudo_labels import PseudoLabels, Weighting, pseudo_labels, weighted_cross_entropy
from transeg.core.training.tasks.segmentation_task import SegmentationTask
from transeg.core.training.tasks.target_learning import TargetLearning


class MeanTeacher(TargetLearning):
    """The teacher is the segmenter with the averages of its weights, in eval mode: what is validated and used, too.

    It sees target images as the loader gives them. Until the first step it is the segmenter that training began with.

    Args:
        threshold: above which probability the teacher is sure of a pixel, in [0, 1].
        weighting: what a pixel counts.
        weight: of the loss on target images.
    """

    decays: Mapping[str, float] = {"segmenter": 0.999}

    def __init__(self, *, threshold: float, weighting: Weighting, weight: float) -> None:
        super().__init__()
        self._threshold = threshold
        self._weighting = weighting
        self._weight = weight

    def before_iteration(self, task: SegmentationTask) -> None:
        """Give all ranks the same teacher: its batch norms have the running statistics, which are each rank's own."""
        broadcast_buffers(task.segmenter)

    def joined(
        self, losses: Mapping[str, Tensor], task: SegmentationTask, image: Tensor, batch: Batch
    ) -> dict[str, Tensor]:
        assert batch.target is not None
        labels = pseudo_labels(_taught(task, batch.target), self._threshold, self._weighting)
        return {**losses, "target": self._weight * _loss(task, batch.target, labels)}


@torch.no_grad()
def _taught(task: SegmentationTask, image: Tensor) -> Tensor:
    """The teacher's logits of images, ``(N, K, H, W)``."""
    training = task.segmenter.training
    with task.averages.in_place():
        logits = segment(task.segmenter.eval(), image)[0]
    task.segmenter.train(training)
    return logits


def _loss(task: SegmentationTask, image: Tensor, labels: PseudoLabels) -> Tensor:
    """What the segmenter loses on images with pseudo-labels, over its heads as in the loss on labelled ones."""
    heads = [to_float32(logits) for logits in segment(task.segmenter, image)]
    with torch.autocast(image.device.type, enabled=False):
        shares = task.loss.shares(len(heads))
        values = [share * weighted_cross_entropy(logits, labels) for share, logits in zip(shares, heads, strict=True)]
        return torch.stack(values).sum()
