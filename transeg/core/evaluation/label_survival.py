"""Whether the label of an image still fits what its translation shows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from transeg.core.evaluation.label_shift import label_shift
from transeg.core.evaluation.metrics.counts import mask_dice
from transeg.core.inference.masks import class_map
from transeg.core.inference.prediction import segment_image
from transeg.core.inference.trained_model import TrainedModel


@dataclass(frozen=True)
class LabelSurvival:
    """What can be said of a translation.

    Attributes:
        shift: rows and columns; see :func:`~transeg.core.evaluation.label_shift.label_shift`.
        dice: mean Dice over the classes but background of the label and of what a segmenter finds; None without one, or
            where neither shows any.
    """

    shift: tuple[float, float] | None
    dice: float | None

    @classmethod
    def of(
        cls, image: np.ndarray, translated: np.ndarray, mask: np.ndarray | None, judge: TrainedModel | None
    ) -> LabelSurvival:
        """Measure it.

        Args:
            image: ``(H, W, C)`` uint8, uint16 or float in [0, 1].
            translated: likewise, of the same height and width.
            mask: ``(H, W)`` classes, the label of both.
            judge: a segmenter that should find the label in the translation.
        """
        dice = math.nan if judge is None or mask is None else _dice(translated, mask, judge)
        return cls(label_shift(image, translated), None if math.isnan(dice) else dice)


def _dice(image: np.ndarray, mask: np.ndarray, judge: TrainedModel) -> float:
    found = class_map(segment_image(judge, image, judge.inference()))
    labels, truth = (torch.from_numpy(each.astype(np.int64)) for each in (found, mask))
    return mask_dice(labels, truth, len(judge.domains.class_names))
