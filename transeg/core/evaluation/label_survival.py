"""Whether the label of an image still fits what its translation shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from transeg.core.evaluation.label_shift import label_shift
from transeg.core.evaluation.metrics.counts import count_pixels, overlap_ratios
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
        return cls(
            label_shift(image, translated), None if judge is None or mask is None else _dice(translated, mask, judge)
        )

    @property
    def distance(self) -> float:
        """Pixels of the shift; 0 of images too small to tell."""
        return 0.0 if self.shift is None else float(np.hypot(*self.shift))


def _dice(image: np.ndarray, mask: np.ndarray, judge: TrainedModel) -> float | None:
    found = torch.from_numpy(class_map(segment_image(judge, image, judge.inference())).astype(np.int64))
    counts = count_pixels(found, torch.from_numpy(mask.astype(np.int64)), len(judge.domains.class_names))
    dice = overlap_ratios(counts)["dice"][1:]
    return None if np.isnan(dice).all() else float(np.nanmean(dice))
