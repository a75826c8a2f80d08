import math
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from scipy import linalg
from skimage.metrics import structural_similarity

from transeg.core.evaluation.metrics.image_quality import image_set_metrics, paired_image_metrics


@pytest.mark.parametrize("sides", [(48, 40), (11, 11), (11, 70)])
@pytest.mark.parametrize("frame", [0, 3])
def test_pairs_against_scikit_image(sides, frame):
    """A frame that nothing has to do with may not count more than it does there."""
    rng = np.random.default_rng(0)
    a, noise = rng.random((2, 3, *sides), dtype=np.float32)
    b = np.clip(a + 0.3 * noise, 0, 1)
    b[:, :frame] = 0
    values = paired_image_metrics(torch.from_numpy(2 * a - 1), torch.from_numpy(2 * b - 1))
    theirs = structural_similarity(
        a, b, data_range=1.0, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert values["ssim"] == pytest.approx(theirs, abs=1e-5)
    assert values["psnr"] == pytest.approx(10 * math.log10(1 / np.mean((a - b) ** 2)), abs=1e-4)


def test_images_smaller_than_the_window_have_no_structural_similarity():
    image = torch.rand(1, 10, 40) * 2 - 1
    values = paired_image_metrics(image, image)
    assert math.isnan(values["ssim"])
    assert values["psnr"] == 100


def test_equal_images():
    image = torch.rand(1, 16, 16) * 2 - 1
    values = paired_image_metrics(image, image)
    assert values["ssim"] == pytest.approx(1)
    assert values["psnr"] == 100


def kernel(a, b):
    """The polynomial kernel of KID, for six features."""
    return (a @ b.T / 6 + 1) ** 3


def test_sets_against_their_formulas():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6)), rng.normal(0.5, 1.5, size=(40, 6))
    values = image_set_metrics(torch.from_numpy(x), torch.from_numpy(y))
    c, d = np.cov(x.T), np.cov(y.T)
    fid = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(c + d - 2 * linalg.sqrtm(c @ d).real)
    assert values["fid"] == pytest.approx(fid, rel=1e-5)
    within = sum((kernel(z, z).sum() - np.trace(kernel(z, z))) / (40 * 39) for z in (x, y))
    assert values["kid"] == pytest.approx(within - 2 * kernel(x, y).mean(), rel=1e-6)


def test_sets_of_different_size_repeat_themselves(monkeypatch):
    """And whoever draws beside them goes on where he was, on a GPU, too."""
    monkeypatch.setattr(torch.cuda, "manual_seed_all", Mock(side_effect=AssertionError))
    x, y = torch.randn(30, 4), torch.randn(12, 4)
    state = torch.get_rng_state()
    assert image_set_metrics(x, y) == image_set_metrics(x, y)
    assert torch.equal(state, torch.get_rng_state())


def test_intensities_have_one_range_whatever_an_image_has():
    """Half as bright is half as bright: an image's own maximum would hide it."""
    real = torch.linspace(-1, 0, 32 * 32).view(1, 32, 32)
    values = paired_image_metrics(real - 0.2, real)
    assert values["l1"] == pytest.approx(0.1)
    assert values["psnr"] == pytest.approx(20)
