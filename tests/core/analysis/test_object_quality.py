"""Pairs of objects worked out by hand; and other implementations on random ones."""

import math

import numpy as np
import pytest
import torch

from transeg.core.analysis.counting import Counting
from transeg.core.analysis.object_quality import Overlaps


def numbered(numbers, mask=None):
    numbers = np.asarray(numbers)
    return Counting().numbered(numbers, np.asarray(numbers > 0 if mask is None else mask, dtype=np.int64))


def quality(true, predicted):
    return Overlaps(numbered(true), numbered(predicted)).quality()


def test_by_hand():
    """True 1 and predicted 5 share 3 of 5 pixels, 2 and 6 share 2 of 4, which is no pair; 7 is invented."""
    true = [[1, 1, 1, 1, 0, 0], [2, 2, 2, 0, 0, 0]]
    predicted = [[0, 5, 5, 5, 5, 0], [0, 6, 6, 6, 0, 7]]
    found = quality(true, predicted)
    assert found.sq == pytest.approx(3 / 5)
    assert found.rq == pytest.approx(2 / 5)  # one pair of 2 true and 3 predicted objects
    assert found.pq == pytest.approx(6 / 25)
    assert found.aji == pytest.approx((3 + 2) / (5 + 4 + 1))


def test_an_object_that_covers_two_is_united_with_both():
    """The index counts it twice, as its authors do; it can be a pair with the larger of them."""
    true, predicted = [[1, 1, 1, 1, 2, 2]], [[3, 3, 3, 3, 3, 3]]
    found = quality(true, predicted)
    assert found.aji == pytest.approx((4 + 2) / (6 + 6))
    assert (found.sq, found.rq) == pytest.approx((4 / 6, 2 / 3))


def test_of_two_parts_the_better_one_is_taken_and_the_other_is_alone():
    found = quality([[1, 1, 1, 1, 1, 0]], [[8, 8, 9, 9, 9, 9]])
    assert found.aji == pytest.approx(3 / (6 + 2))
    assert found == (0, pytest.approx(math.nan, nan_ok=True), 0, found.aji)  # 3 of 6 are not more than one half


def test_without_objects():
    one, none = [[1, 0]], [[0, 0]]
    assert all(math.isnan(value) for value in quality(none, none))
    for found in (quality(one, none), quality(none, one)):
        assert (found.pq, found.rq, found.aji) == (0, 0, 0)
        assert math.isnan(found.sq)


def test_objects_of_a_class_meet_only_those_of_their_own():
    numbers = [[1, 1, 0, 2, 2]]
    overlaps = Overlaps(numbered(numbers, [[1, 1, 0, 2, 2]]), numbered(numbers, [[1, 1, 0, 1, 1]]))
    assert overlaps.quality().pq == overlaps.quality().aji == 1
    assert overlaps.quality(1)[2:] == pytest.approx((2 / 3, 2 / 4))
    assert overlaps.quality(2)[2:] == (0, 0)


def blobs(rng, count):
    numbers = np.zeros((48, 64), dtype=np.int64)
    for number in rng.permutation(np.arange(1, count + 1)):
        row, column, height, width = (*rng.integers(0, (40, 56)), *rng.integers(4, 14, 2))
        numbers[row : row + height, column : column + width] = number
    return numbers


@pytest.mark.parametrize("seed", range(5))
def test_others_agree(seed):
    """torchmetrics on panoptic quality, and the index pixel by pixel as its paper describes it."""
    from torchmetrics.functional.detection import panoptic_quality

    rng = np.random.default_rng(seed)
    true = blobs(rng, 20)
    predicted = np.roll(np.where(rng.random(true.shape) < 0.95, true, 0), rng.integers(-3, 4), 1)
    predicted[:12] = blobs(rng, 20)[:12] + 100 * (rng.random((12, 64)) < 0.5)
    found = quality(true, predicted)
    things = [torch.from_numpy(np.stack([numbers > 0, numbers], -1))[None] for numbers in (predicted, true)]
    each = panoptic_quality(*things, things={1}, stuffs={0}, return_per_class=True, return_sq_and_rq=True)
    assert 0.05 < found.pq < 0.95
    assert found[:3] == pytest.approx(each.reshape(-1, 3)[0].tolist(), abs=1e-6)
    assert found.aji == pytest.approx(slow_index(true, predicted), abs=1e-9)


def slow_index(true, predicted):
    common = union = 0
    alone = set(np.unique(predicted[predicted > 0]))
    for number in np.unique(true[true > 0]):
        own = true == number
        best, chosen = 0.0, None
        for other in np.unique(predicted[own & (predicted > 0)]):
            iou = np.sum(own & (predicted == other)) / np.sum(own | (predicted == other))
            if iou > best:
                best, chosen = iou, other
        taken = predicted == chosen if chosen is not None else np.zeros_like(own)
        common, union = common + np.sum(own & taken), union + np.sum(own | taken)
        alone.discard(chosen)
    return common / (union + sum(np.sum(predicted == other) for other in alone))
