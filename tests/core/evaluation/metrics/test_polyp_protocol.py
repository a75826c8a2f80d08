import math
from itertools import product

import numpy as np
import py_sod_metrics as sod
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.special import expit
from shapes import case

from transeg.core.evaluation.metrics.polyp_protocol import METRICS, polyp_protocol, stretch_levels, weighted_f

EVERYWHERE = np.ones((40, 50), dtype=bool)
CASES = [case(np.random.default_rng(seed), 40, 50) for seed in range(12)]


def published(measure, levels, truth):
    """What pysodmetrics, which follows PraNet's tool, says of an 8-bit prediction."""
    measure.step(levels, truth.astype(np.uint8) * 255)
    return measure.get_results()


@pytest.mark.parametrize(("truth", "logits"), CASES)
def test_the_protocol_agrees_with_pysodmetrics(truth, logits):
    values, curves = polyp_protocol(expit(logits), truth, EVERYWHERE)
    levels = stretch_levels(expit(logits), EVERYWHERE)
    assert (levels.min(), levels.max()) == (0, 255)
    per_threshold = {"with_dynamic": True, "with_adaptive": False}
    handlers = {"dice": sod.DICEHandler(**per_threshold), "iou": sod.IOUHandler(**per_threshold)}
    ratios = published(sod.FmeasureV2(handlers), levels, truth)
    assert curves.dice[::-1] == pytest.approx(np.asarray(ratios["dice"]["dynamic"]), abs=1e-12)
    assert curves.iou[::-1] == pytest.approx(np.asarray(ratios["iou"]["dynamic"]), abs=1e-12)
    aligned = published(sod.Emeasure(), levels, truth)["em"]["curve"]
    assert curves.e_measure[::-1] == pytest.approx(aligned, abs=1e-9)
    assert values == pytest.approx(
        {
            "pranet_mdice": np.mean(ratios["dice"]["dynamic"]),
            "pranet_miou": np.mean(ratios["iou"]["dynamic"]),
            "pranet_wfm": published(sod.WeightedFmeasure(), levels, truth)["wfm"],
            "pranet_sm": published(sod.Smeasure(), levels, truth)["sm"],
            "pranet_mean_em": aligned.mean(),
            "pranet_mae": published(sod.MAE(), levels, truth)["mae"],
        },
        abs=2e-5,  # what is added to divisors there shows in nearly empty quarters of an image
    )


@pytest.mark.parametrize("place", [(slice(9, 21), slice(14, 40)), (slice(0, 4), slice(30, 50)), (slice(17, 18),) * 2])
@pytest.mark.parametrize("unknown", [0, 0.2])
def test_errors_are_weighted_as_if_the_whole_image_were_looked_at(place, unknown):
    """Distances are in 32 bits, and neighbours are looked for around the truth alone."""
    random = np.random.default_rng(0)
    truth = np.zeros((40, 50), bool)
    truth[place] = random.random(truth[place].shape) < 0.8
    truth[place[0].start, place[1].start] = True
    valid = random.random(truth.shape) >= unknown
    truth &= valid
    prediction = random.integers(0, 256, truth.shape) / 255
    error = np.abs(prediction - truth)
    distance, nearest = distance_transform_edt(~truth, return_indices=True)
    surrounding = gaussian_filter(error[tuple(nearest)] * valid, sigma=5, radius=3, mode="constant")
    inside, beyond = np.minimum(error, surrounding)[truth], valid & ~truth
    outside = (error * (2 - np.exp2(-distance / 5)))[beyond].sum()
    right = (1 - inside).sum()
    recall, precision = right / truth.sum(), right / (right + outside)
    expected = 2 * recall * precision / (recall + precision)
    assert weighted_f(prediction, truth, valid) == pytest.approx(expected, rel=1e-7)


def test_predictions_are_stretched_to_their_own_range():
    truth, logits = CASES[0]
    plain, _ = polyp_protocol(expit(logits), truth, EVERYWHERE)
    faint, _ = polyp_protocol(0.4 + 0.1 * expit(logits), truth, EVERYWHERE)
    assert faint == pytest.approx(plain, abs=1e-3)


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_a_blank_prediction_is_black(level):
    truth, _ = CASES[0]
    values, curves = polyp_protocol(np.full(truth.shape, level), truth, EVERYWHERE)
    black = np.zeros(truth.shape, dtype=np.uint8)
    assert values["pranet_wfm"] == pytest.approx(published(sod.WeightedFmeasure(), black, truth)["wfm"])
    assert values["pranet_mae"] == pytest.approx(truth.mean())
    assert not curves.dice[1:].any()
    assert curves.dice[0] == pytest.approx(2 * truth.sum() / (truth.sum() + truth.size))


