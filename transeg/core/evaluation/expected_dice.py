"""The Dice that masks would reach, from how sure the segmenter is of them: no label is needed.

Of calibrated probabilities p, what a mask m shares with the unknown truth is expected to be the sum of p within m, and
the truth's size the sum of p: Dice is near 2 sum(p m) / (sum(m) + sum(p)) (Li et al., arXiv:2207.09957, who also
calibrate pixels of each predicted class apart). docs/decisions/estimate.md says where that fails.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from transeg.core.errors import DataError
from transeg.core.inference.adaptation import evenly
from transeg.core.interfaces import IGNORE
from transeg.core.models.forward import to_classes

PIXELS = 20_000
"""Of an image, evenly among all, that a calibration is learned from."""
COLDEST, HOTTEST = 2.0**-6, 2.0**6
"""Temperatures: a class that is always right, or never, would have none."""
HALVINGS = 40


@dataclass(frozen=True)
class Calibration:
    """Makes of a segmenter's logits probabilities that are right as often as they say, where it was learned.

    Attributes:
        temperatures: by class, background first: what the logits of the pixels that are predicted to be of it are
            divided by, above 1 where the segmenter is too sure. Masks stay as they are.
        always: of each class but background, whether all images that this was learned from show it.
    """

    temperatures: tuple[float, ...]
    always: tuple[bool, ...]

    @classmethod
    def learn(cls, results: Iterable[tuple[Tensor, Tensor]]) -> Calibration:
        """By class the temperature at which pixels that are predicted to be of it are so as often as is said of them.

        A class that is never predicted has the temperature of all pixels together.

        Args:
            results: of labelled images that the segmenter has not learned from: logits ``(K, H, W)``, and truth
                ``(H, W)`` int64, in which pixels of IGNORE do not count.

        Raises:
            DataError: no pixel counts.
        """
        images = [_sampled(logits, truth) for logits, truth in results]
        images = [(scores, truth) for scores, truth in images if len(truth)]
        if not images:
            raise DataError("No image that a calibration could be learned from has a labelled pixel.")
        scores, truth = torch.cat([each for each, _ in images], 1), torch.cat([each for _, each in images])
        predicted = scores.max(0)
        margins, right = scores - predicted.values, predicted.indices == truth
        chosen = [predicted.indices == label for label in range(len(scores))]
        temperatures = [
            _temperature(margins[:, of_class], right[of_class]) if of_class.any() else _temperature(margins, right)
            for of_class in chosen
        ]
        always = [all(bool((labels == label).any()) for _, labels in images) for label in range(1, len(scores))]
        return cls(tuple(temperatures), tuple(always))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits ``(K, H, W)`` -> probabilities of all classes, background first, ``(max(2, K), H, W)``."""
        return (_scores(logits) / torch.tensor(self.temperatures)[to_classes(logits[None])[0]]).softmax(0)

    def expected_dice(self, logits: Tensor) -> np.ndarray:
        """Of the masks that an image's logits ``(K, H, W)`` give: by class but background, ``(max(2, K) - 1,)``.

        A class that is not predicted has 0 if it is :attr:`always` there; otherwise NaN, as Dice is undefined where the
        truth has none of it, either.
        """
        chances, predicted = self.probabilities(logits), to_classes(logits[None])[0]
        found = []
        for label, always in enumerate(self.always, start=1):
            mask = predicted == label
            size = int(mask.sum())
            shared = float(chances[label][mask].sum(dtype=torch.float64))
            expected = float(chances[label].sum(dtype=torch.float64))
            found.append(2 * shared / (size + expected) if size else 0.0 if always else np.nan)
        return np.array(found)


def _scores(logits: Tensor) -> Tensor:
    """``(K, ...)`` -> one for each class, ``(max(2, K), ...)``: of a single one, background has nought."""
    return torch.cat([torch.zeros_like(logits), logits]) if len(logits) == 1 else logits


def _sampled(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Some pixels of an image that count: ``(classes, P)`` and ``(P,)``."""
    places = (truth.flatten() != IGNORE).nonzero()[:, 0]
    places = places[evenly(len(places), PIXELS)]
    return _scores(logits).flatten(1)[:, places], truth.flatten()[places]


def _temperature(margins: Tensor, right: Tensor) -> float:
    """Where the mean probability of the predicted classes is the share of right ones.

    Args:
        margins: ``(classes, P)`` logits less the highest one of each pixel.
        right: ``(P,)`` bool.
    """
    accuracy = float(right.double().mean())
    cold, hot = COLDEST, HOTTEST
    for _ in range(HALVINGS):  # the hotter, the less sure
        middle = (cold * hot) ** 0.5
        sure = float((1 / (margins / middle).exp().sum(0)).mean(dtype=torch.float64))
        cold, hot = (middle, hot) if sure > accuracy else (cold, middle)
    return (cold * hot) ** 0.5
