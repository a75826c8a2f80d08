"""A metric: the Brier score."""

import numpy as np

from transeg.core.interfaces import IGNORE


def brier_score(probabilities: np.ndarray, labels: np.ndarray, pixel_size: float | None) -> float | None:
    """Mean squared difference between probabilities and truth (Brier, 1950), over the pixels whose label is known.

    It punishes what is wrong and, unlike Dice, also what is right but unsure.
    """
    known = labels != IGNORE
    if not known.any():
        return None
    truth = np.eye(len(probabilities))[labels[known]]
    return float(np.square(probabilities[:, known].T - truth).mean())
