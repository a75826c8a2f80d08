from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transeg.core.inference.sliding_window import (
    GRID,
    OVERLAP,
    Axis,
    Inference,
    blend_windows,
    resize_result,
    window_starts,
)
from transeg.core.inference.translator import to_pixels
from transeg.core.interfaces import Segmenter
from transeg.core.models.forward import pad_to_multiple, segment, to_classes, to_probabilities

CPU = torch.device("cpu")


class Double(Segmenter):
    size_multiple = 8
    mean = (0.25, 0.5, 0.75)
    std = (0.5, 0.25, 0.125)

    def forward(self, image):
        assert image.shape[2] % 8 == image.shape[3] % 8 == 0
        self.seen = image
        return 2 * image


def in_windows(forward, image, window, multiple=1):
    return Inference(None, window, multiple=multiple).run(forward, image, CPU)


@given(
    length=st.integers(1, 300),
    window=st.integers(1, 120),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.75]),
    multiple=st.sampled_from([1, 2, 16, 32]),
)
def test_windows_cover_every_pixel(length, window, overlap, multiple):
    axis = Axis.along(length, window, overlap, multiple)
    assert axis.starts[0] == 0
    assert all(a < b <= a + axis.window for a, b in pairwise(axis.starts))
    assert all(start % multiple == 0 for start in axis.starts)
    assert axis.window % multiple == 0
    assert length <= axis.length < length + multiple
    assert (axis.sums() >= 1).all()  # margins included


