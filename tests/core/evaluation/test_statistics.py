from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, permutation_test

from transeg.core.evaluation.statistics import bootstrap_intervals, group_sums, holm_adjust, paired_permutation_test

RNG = np.random.default_rng(0)
VALUES = RNG.beta(5, 2, size=(60, 2))
ALONE = [str(index) for index in range(60)]


def test_intervals_agree_with_scipy():
    for values, ends in zip(VALUES.T, bootstrap_intervals(VALUES, ALONE), strict=True):
        expected = bootstrap((values,), np.mean, method="percentile", n_resamples=20000, rng=1).confidence_interval
        assert ends == pytest.approx(expected, abs=0.05 * (expected.high - expected.low))


def test_copies_in_a_group_add_nothing():
    """Frames of one video that are all alike must not make the interval narrower."""
    frames, names = np.repeat(VALUES, 9, axis=0), list(np.repeat(ALONE, 9))
    assert bootstrap_intervals(frames, names) == pytest.approx(bootstrap_intervals(VALUES, ALONE))
    independent = bootstrap_intervals(frames, [str(index) for index in range(len(frames))])
    assert np.ptp(independent[0]) < 0.5 * np.ptp(bootstrap_intervals(VALUES, ALONE)[0])


def test_undefined_values_are_left_out():
    holes = VALUES.copy()
    holes[::3, 0] = np.nan
    low, high = bootstrap_intervals(holes, ALONE)[0]
    assert low < np.nanmean(holes[:, 0]) < high
    holes[1:, 1] = np.nan
    assert np.isnan(bootstrap_intervals(holes, ALONE)[1]).all()
    assert np.isnan(bootstrap_intervals(VALUES, ["one"] * 60)).all()


def test_sums_of_groups():
    sums, counts = group_sums(np.array([[1.0], [np.nan], [3.0]]), ["b", "a", "b"])
    assert sums.tolist() == [[0], [4]]
    assert counts.tolist() == [[0], [2]]


def test_p_of_few_groups_is_exact():
    differences = RNG.normal(0.5, size=8)
    flipped = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=8)]
    expected = np.mean(np.array(flipped) >= abs(differences.sum()) - 1e-12)
    assert paired_permutation_test(differences, ALONE[:8]) == pytest.approx(expected)


@pytest.mark.parametrize("count", [2, 13, 14, 300])
def test_p_agrees_with_scipy(count):
    for shift in (0.0, 0.1, 0.3):
        differences = RNG.normal(shift, size=count).round(1)  # many ties
        expected = permutation_test(
            (differences,), lambda x, axis: x.sum(axis), permutation_type="samples", n_resamples=9999, rng=1
        ).pvalue
        exact, spread = 2**count <= 9999, 2 * np.sqrt(max(expected, 1e-3) / 9999)
        found = paired_permutation_test(differences, [str(number) for number in range(count)])
        assert found == pytest.approx(expected, abs=1e-12 if exact else 4 * spread)


def test_groups_change_sides_as_a_whole():
    """Sixty frames of one sequence and one other image are two observations, whose p is a half at least."""
    differences = np.full(61, 0.1)
    assert paired_permutation_test(differences, ["video"] * 60 + ["other"]) >= 0.5
    assert paired_permutation_test(differences, [str(index) for index in range(61)]) < 0.001
    assert paired_permutation_test(differences, ["video"] * 61) is None
    assert paired_permutation_test(np.zeros(5), ALONE[:5]) == 1


def test_p_is_right_as_often_as_it_says():
    rng = np.random.default_rng(1)
    found = [paired_permutation_test(rng.normal(size=10), ALONE[:10]) for _ in range(200)]
    assert 0.02 < np.mean(np.array(found) <= 0.05) < 0.09


def test_holm_by_hand():
    """Four tests: 4 x 0.005, 3 x 0.01, 2 x 0.03, and the last one is no smaller than what comes before it."""
    assert holm_adjust([0.01, 0.04, 0.03, 0.005], 4) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm_adjust([0.01, None, 0.9], 3) == [pytest.approx(0.03), None, 1.0]
    assert holm_adjust([None], 0) == [None]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.data())
def test_holm_of_some_is_never_less_than_holm_of_all(p, data):
    """Picking the comparisons after the fact is allowed, as long as the whole family is counted."""
    chosen = data.draw(st.lists(st.sampled_from(range(len(p))), min_size=1, unique=True))
    of_all, of_some = holm_adjust(p, len(p)), holm_adjust([p[place] for place in chosen], len(p))
    assert all(some >= of_all[place] - 1e-12 for place, some in zip(chosen, of_some, strict=True))
