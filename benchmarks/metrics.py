"""Metrics of masks: ours beside MONAI's and torchmetrics', for table.py.

Each side gets the masks as it takes them: ours and torchmetrics class numbers, MONAI one channel for each class, which
somebody has made before. Outlines are measured by the 95 % Hausdorff distance and the surface Dice at two pixels;
torchmetrics has neither, and measures the Hausdorff distance alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from measuring import Side
from torch import Tensor

Metric = Callable[[Tensor, Tensor], list[float]]
"""Predicted and true class numbers, or what :func:`prepared` makes of them -> numbers."""
PAIRS = 4


def pairs(height: int, width: int) -> list[tuple[Tensor, Tensor]]:
    """Predicted and true masks, ``(H, W)`` int64: ellipses that are not quite the same."""
    from pictures import photograph

    made = []
    for seed in range(PAIRS):
        _, truth = photograph(np.random.default_rng(seed), height, width)
        moved = np.roll(truth, (height // 40, width // 60), (0, 1))
        made.append((torch.from_numpy(moved).long(), torch.from_numpy(truth).long()))
    return made


def side(which: str, what: str, library: str, height: int, width: int) -> Side:
    """A metric of four pairs of masks; the outcome is what it found.

    Args:
        which: `ours` or `theirs`.
        what: `dice` or `outlines`.
        library: `monai` or `torchmetrics`.
        height: of the masks.
        width: likewise.
    """
    warnings.simplefilter("ignore")  # MONAI warns of its own calls
    metric: Metric = METRICS[f"{what}, {'ours' if which == 'ours' else library}"]()
    given = pairs(height, width)
    if which != "ours" and library == "monai":
        given = [(one_hot(prediction), one_hot(truth)) for prediction, truth in given]
    found: list[list[float]] = []

    def work() -> None:
        found[:] = [metric(prediction, truth) for prediction, truth in given]

    comparable = (what, library) != ("outlines", "torchmetrics")
    return Side(work, PAIRS, outcome=(lambda: [number for each in found for number in each]) if comparable else None)


def one_hot(mask: Tensor) -> Tensor:
    """``(H, W)`` of 0 and 1 -> ``(1, 2, H, W)`` float32."""
    return torch.stack([1 - mask, mask])[None].float()


def our_dice() -> Metric:
    from transeg.core.evaluation.metrics.counts import count_pixels, overlap_ratios

    return lambda prediction, truth: [float(overlap_ratios(count_pixels(prediction, truth, 2))["dice"][1])]


def our_outlines() -> Metric:
    from transeg.core.evaluation.metrics.surface import surface_metrics

    def measure(prediction: Tensor, truth: Tensor) -> list[float]:
        predicted, true = prediction.numpy() == 1, truth.numpy() == 1
        return list(surface_metrics(predicted, true, np.ones_like(true)))

    return measure


def monai_dice() -> Metric:
    from monai.metrics import compute_dice

    return lambda prediction, truth: [compute_dice(prediction, truth, include_background=False).item()]


def monai_outlines() -> Metric:
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    from transeg.core.evaluation.metrics.surface import TOLERANCE

    return lambda prediction, truth: [
        compute_hausdorff_distance(prediction, truth, percentile=95).item(),
        compute_surface_dice(prediction, truth, [TOLERANCE]).item(),
    ]


def torchmetrics_dice() -> Metric:
    from torchmetrics.functional.segmentation import dice_score

    return lambda prediction, truth: [
        dice_score(prediction[None], truth[None], 2, include_background=False, input_format="index").item()
    ]


def torchmetrics_outlines() -> Metric:
    from torchmetrics.functional.segmentation import hausdorff_distance

    return lambda prediction, truth: [
        hausdorff_distance(prediction[None], truth[None], 2, include_background=False, input_format="index").item()
    ]


METRICS = {
    "dice, ours": our_dice,
    "dice, monai": monai_dice,
    "dice, torchmetrics": torchmetrics_dice,
    "outlines, ours": our_outlines,
    "outlines, monai": monai_outlines,
    "outlines, torchmetrics": torchmetrics_outlines,
}
