"""Looks at labelled images of the target domain while a training goes on: to measure rules that choose checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from transeg.core.evaluation.evaluation_items import EvaluationItem
from transeg.core.evaluation.metrics.counts import count_pixels, overlap_ratios
from transeg.core.inference.sliding_window import resize_result
from transeg.core.models.ema import EMA
from transeg.core.models.forward import to_classes, to_probabilities
from transeg.core.training.tasks.segmentation_task import SegmentationTask

DECAY = 0.999
"""Of the average that is kept where the training has none; short trainings shorten it."""


class WatchHook(Hook):
    """Adds to a validation's metrics what rules without target labels would go by, and what they would miss.

    ``watch/entropy``: mean entropy of the predictions, as a share of the largest possible. ``watch/agreement``: mean
    Dice between the masks of the weights and those of their moving average. ``watch/dice``: mean Dice of the network
    that the validation sees and ``best.pt`` keeps; ``watch/dice_average``: of the moving average. Dice is that of the
    classes but background that occur in either mask. Nothing is chosen by any of them.

    Args:
        task: whose segmenter is watched.
        averages: the training's own.
        loader: of the images.
        average: of the segmenter, to be kept here; None where the training keeps one.
        classes: number of classes.
    """

    priority = "HIGH"  # after the training's averages are out of the networks, before metrics are written

    def __init__(
        self,
        task: SegmentationTask,
        averages: EMA,
        loader: DataLoader[EvaluationItem],
        average: EMA | None,
        classes: int,
    ) -> None:
        self._task = task
        self._averages = averages
        self._loader = loader
        self._own = average
        self._classes = classes

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Go on where the checkpoint was."""
        if self._own is not None:
            self._own.load_state_dict(checkpoint.get("watched", {}))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the average that is kept here."""
        if self._own is not None:
            checkpoint["watched"] = self._own.state_dict()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Update the average that is kept here."""
        if self._own is not None:
            self._own.update()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Look at the images."""
        if metrics is not None:
            metrics |= self._measure()

    @torch.no_grad()
    def _measure(self) -> dict[str, float]:
        found: dict[str, list[float]] = {"entropy": [], "agreement": [], "dice": [], "dice_average": []}
        average = self._averages if self._own is None else self._own
        for items in self._loader:
            images = [item.image for item in items]
            plain = self._task.validate(self._task.segment_target, images)
            with average.in_place():
                averaged = self._task.validate(self._task.segment_target, images)
            seen = averaged if self._own is None else plain
            for item, *logits in zip(items, plain, averaged, seen, strict=True):
                sized = [resize_result(each, *item.mask.shape) for each in logits]
                masks = [to_classes(each[None])[0] for each in sized]
                found["entropy"].append(_entropy(sized[-1]))
                found["agreement"].append(self._dice(masks[0], masks[1]))
                found["dice"].append(self._dice(masks[2], item.mask))
                found["dice_average"].append(self._dice(masks[1], item.mask))
        return {f"watch/{name}": float(np.nanmean(values)) for name, values in found.items() if not _undefined(values)}

    def _dice(self, prediction: Tensor, truth: Tensor) -> float:
        of_classes = overlap_ratios(count_pixels(prediction, truth, self._classes))["dice"][1:]
        return float("nan") if _undefined(of_classes) else float(np.nanmean(of_classes))


def _entropy(logits: Tensor) -> float:
    """Mean entropy of ``(K, H, W)`` logits, in [0, 1]."""
    foreground = to_probabilities(logits[None])[0]
    probabilities = torch.cat([foreground, (1 - foreground.sum(0, keepdim=True)).clamp(min=0)])
    per_pixel = torch.special.entr(probabilities).sum(0) / np.log(len(probabilities))
    return float(per_pixel.mean())


def _undefined(values: Any) -> bool:
    return bool(np.isnan(np.asarray(values)).all())
