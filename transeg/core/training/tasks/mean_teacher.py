"""A segmenter learns from its own moving average what target images show.

The average as teacher: Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017, arXiv:1703.01780.
Its labels weighted by how sure it is: DAFormer, arXiv:2111.14887. Masked images: MIC, arXiv:2212.01322.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from transeg.core.interfaces import Batch
from transeg.core.models.forward import segment, shift_and_scale, to_float32
from transeg.core.training.appearance_changes import AppearanceChanges
from transeg.core.training.masking import Masking
from transeg.core.training.mixing import Mix
from transeg.core.training.pseudo_labels import PseudoLabels, Weighting, pseudo_labels, weighted_cross_entropy
from transeg.core.training.tasks.segmentation_task import SegmentationTask
from transeg.core.training.tasks.target_learning import TargetLearning


class MeanTeacher(TargetLearning):
    """The teacher is the segmenter with the averages of its weights, without dropout: what is validated and used, too,
    then with running statistics in its batch norms.

    It sees target images as the loader gives them; the student sees a strong view of them, into which parts of labelled
    images may be pasted. Until the first step the teacher is the segmenter that training began with.

    Args:
        threshold: above which probability the teacher is sure of a pixel, in [0, 1].
        weighting: what a pixel counts.
        weight: of the loss on target images.
        mix: which pixels of labelled images, with their labels, are pasted onto target images; None for none.
        appearance: makes what the student sees, after the pasting, a strong view; None for the same view.
        masking: hides parts of target images that the student learns from once more; None for not at all.
    """

    decays: Mapping[str, float] = {"segmenter": 0.999}

    def __init__(
        self,
        *,
        threshold: float,
        weighting: Weighting,
        weight: float,
        mix: Mix | None = None,
        appearance: AppearanceChanges | None = None,
        masking: Masking | None = None,
    ) -> None:
        super().__init__()
        self._threshold = threshold
        self._weighting = weighting
        self._weight = weight
        self._mix = mix
        self._appearance = appearance
        self._masking = masking

    def joined(
        self, losses: Mapping[str, Tensor], task: SegmentationTask, image: Tensor, batch: Batch
    ) -> dict[str, Tensor]:
        assert batch.target is not None
        logits = _taught(task, batch.target)
        labels = pseudo_labels(logits, self._threshold, self._weighting, batch.target_valid)
        seen, mixed = self._mixed(image, batch, labels, max(2, logits.shape[1]))
        joined = {**losses, "target": self._weight * _loss(task, self._strong(seen, batch), mixed)}
        if self._masking is not None:
            hidden = self._masking(self._strong(batch.target, batch), _mean(task, batch.target), batch.noise())
            joined["masked"] = self._weight * _loss(task, hidden, labels)
        return joined

    def _mixed(self, image: Tensor, batch: Batch, labels: PseudoLabels, classes: int) -> tuple[Tensor, PseudoLabels]:
        """Target images onto which parts of labelled ones, where there are any, are pasted: their labels are right."""
        assert batch.target is not None
        if self._mix is None or batch.source_mask is None:
            return batch.target, labels
        pasted = self._mix(batch.source_mask, classes, batch.noise())
        mixed = PseudoLabels(
            torch.where(pasted, batch.source_mask, labels.classes), labels.weights.masked_fill(pasted, 1.0)
        )
        return torch.where(pasted[:, None], image, batch.target), mixed

    def _strong(self, image: Tensor, batch: Batch) -> Tensor:
        return image if self._appearance is None else self._appearance(image, batch.positions)


@torch.no_grad()
def _taught(task: SegmentationTask, image: Tensor) -> Tensor:
    """The teacher's logits of images, ``(N, K, H, W)``.

    Its batch norms take the statistics of these images, as DAFormer's code does, and leave the running ones, in which
    source and target images are mixed, as they are.
    """
    training = task.segmenter.training
    with task.averages.in_place(), _statistics_of_batch(task.segmenter.eval()):
        logits = segment(task.segmenter, image)[0]
    task.segmenter.train(training)
    return logits


@contextmanager
def _statistics_of_batch(segmenter: nn.Module) -> Iterator[None]:
    """Batch norms normalise each batch by itself, and learn nothing from it, for as long as this lasts."""
    norms = [module for module in segmenter.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for norm in norms:
            norm.training, norm.track_running_stats = False, True


def _mean(task: SegmentationTask, image: Tensor) -> Tensor:
    """What the segmenter subtracts from images, ``(1, C, 1, 1)`` on their scale: zeros to its first layer."""
    segmenter = task.segmenter
    shift, scale = shift_and_scale(segmenter.mean, segmenter.std, image.shape[1], image.device, image.dtype)
    return -shift / scale


def _loss(task: SegmentationTask, image: Tensor, labels: PseudoLabels) -> Tensor:
    """What the segmenter loses on images with pseudo-labels, over its heads as in the loss on labelled ones."""
    heads = [to_float32(logits) for logits in segment(task.segmenter, image)]
    with torch.autocast(image.device.type, enabled=False):
        shares = task.loss.shares(len(heads))
        values = [share * weighted_cross_entropy(logits, labels) for share, logits in zip(shares, heads, strict=True)]
        return torch.stack(values).sum()
