"""Random regions and logits that look like segmentations, for tests of metrics."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from transeg.core.evaluation.evaluation_items import EvaluationItem


def smooth(rng, height, width):
    """Smooth noise of unit variance."""
    field = gaussian_filter(rng.normal(size=(height, width)), rng.uniform(1, 6))
    return (field / field.std()).astype(np.float32)


def case(rng, height, width):
    """A truth that is neither empty nor full, and logits ``(H, W)`` that follow it more or less."""
    field = smooth(rng, height, width)
    truth = field > rng.uniform(-1, 1.5)
    return truth, rng.uniform(0, 3) * field + rng.uniform(0, 3) * smooth(rng, height, width)


def several(rng, height, width, count):
    """A truth of several classes, and logits ``(count, H, W)``."""
    truth = np.digitize(smooth(rng, height, width), np.linspace(-1, 1, count - 1))
    logits = [smooth(rng, height, width) + 2 * (truth == label) for label in range(count)]
    return truth, np.stack(logits).astype(np.float32)


def item(mask, name="x", group="g"):
    return EvaluationItem(name, group, torch.zeros(1), torch.as_tensor(mask).long())
