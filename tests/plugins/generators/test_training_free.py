"""Generators without parameters: Histogram and FDA."""

import albumentations
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from transeg.core.interfaces import Noise
from transeg.plugins.generators.fda import FDA, exchange_amplitudes
from transeg.plugins.generators.histogram import Histogram, match_quantiles


def picture(seed, power=1.0, size=(48, 40), channels=3):
    """``(1, channels, *size)`` smooth and in [0, 1]."""
    noise = np.random.default_rng(seed).random((*size, channels))
    smooth = gaussian_filter(noise, (2, 2, 0))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return torch.from_numpy(np.moveaxis(smooth**power, 2, 0)[None].astype(np.float32))


def test_histograms_are_matched_as_albumentations_does():
    source, target = picture(0), picture(1, power=3)
    generator = Histogram(3, 3)
    generator.fit(target * 2 - 1)
    found = (generator.translate(source * 2 - 1, "source-to-target") + 1) / 2
    first, second = ((x[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8) for x in (source, target))
    match = albumentations.HistogramMatching(blend_ratio=(1, 1), metadata_key="references", p=1)
    wanted = match(image=first, references=[second])["image"]
    assert np.abs(found[0].permute(1, 2, 0).numpy() * 255 - wanted).mean() < 1.5
    assert np.abs(first.astype(float) - wanted).mean() > 30


def test_pixels_that_were_equal_stay_equal():
    image = torch.tensor([[[[-1.0, -1.0, -1.0, 1.0]]]])
    quantiles = torch.linspace(0, 1, 101)[None, None]
    found = match_quantiles(image, quantiles)[0, 0, 0]
    assert found[:3].unique().tolist() == pytest.approx([0.375], abs=0.01)  # the middle of the lower three quarters
    assert found[3] == pytest.approx(0.875, abs=0.01)


def test_moments_are_those_of_the_target():
    source, target = picture(0) * 2 - 1, picture(1, power=2) - 0.5
    generator = Histogram(3, 3, method="moments")
    generator.fit(target)
    found = generator.translate(source, "source-to-target")
    assert torch.allclose(found.mean((2, 3)), target.mean((2, 3)), atol=0.01)
    assert torch.allclose(found.std((2, 3)), target.std((2, 3)), atol=0.01)


@pytest.mark.parametrize("size", [(48, 40), (31, 32)])
@pytest.mark.parametrize("beta", [0.01, 0.05, 0.09])
def test_amplitudes_are_exchanged_as_published(beta, size):
    """The formula of the paper's section 3.1 with whole spectra, the zero frequency in their middle."""
    source, target = picture(0, size=size), picture(1, power=3, size=size)
    own, other = (np.fft.fftshift(np.fft.fft2(x.double().numpy()), axes=(2, 3)) for x in (source, target))
    (height, width), most = size, int(min(size) * beta)
    rows, columns = (slice(side // 2 - most, side // 2 + most + 1) for side in (height, width))
    amplitude = np.abs(own)
    amplitude[:, :, rows, columns] = np.abs(other)[:, :, rows, columns]
    spectrum = np.fft.ifftshift(amplitude * np.exp(1j * np.angle(own)), axes=(2, 3))
    wanted = np.fft.ifft2(spectrum).real
    assert np.abs(exchange_amplitudes(source, target, beta).numpy() - wanted).max() < 1e-5


@pytest.mark.parametrize("cls", [Histogram, FDA])
def test_each_image_gets_a_target_of_its_own_and_windows_of_one_the_same(cls):
    generator = cls(1, 1, references=4)
    generator.fit(torch.cat([picture(seed, power=seed + 1, channels=1) for seed in range(4)]) * 2 - 1)
    image = (picture(7, channels=1) * 2 - 1).repeat(8, 1, 1, 1)
    many = generator.translate(image, "source-to-target", Noise(torch.arange(8)))
    assert len({round(each.mean().item(), 4) for each in many}) > 1
    places = torch.tensor([[0, 0], [16, 32]])
    one, other = generator.translate(image[:2], "source-to-target", Noise(torch.tensor([5, 5]), places))
    assert torch.equal(one, other)


@pytest.mark.parametrize("cls", [Histogram, FDA])
def test_it_wants_equal_channels(cls):
    with pytest.raises(ValueError, match="3 channels with 1"):
        cls(3, 1)
