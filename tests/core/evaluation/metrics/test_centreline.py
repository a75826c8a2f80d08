"""Centreline Dice on lines whose answer can be counted."""

import numpy as np
import pytest

from transeg.core.evaluation.metrics.centreline import centreline_dice

pytest.importorskip("skimage")


def line(length, thickness=1):
    mask = np.zeros((21, 40), np.int64)
    mask[10 - thickness // 2 : 11 + thickness // 2, :length] = 1
    return mask


def one_hot(mask, classes=2):
    return (mask == np.arange(classes)[:, None, None]).astype(np.float32)


@pytest.mark.parametrize(("found", "expected"), [(40, 1), (20, 2 * 1 * 0.5 / 1.5), (10, 2 * 1 * 0.25 / 1.25), (0, 0)])
def test_a_vessel_that_is_lost_half_way(found, expected):
    assert centreline_dice(one_hot(line(found)), line(40), None) == pytest.approx(expected)


def test_width_does_not_matter():
    assert centreline_dice(one_hot(line(40, thickness=5)), line(40), None) == pytest.approx(1, abs=0.03)
    assert centreline_dice(one_hot(line(40)), line(40, thickness=5), None) == pytest.approx(1, abs=0.03)


def test_unknown_pixels_count_nowhere():
    truth = line(40)
    truth[:, 20:] = 255
    assert centreline_dice(one_hot(line(20)), truth, None) == pytest.approx(1)
    assert centreline_dice(one_hot(line(40)), truth, None) == pytest.approx(1)


def test_classes_are_averaged_where_there_is_anything():
    truth = line(40) * 2
    assert centreline_dice(one_hot(truth, 3), truth, None) == pytest.approx(1)
    wrong = np.where(line(40), 1, 0)
    assert centreline_dice(one_hot(wrong, 3), truth, None) == 0
    assert centreline_dice(one_hot(0 * truth, 3), 0 * truth, None) is None