def test_a_perfect_prediction():
    truth, _ = CASES[0]
    values, curves = polyp_protocol(truth.astype(float), truth, EVERYWHERE)
    assert values["pranet_wfm"] == 1
    assert values["pranet_sm"] == pytest.approx(1)
    assert values["pranet_mae"] == 0
    assert curves.dice[1:] == pytest.approx(1)
    assert curves.e_measure[1:] == pytest.approx(truth.size / (truth.size - 1))


@pytest.mark.parametrize("full", [False, True])
def test_empty_and_full_truths(full):
    truth = np.full((40, 50), full)
    _, logits = CASES[1]
    values, curves = polyp_protocol(expit(logits), truth, EVERYWHERE)
    levels = stretch_levels(expit(logits), EVERYWHERE)
    mean = levels.mean() / 255
    assert values["pranet_sm"] == pytest.approx(mean if full else 1 - mean)
    assert curves.e_measure[::-1] == pytest.approx(published(sod.Emeasure(), levels, truth)["em"]["curve"])
    if not full:
        assert values["pranet_mdice"] == values["pranet_miou"] == values["pranet_wfm"] == 0


@pytest.mark.parametrize("side", [2, 3])
def test_a_centroid_half_way_is_rounded_up(side):
    """As in MATLAB, in which the published tool is written; pysodmetrics rounds halves to even numbers."""
    truth = np.zeros((40, 50), dtype=bool)
    truth[10 : 10 + side, 20 : 20 + side] = True  # the centroid is at 10.5 and 20.5, or at 11 and 21
    prediction = stretch_levels(expit(CASES[2][1]), EVERYWHERE) / 255
    values, _ = polyp_protocol(prediction, truth, EVERYWHERE)
    assert values["pranet_sm"] == pytest.approx(structure(prediction, truth, 12, 22))


def structure(prediction, truth, row, column):
    """The S-measure from arrays instead of histograms; a row and a column begin the second halves."""

    def likeness(x):
        return 2 * x.mean() / (x.mean() ** 2 + 1 + x.std(ddof=1))

    share = truth.mean()
    result = share * likeness(prediction[truth]) + (1 - share) * likeness(1 - prediction[~truth])
    for rows, columns in product((slice(row), slice(row, None)), (slice(column), slice(column, None))):
        x, y = prediction[rows, columns], truth[rows, columns]
        covariance = np.cov(x.ravel(), y.ravel())
        numerator = 4 * x.mean() * y.mean() * covariance[0, 1]
        if numerator:
            result += x.size / truth.size * numerator / (x.mean() ** 2 + y.mean() ** 2) / np.trace(covariance)
    return result / 2


def test_ignored_pixels_are_as_if_outside_the_image():
    truth, logits = CASES[3]
    valid = np.zeros((47, 61), dtype=bool)
    valid[:40, :50] = True
    rng = np.random.default_rng(0)
    wide_truth, wide = rng.random((47, 61)) > 0.5, rng.random((47, 61))
    wide_truth[:40, :50], wide[:40, :50] = truth, expit(logits)
    values, _ = polyp_protocol(wide, wide_truth, valid)
    expected, _ = polyp_protocol(expit(logits), truth, EVERYWHERE)
    assert values == pytest.approx(expected)


def test_where_no_pixel_counts_nothing_is_defined():
    values, curves = polyp_protocol(np.ones((3, 3)), np.ones((3, 3), dtype=bool), np.zeros((3, 3), dtype=bool))
    assert curves is None
    assert tuple(values) == METRICS
    assert all(math.isnan(value) for value in values.values())


def test_values_do_not_depend_on_where_in_memory_an_image_lies():
    rng = np.random.default_rng(0)
    for _ in range(20):
        height, width = rng.integers(20, 70, 2)
        prediction, truth = rng.random((height, width)), rng.random((height, width)) < 0.02
        truth[0, 0] = True
        values = set()
        for _ in range(20):
            moved = [np.empty(size, dtype=np.uint8) for size in rng.integers(1, 20_000, 3)]
            values.add(weighted_f(prediction, truth, np.ones_like(truth)))
            del moved
        assert len(values) == 1