@given(length=st.integers(1, 10**6), window=st.integers(1, 2000), step=st.integers(1, 2000))
def test_windows_stand_evenly(length, window, step):
    window, step = min(window, length), min(step, window)
    if (length - window) // step < 10**4:
        distances = np.diff(window_starts(length, window, step))
        assert not len(distances) or distances.max() <= step
        assert not len(distances) or distances.max() - distances.min() <= 1


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    window=st.sampled_from([8, 16, 31]),
    multiple=st.sampled_from([1, 4]),
)
def test_a_network_that_changes_nothing_gives_the_image_back(height, width, window, multiple):
    """To the bit: sizes from smaller than a window to many windows."""
    pixels = np.random.default_rng(height * 100 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Inference(None, window).prepare(pixels)
    assert np.array_equal(to_pixels(in_windows(lambda x, _: x, image, window, multiple)), pixels)
    logits = (image.float() - 100) / 8
    assert torch.equal(in_windows(lambda x, _: x, logits, window, multiple), logits)


def conv(kernel):
    """Of whole numbers, so that float32 computes without rounding."""
    layer = torch.nn.Conv2d(1, 1, kernel, padding=kernel // 2)
    torch.nn.init.constant_(layer.bias, 1)
    layer.weight.data = torch.from_numpy(np.random.default_rng(kernel).integers(-2, 3, layer.weight.shape)).float()
    return layer


class Flat(Segmenter):
    """Sees this many pixels around each."""

    def __init__(self, sees):
        super().__init__()
        self.net = torch.nn.Sequential(conv(2 * sees - 1), torch.nn.ReLU(), conv(3))

    def forward(self, image):
        return self.net(image)


class Pooled(Segmenter):
    """Sees four pixels around each at the most: one, the rest of its cell of two, and the next cell."""

    size_multiple = 2

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(
            conv(3), torch.nn.MaxPool2d(2), conv(3), torch.nn.ReLU(), torch.nn.Upsample(scale_factor=2)
        )

    def forward(self, image):
        return self.net(image)


@torch.no_grad()
def tiled_and_whole(network, height, width, seed=0):
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(rng.integers(-3, 4, (1, height, width))).float()
    tiled = in_windows(lambda x, _: segment(network, x)[0], image, 32, network.size_multiple)
    return tiled, segment(network, image[None])[0][0]


@settings(deadline=None, max_examples=30)
@given(height=st.integers(1, 110), width=st.integers(1, 110))
@pytest.mark.parametrize("network", [Flat(4), Pooled()], ids=["flat", "pooled"])
def test_windows_give_what_the_whole_image_gives(network, height, width):
    """To the bit, where the network sees no further than an eighth of the window: 4 of 32 pixels."""
    tiled, whole = tiled_and_whole(network, height, width)
    assert torch.equal(tiled, whole)


def test_what_sees_further_than_the_margin_differs():
    tiled, whole = tiled_and_whole(Flat(5), 100, 100)
    assert not torch.equal(tiled, whole)
    assert torch.equal(tiled[:, :10, :10], whole[:, :10, :10])


def placed(x, _):
    """A function that knows where it stands in its window."""
    height, width = x.shape[2:]
    across = torch.linspace(-2, 3, width).pow(3) * torch.linspace(1, 7, height)[:, None]
    return torch.cat([x * across, across.expand_as(x)], 1)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_windows_does_not_matter(seed):
    """Added up in any other order, to the bit."""
    image = torch.rand(1, 70, 90, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    rows, columns = Axis.along(70, 24, OVERLAP, 1), Axis.along(90, 24, OVERLAP, 1)
    windows = list(product(enumerate(rows.starts), enumerate(columns.starts)))
    total, area = torch.zeros(2, 70, 90, dtype=torch.float64), torch.zeros(70, 90, dtype=torch.float64)
    for turn in np.random.default_rng(seed).permutation(len(windows)):
        (row, top), (column, left) = windows[turn]
        place = (slice(top, top + 24), slice(left, left + 24))
        weight = rows.weights(row)[:, None] * columns.weights(column)
        total[:, *place] += (placed(image[None, :, *place], None)[0].double() * GRID).round() * weight
        area[place] += weight
    assert torch.equal(in_windows(placed, image, 24), (total / (area * GRID)).float())


def test_rows_come_from_top_to_bottom_and_are_read_once():
    image = torch.rand(1, 100, 40)
    read = []

    def rows(region):
        read.append(region)
        return image[:, region.top : region.top + region.height]

    bands = list(blend_windows(lambda x, _: x, rows, (100, 40), 32, CPU))
    assert max(len(band[0]) for band in bands) <= 32
    assert torch.cat(bands, 1).shape == image.shape
    assert [region.top for region in read] == [0, *np.cumsum([region.height for region in read])[:-1]]
    assert sum(region.height for region in read) == 100


def test_windows_blend_without_seams():
    """A function that knows where it stands in its window leaves no step between neighbours."""

    def ramp(x, _):
        return torch.linspace(0, 1, x.shape[3]).expand(1, 1, x.shape[2], -1)

    result = in_windows(ramp, torch.zeros(1, 64, 400), 64)[0, 16]
    assert result.diff().abs().max() < 0.1  # without blending it would step by a half


def test_a_cpu_gets_one_window_at_a_time():
    sizes = []

    def forward(x, _):
        sizes.append(tuple(x.shape))
        return x

    in_windows(forward, torch.zeros(3, 100, 130), 64)
    assert set(sizes) == {(1, 3, 64, 64)}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="batches of windows are for GPUs")
def test_batches_of_windows_change_nothing():
    image = torch.rand(1, 300, 333)
    found = Inference(None, 64).run(lambda x, _: 2 * x, image, torch.device("cuda"))
    assert torch.equal(found, in_windows(lambda x, _: 2 * x, image, 64))


def test_whole_images_are_resized_there_and_back():
    inference = Inference(16)
    image = np.full((30, 50, 3), 255, np.uint8)
    prepared = inference.prepare(image)
    assert prepared.shape == (3, 16, 16)
    result = inference.run(lambda x, _: x, prepared, CPU)
    assert result.max() == result.min() == 1
    assert resize_result(result, 30, 50).shape == (3, 30, 50)


def test_flips_average_the_four_mirrorings():
    image = torch.rand(1, 6, 6)
    weights = torch.rand(1, 1, 6, 6)
    found = Inference(6, flips=True).run(lambda x, _: x * weights, image, CPU)
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
    assert to_classes(binary).tolist() == [[[0, 1]]]
    assert to_probabilities(binary)[0, 0, 0, 1].item() == pytest.approx(torch.tensor(0.5).sigmoid().item())
    several = torch.tensor([[[[0.0]], [[3.0]], [[1.0]]]])
    assert to_classes(several).tolist() == [[[1]]]
    assert to_probabilities(several).shape == (1, 2, 1, 1)


def test_images_keep_their_own_size_where_none_is_given():
    image = np.random.default_rng(0).integers(0, 255, (7, 11, 3), dtype=np.uint8)
    assert Inference(None).prepare(image).shape == (3, 7, 11)
    assert Inference(16).prepare(image).shape == (3, 16, 16)
