from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transeg.core.forward import classes, pad_to_multiple, probabilities, segment
from transeg.core.inference import Inference, at_size, sliding_window, window_starts
from transeg.core.interfaces import Segmenter

CPU = torch.device("cpu")


class Double(Segmenter):
    size_multiple = 8
    mean = (0.25, 0.5, 0.75)
    std = (0.5, 0.25, 0.125)

    def forward(self, image):
        assert image.shape[2] % 8 == image.shape[3] % 8 == 0
        self.seen = image
        return 2 * image


@given(length=st.integers(1, 300), window=st.integers(1, 120), overlap=st.sampled_from([0.0, 0.25, 0.5, 0.75]))
def test_windows_cover_every_pixel(length, window, overlap):
    window = min(window, length)
    starts = window_starts(length, window, overlap)
    assert starts[0] == 0
    assert starts[-1] + window == length
    assert all(a < b <= a + window for a, b in pairwise(starts))


@settings(deadline=None, max_examples=25)
@given(height=st.integers(1, 70), width=st.integers(1, 70), window=st.sampled_from([8, 16, 31]))
def test_pointwise_functions_do_not_see_the_windows(height, width, window):
    image = torch.rand(3, height, width) * 2 - 1
    result = sliding_window(lambda x: torch.sin(3 * x), image, window, 0.5, CPU)
    assert torch.allclose(result, torch.sin(3 * image), atol=1e-5)


def test_windows_blend_without_seams():
    """A function that knows where it stands in its window leaves no step between neighbours."""

    def ramp(x):
        return torch.linspace(0, 1, x.shape[3]).expand(1, 1, x.shape[2], -1)

    result = sliding_window(ramp, torch.zeros(1, 32, 200), 32, 0.5, CPU)[0, 16]
    assert result.diff().abs().max() < 0.1


def test_only_one_window_is_on_the_device():
    sizes = []

    def forward(x):
        sizes.append(tuple(x.shape))
        return x

    sliding_window(forward, torch.zeros(3, 100, 130), 64, 0.5, CPU)
    assert set(sizes) == {(1, 3, 64, 64)}


def test_whole_images_are_resized_there_and_back():
    inference = Inference(16)
    image = np.full((30, 50, 3), 255, np.uint8)
    prepared = inference.prepare(image)
    assert prepared.shape == (3, 16, 16)
    result = inference.run(lambda x: x, prepared, CPU)
    assert result.max() == result.min() == 1
    assert at_size(result, 30, 50).shape == (3, 30, 50)


def test_flips_average_the_four_mirrorings():
    image = torch.rand(1, 6, 6)
    weights = torch.rand(1, 1, 6, 6)
    found = Inference(6, flips=True).run(lambda x: x * weights, image, CPU)
    mirrored = torch.stack([weights.flip(axes) for axes in ((), (2,), (3,), (2, 3))]).mean(0)
    assert torch.allclose(found, image * mirrored[0], atol=1e-6)


def test_networks_get_the_size_and_the_statistics_that_they_ask_for():
    network = Double()
    image = torch.rand(2, 3, 13, 5) * 2 - 1
    (logits,) = segment(network, image)
    assert logits.shape == (2, 3, 13, 5)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (Double.mean, Double.std))
    assert torch.allclose(network.seen[:, :, :13, :5], ((image + 1) / 2 - mean) / std, atol=1e-5)


def test_statistics_first_asked_for_in_inference_mode_serve_training_too():
    network, image = Double(), torch.rand(1, 3, 8, 8, dtype=torch.float64)
    with torch.inference_mode():
        segment(network, image)
    segment(network, image.requires_grad_())[0].sum().backward()
    assert image.grad is not None


def test_statistics_are_averaged_where_the_channels_differ():
    network = Double()
    segment(network, torch.zeros(1, 1, 8, 8))
    mean, std = np.mean(Double.mean), np.mean(Double.std)
    assert network.seen.mean().item() == pytest.approx((0.5 - mean) / std, rel=1e-5)


def test_padding_repeats_the_border():
    padded = pad_to_multiple(torch.arange(6.0).view(1, 1, 2, 3), 4)
    assert padded.shape == (1, 1, 4, 4)
    assert padded[0, 0, :, 3].tolist() == [2, 5, 5, 5]
    same = torch.zeros(1, 1, 4, 8)
    assert pad_to_multiple(same, 4) is same


def test_classes_and_probabilities():
    binary = torch.tensor([[[[-1.0, 0.5]]]])
    assert classes(binary).tolist() == [[[0, 1]]]
    assert probabilities(binary)[0, 0, 0, 1].item() == pytest.approx(torch.tensor(0.5).sigmoid().item())
    several = torch.tensor([[[[0.0]], [[3.0]], [[1.0]]]])
    assert classes(several).tolist() == [[[1]]]
    assert probabilities(several).shape == (1, 2, 1, 1)


def test_images_keep_their_own_size_where_none_is_given():
    image = np.random.default_rng(0).integers(0, 255, (7, 11, 3), dtype=np.uint8)
    assert Inference(None).prepare(image).shape == (3, 7, 11)
    assert Inference(16).prepare(image).shape == (3, 16, 16)
