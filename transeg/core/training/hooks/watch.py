"""Looks at labelled images of the target domain while a training goes on: to measure rules that choose checkpoints."""

from __future__ import annotations

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from transeg.core.evaluation.evaluation_items import EvaluationSet
from transeg.core.evaluation.metrics.counts import mask_dice
from transeg.core.inference.sliding_window import resize_result
from transeg.core.models.ema import EMA
from transeg.core.models.forward import to_classes, to_probabilities
from transeg.core.training.hooks.average_agreement import both_logits
from transeg.core.training.tasks.segmentation_task import SegmentationTask


class WatchHook(Hook):
    """Adds to a validation's metrics what rules without target labels would go by, and what they would miss.

    ``watch/entropy``: mean entropy of the predictions, as a share of the largest possible. ``watch/agreement``: mean
    Dice between the masks of the weights and those of their moving average. ``watch/dice``: mean Dice of the network
    that the validation sees and ``best.pt`` keeps; ``watch/dice_average``: of the moving average. Dice is that of the
    classes but background that occur in either mask. Nothing is chosen by any of them.

    Args:
        task: whose segmenter is watched.
        average: of its weights.
        items: labelled images, read anew at each validation.
        count: how many of them.
        classes: number of classes.
        validates_average: whether validations see the average.
    """

    priority = "HIGH"  # after the training's averages are out of the networks, before metrics are written

    def __init__(
        self,
        task: SegmentationTask,
        average: EMA,
        items: EvaluationSet,
        count: int,
        classes: int,
        *,
        validates_average: bool,
    ) -> None:
        self._task = task
        self._average = average
        self._items = items
        self._count = count
        self._classes = classes
        self._validates_average = validates_average

    @torch.no_grad()
    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Look at the images."""
        if metrics is None:
            return
        found: dict[str, list[float]] = {"entropy": [], "agreement": [], "dice": [], "dice_average": []}
        for index in range(self._count):
            item = self._items[index]
            both = both_logits(self._task, self._average, item.image)
            logits = [resize_result(each, *item.mask.shape) for each in both]
            own, average = (to_classes(each[None])[0] for each in logits)
            found["entropy"].append(_entropy(logits[self._validates_average]))
            found["agreement"].append(mask_dice(own, average, self._classes))
            found["dice_average"].append(mask_dice(average, item.mask, self._classes))
            kept = average if self._validates_average else own
            found["dice"].append(mask_dice(kept, item.mask, self._classes))
        metrics |= {
            f"watch/{name}": float(np.nanmean(values)) for name, values in found.items() if not np.isnan(values).all()
        }


def _entropy(logits: Tensor) -> float:
    """Mean entropy of ``(K, H, W)`` logits, in [0, 1]."""
    foreground = to_probabilities(logits[None])[0]
    probabilities = torch.cat([foreground, (1 - foreground.sum(0, keepdim=True)).clamp(min=0)])
    per_pixel = torch.special.entr(probabilities).sum(0) / np.log(len(probabilities))
    return float(per_pixel.mean())
