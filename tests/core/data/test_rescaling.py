from dataclasses import replace

import numpy as np
import pytest

from transeg.core.data.rescaling import RescaledDataset
from transeg.core.data.windows import RegionReader
from transeg.core.errors import DataError
from transeg.core.interfaces import IGNORE, Dataset, Region, Sample


class Given(Dataset):
    channels = 2

    def __init__(self, *samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def drawn(height=12, width=20, dtype=np.uint8, pixel_size=(0.1, 0.2), seed=0):
    random = np.random.default_rng(seed)
    image = random.random((height, width, 2), np.float32)
    if dtype != np.float32:
        image = (image * np.iinfo(dtype).max).astype(dtype)
    mask = random.integers(0, 3, (height, width)).astype(np.int64)
    mask[0] = IGNORE
    numbers = np.arange(height * width, dtype=np.int32).reshape(height, width) + 70_000
    depth = random.random((height, width), np.float32)
    return Sample(image, mask, "a", "b", image[:, :, :1], numbers, depth, pixel_size, mask == 1)


def test_pixels_that_are_not_square_become_square():
    sample = RescaledDataset(Given(drawn()), pixel_size=0.05)[0]
    assert sample.size == (24, 80)
    assert sample.pixel_size == pytest.approx((0.05, 0.05))
    assert sample.image.shape == (24, 80, 2)
    assert sample.target.shape == (24, 80, 1)
    assert sample.mask.shape == sample.instances.shape == sample.depth.shape == (24, 80)


def test_one_side_may_shrink_while_the_other_grows():
    sample = drawn(dtype=np.float32, pixel_size=(0.1, 0.4))
    found = RescaledDataset(Given(sample), pixel_size=0.2)[0]
    assert found.size == (6, 40)
    rows = sample.image.reshape(6, 2, 20, 2).mean(axis=1)
    assert found.image[:, 0] == pytest.approx(rows[:, 0], abs=1e-6)
    assert found.image[:, 1:3] == pytest.approx(
        np.stack([0.75 * rows[:, 0] + 0.25 * rows[:, 1], 0.25 * rows[:, 0] + 0.75 * rows[:, 1]], axis=1), abs=1e-6
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_what_shrinks_is_averaged_in_its_own_type(dtype):
    sample = drawn(dtype=dtype)
    found = RescaledDataset(Given(sample), factor=0.5)[0]
    means = sample.image.reshape(6, 2, 10, 2, 2).astype(np.float64).mean(axis=(1, 3))
    assert found.image.dtype == dtype
    assert np.abs(found.image - means).max() <= (0.5 if dtype != np.float32 else 1e-6)
    assert found.pixel_size == pytest.approx((0.2, 0.4))


@pytest.mark.parametrize("factor", [0.3, 0.5, 1.7, 3.0])
def test_labels_are_those_of_the_nearest_pixel(factor):
    sample = drawn()
    found = RescaledDataset(Given(sample), factor=factor)[0]
    numbers = found.instances - 70_000
    for axis, origin in enumerate((numbers // 20, numbers % 20)):
        old, new = sample.size[axis], found.size[axis]
        wanted = (np.arange(new) + 0.5) * old / new  # in the pixels of the original
        distance = np.abs(np.moveaxis(origin, axis, -1) + 0.5 - wanted)
        assert distance.max() <= 0.5 + 1e-6
    assert (found.mask == sample.mask.reshape(-1)[numbers]).all()
    assert set(np.unique(found.mask)) <= {0, 1, 2, IGNORE}
    assert found.valid.dtype == bool
    assert (found.valid == (found.mask == 1)).all()
    assert np.issubdtype(found.mask.dtype, np.integer)
    if factor == 3.0:
        assert (found.mask == np.kron(sample.mask, np.ones((3, 3), int))).all()


def test_sizes_are_told_without_decoding():
    class Sized(Given):
        def __getitem__(self, index):
            raise AssertionError

        def size_of(self, index):
            return 14, 7

        def pixel_size_of(self, index):
            return 0.3, 0.1

    rescaled = RescaledDataset(Sized(None), pixel_size=0.2)
    assert rescaled.size_of(0) == (21, 4)
    assert rescaled.pixel_size_of(0) == pytest.approx((0.2, 0.175))
    decoded = RescaledDataset(Given(drawn(14, 7, pixel_size=(0.3, 0.1))), pixel_size=0.2)
    assert decoded.size_of(0) == decoded[0].size == (21, 4)
    assert decoded.pixel_size_of(0) == pytest.approx(decoded[0].pixel_size)


def test_parts_are_parts_of_the_rescaled_sample():
    rescaled = RescaledDataset(Given(drawn()), factor=0.7)
    whole, part = rescaled[0], RegionReader(rescaled)(0, Region(1, 2, 4, 5))
    assert (part.image == whole.image[1:5, 2:7]).all()
    assert (part.mask == whole.mask[1:5, 2:7]).all()
    assert part.pixel_size == whole.pixel_size


def test_a_factor_needs_no_pixel_size():
    found = RescaledDataset(Given(drawn(pixel_size=None)), factor=0.01)[0]
    assert found.size == (1, 1)
    assert found.pixel_size is None


def test_what_cannot_be_rescaled_is_refused():
    with pytest.raises(ValueError, match="rescale=FACTOR"):
        RescaledDataset(Given(drawn(pixel_size=None)), pixel_size=1.0)
    some = RescaledDataset(Given(drawn(), replace(drawn(), pixel_size=None, name="scan")), pixel_size=1.0)
    with pytest.raises(DataError, match="pixel size of scan"):
        some[1]
    with pytest.raises(DataError, match="in micrometres"):
        RescaledDataset(Given(drawn()), pixel_size=1e-6)[0]
