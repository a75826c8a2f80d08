import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import binary_erosion, distance_transform_edt
from shapes import case

from transeg.core.evaluation.metrics import surface
from transeg.core.evaluation.metrics.surface import TOLERANCE, _outline, surface_metrics

pytestmark = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy")  # MONAI says so of its own call

EVERYWHERE = np.ones((40, 50), dtype=bool)
CASES = [case(np.random.default_rng(seed), 40, 50) for seed in range(12)]


def one_hot(mask):
    return torch.from_numpy(np.stack([~mask, mask])[None]).float()


@pytest.mark.parametrize(("truth", "logits"), CASES)
def test_distances_agree_with_monai(truth, logits):
    prediction = logits > 0
    assert prediction.any()
    hausdorff, dice = surface_metrics(prediction, truth, EVERYWHERE)
    masks = one_hot(prediction), one_hot(truth)
    assert hausdorff == pytest.approx(compute_hausdorff_distance(*masks, percentile=95).item(), rel=1e-5)
    assert dice == pytest.approx(compute_surface_dice(*masks, [TOLERANCE]).item(), rel=1e-6)


@pytest.mark.parametrize(("truth", "logits"), CASES[:4])
@pytest.mark.parametrize("size", [(0.13, 0.13), (2.0, 0.5), (0.1, 0.7)])
def test_distances_in_micrometres_agree_with_monai(truth, logits, size):
    prediction = logits > 0
    hausdorff, dice = surface_metrics(prediction, truth, EVERYWHERE, size)
    masks = one_hot(prediction), one_hot(truth)
    theirs = compute_hausdorff_distance(*masks, percentile=95, spacing=size).item()
    assert hausdorff == pytest.approx(theirs, rel=1e-5)
    if size[0] == size[1]:
        pixels, as_before = surface_metrics(prediction, truth, EVERYWHERE)
        assert (hausdorff, dice) == (pytest.approx(size[0] * pixels), as_before)
    else:  # MONAI weighs the outlines' pixels by their length there, but not here
        assert 0 <= dice <= 1


@pytest.mark.parametrize("size", [(1.0, 1.0), (2.0, 0.5), (0.1, 0.7, 0.3)])
def test_both_ways_to_find_distances_find_the_same(monkeypatch, size):
    regions = np.random.default_rng(0).random((2, *(40, 30, 20)[: len(size)])) > 0.3
    for region in regions:
        outline = region & ~binary_erosion(region)
        assert (_outline(region) == outline).all()
    found = []
    for few in (0, 1):
        monkeypatch.setattr(surface, "FEW", few)
        found.append(surface_metrics(*regions, np.ones_like(regions[0]), size))
        away = surface._distances(_outline(regions[0]), _outline(regions[1]), size)
        expected = distance_transform_edt(~_outline(regions[1]), sampling=size)[_outline(regions[0])]
        assert away == pytest.approx(expected, rel=1e-12)
    assert found[0] == pytest.approx(found[1], rel=1e-12)


def test_pixels_that_are_no_squares():
    first, second = np.zeros((2, 40, 50), dtype=bool)
    first[10:20, 10:20] = second[10:20, 13:23] = True
    assert surface_metrics(first, second, EVERYWHERE, (4.0, 0.25))[0] == 0.75
    assert surface_metrics(first.T, second.T, EVERYWHERE.T, (4.0, 0.25))[0] == 12
    near, far = (
        surface_metrics(*pair, (4.0, 0.25))[1]
        for pair in (
            (first[:, :40], second[:, :40], EVERYWHERE[:, :40]),
            (first.T[:40], second.T[:40], EVERYWHERE.T[:40]),
        )
    )
    assert near == 1
    assert far < 0.8
    nothing = np.zeros_like(first)
    assert surface_metrics(first, nothing, EVERYWHERE, (4.0, 0.25)) == (math.hypot(4 * 40, 0.25 * 50), 0)


def test_two_squares():
    first, second = np.zeros((2, 40, 50), dtype=bool)
    first[10:20, 10:20] = True
    second[10:20, 13:23] = True
    hausdorff, dice = surface_metrics(first, second, EVERYWHERE)
    assert hausdorff == 3
    assert 0.5 < dice < 0.8  # three of four pixels above and below lie on the other's, the left and right sides do not
    assert surface_metrics(first, first, EVERYWHERE) == (0, 1)


def test_empty_regions_are_the_worst_or_undefined():
    empty, square = np.zeros((2, 40, 50), dtype=bool)
    square[3:9, 3:9] = True
    for pair in ((empty, square), (square, empty)):
        assert surface_metrics(*pair, EVERYWHERE) == (math.hypot(40, 50), 0)
    assert all(math.isnan(value) for value in surface_metrics(empty, empty, EVERYWHERE))


def test_ignored_pixels_are_as_if_outside_the_image():
    truth, logits = CASES[0]
    valid = np.zeros((47, 61), dtype=bool)
    valid[:40, :50] = True
    wide_truth, wide = np.random.default_rng(0).random((2, 47, 61)) > 0.5
    wide_truth[:40, :50], wide[:40, :50] = truth, logits > 0
    assert surface_metrics(wide, wide_truth, valid) == surface_metrics(logits > 0, truth, EVERYWHERE)
