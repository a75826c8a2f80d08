import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

from transeg.core.evaluation.metrics.calibration import BINS, calibration_bins, calibration_error


@pytest.mark.parametrize("seed", range(3))
def test_the_error_agrees_with_torchmetrics(seed):
    rng = np.random.default_rng(seed)
    confidence, right = rng.random(5000).astype(np.float32), rng.random(5000) < 0.3
    expected = binary_calibration_error(torch.from_numpy(confidence), torch.from_numpy(right).int(), n_bins=BINS)
    assert calibration_error(calibration_bins(confidence, right)) == pytest.approx(expected.item(), abs=1e-5)


def test_bins_of_images_add_up():
    rng = np.random.default_rng(0)
    confidence, right = rng.random(1000), rng.random(1000) < 0.5
    halves = sum(calibration_bins(confidence[part], right[part]) for part in (slice(0, 300), slice(300, None)))
    assert halves == pytest.approx(calibration_bins(confidence, right))


def test_certainty_is_in_the_last_bin_and_nothing_is_undefined():
    assert calibration_error(calibration_bins(np.ones(3), np.array([True, True, False]))) == pytest.approx(1 / 3)
    assert math.isnan(calibration_error(calibration_bins(np.ones(0), np.ones(0, dtype=bool))))
