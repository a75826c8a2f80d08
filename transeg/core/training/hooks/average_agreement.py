"""How much a segmenter and its moving average agree about target images, whose labels nobody knows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from transeg.core.evaluation.metrics.counts import mask_dice
from transeg.core.models.ema import EMA
from transeg.core.models.forward import to_classes
from transeg.core.training.tasks.segmentation_task import SegmentationTask


class AgreementHook(Hook):
    """Adds ``val/agreement`` to a validation's metrics: mean Dice between the masks of both.

    Args:
        task: whose segmenter is asked.
        average: of its weights.
        images: the target's, ``(C, h, w)`` as the networks take them.
        classes: number of classes.
    """

    priority = "HIGH"  # after the training's averages are out of the networks, before metrics are written

    def __init__(self, task: SegmentationTask, average: EMA, images: Sequence[Tensor], classes: int) -> None:
        self._task = task
        self._average = average
        self._images = images
        self._classes = classes

    @torch.no_grad()
    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Look at the images; where neither finds anything in any, there is no agreement."""
        if metrics is None:
            return
        values = []
        for image in self._images:
            plain, averaged = (to_classes(each[None])[0] for each in both_logits(self._task, self._average, image))
            values.append(mask_dice(plain, averaged, self._classes))
        defined = [value for value in values if not np.isnan(value)]
        metrics["val/agreement"] = float(np.mean(defined)) if defined else 0.0


def both_logits(task: SegmentationTask, average: EMA, image: Tensor) -> tuple[Tensor, Tensor]:
    """Logits ``(K, h, w)`` of a target image ``(C, h, w)``: of a segmenter's weights, and of their average."""
    (plain,) = task.validate(task.segment_target, [image])
    with average.in_place():
        (averaged,) = task.validate(task.segment_target, [image])
    return plain, averaged
