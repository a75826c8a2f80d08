import numpy as np
import pytest

from transeg.core.analysis.agreement import agreement


def test_by_hand():
    """Errors 2, -1, 0, 3: mean 1, squares about it 1 + 4 + 1 + 4 = 10, so that the deviation is sqrt(10 / 3)."""
    found = agreement(np.array([10, 4, 0, 6]), np.array([12, 3, 0, 9]))
    assert (found["true"], found["predicted"]) == (20, 24)
    assert found["mae"] == pytest.approx(6 / 4)
    assert found["relative_error"] == pytest.approx((2 / 10 + 1 / 4 + 3 / 6) / 3)  # not of the image without objects
    assert found["bias"] == pytest.approx(1)
    reach = 1.96 * (10 / 3) ** 0.5
    assert found["limits"] == pytest.approx([1 - reach, 1 + reach])


def test_nothing_true():
    found = agreement(np.array([0, 0]), np.array([1, 3]))
    assert found["relative_error"] is None
    assert found["mae"] == found["bias"] == 2


def test_a_single_image_has_no_limits():
    assert agreement(np.array([5]), np.array([3]))["limits"] is None


def test_counts_without_a_sign_are_subtracted_all_the_same():
    assert agreement(np.array([3], dtype=np.uint8), np.array([1], dtype=np.uint8))["bias"] == -2
