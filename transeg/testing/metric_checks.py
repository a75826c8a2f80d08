"""What every metric must do."""

from __future__ import annotations

import inspect
import math

import numpy as np

from transeg.core.errors import TransegError
from transeg.core.evaluation.metrics.image_metrics import ImageMetric
from transeg.core.interfaces import IGNORE
from transeg.core.manifest import MetricEntry
from transeg.testing.subject import ContractError, Subject


def _case(classes: int, size: tuple[int, int] = (33, 40)) -> tuple[np.ndarray, np.ndarray]:
    """Random probabilities, and labels of which a few are unknown; read-only, as the core hands them over."""
    draw = np.random.default_rng(classes)
    weights = draw.random((classes, *size), dtype=np.float32) + 0.1
    labels = draw.integers(classes, size=size)
    labels[:2, :3] = IGNORE
    return _frozen(weights / weights.sum(0)), _frozen(labels)


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _sure(labels: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities of 1 for the label of each pixel, for background where it is unknown."""
    known = np.where(labels == IGNORE, 0, labels)
    return _frozen(np.moveaxis(np.eye(classes, dtype=np.float32)[known], -1, 0).copy())


def _measured(subject: Subject, probabilities: np.ndarray, labels: np.ndarray, pixel_size: float | None) -> float:
    metric = ImageMetric(subject.component.name, subject.component.package, subject.load())
    try:
        return metric("an image of the check", probabilities, labels, pixel_size)
    except TransegError as error:
        raise ContractError(f"{subject}: {error}") from error


def metric_is_a_function_of_an_image(subject: Subject) -> None:
    """It is called as f(probabilities, labels, pixel_size)."""
    function = subject.load()
    subject.expect(callable(function), "a function", type(function).__name__, "Name a function in the entry.")
    try:
        inspect.signature(function).bind(None, None, None)
    except TypeError as error:
        raise ContractError(
            f"{subject}: expected a function of (probabilities, labels, pixel_size), found {error}. "
            "Take these three, without names."
        ) from error


def metric_gives_a_number_or_none(subject: Subject) -> None:
    """It gives a finite number, or None where it is undefined, for any size, two and more classes, and leaves its
    arguments alone.
    """
    for classes in (2, 4):
        for size in ((33, 40), (1, 1), (1, 7)):
            for pixel_size in (None, 0.5):
                _measured(subject, *_case(classes, size), pixel_size)


def metric_bears_masks_of_one_class(subject: Subject) -> None:
    """Empty, full and wholly unknown masks give a finite number or None."""
    for label in (0, 1, IGNORE):
        labels = _frozen(np.full((16, 16), label))
        for found in (0, 1):
            _measured(subject, _sure(np.full((16, 16), found), 2), labels, 0.5)


def metric_leaves_out_what_is_unknown(subject: Subject) -> None:
    """What is predicted at pixels of IGNORE changes nothing."""
    probabilities, labels = _case(3)
    other = probabilities.copy()
    other[:, labels == IGNORE] = np.array([[0], [0], [1]])
    one, two = (_measured(subject, _frozen(each), labels, 0.5) for each in (probabilities, other))
    subject.expect(
        one == two or (math.isnan(one) and math.isnan(two)),
        "the same value whatever is predicted where nothing is known",
        f"{one:.6g} and {two:.6g}",
        "Look at pixels of `labels != IGNORE` alone.",
    )


def metric_repeats_itself(subject: Subject) -> None:
    """It gives the same value twice."""
    one, two = (_measured(subject, *_case(3), 0.5) for _ in "12")
    subject.expect(
        one == two or (math.isnan(one) and math.isnan(two)),
        "the same value twice",
        (one, two),
        "Draw nothing at random.",
    )


def metric_is_better_for_the_truth(subject: Subject) -> None:
    """The truth is not measured as worse than a prediction of nothing, in the direction that its row says."""
    entry = subject.component.entry
    assert isinstance(entry, MetricEntry)
    labels = np.zeros((24, 24), np.int64)
    labels[4:12, 5:15] = 1
    truth, nothing = (_measured(subject, _sure(each, 2), _frozen(labels.copy()), 0.5) for each in (labels, 0 * labels))
    if math.isnan(truth) or math.isnan(nothing) or entry.higher_is_better is None:
        return
    subject.expect(
        truth >= nothing if entry.higher_is_better else truth <= nothing,
        f"the truth to be {'higher' if entry.higher_is_better else 'lower'} than a prediction of nothing",
        f"{truth:.4g} for the truth and {nothing:.4g} for nothing",
        "Change higher_is_better in registry.toml, or the sign of the metric.",
    )


CHECKS = (
    metric_is_a_function_of_an_image,
    metric_gives_a_number_or_none,
    metric_bears_masks_of_one_class,
    metric_leaves_out_what_is_unknown,
    metric_repeats_itself,
    metric_is_better_for_the_truth,
)
