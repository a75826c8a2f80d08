import numpy as np
import pytest

from transeg.core.data.inverted import InvertedDataset, negative
from transeg.core.interfaces import Dataset, Region, Sample


class Given(Dataset):
    channels = 1

    def __init__(self, image):
        mask = np.ones(image.shape[:2], np.int64)
        self.sample = Sample(image, mask, "a", "b", image.copy())

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.sample

    def read_region(self, index, region):
        rows, columns = slice(region.top, region.top + region.height), slice(region.left, region.left + region.width)
        return Sample(self.sample.image[rows, columns], self.sample.mask[rows, columns], "a", "b")


@pytest.mark.parametrize(
    ("dark", "bright"),
    [(np.uint8(3), np.uint8(252)), (np.uint16(3), np.uint16(65532)), (np.float32(0.25), np.float32(0.75))],
)
def test_dark_and_bright_are_exchanged_in_images_alone(dark, bright):
    image = np.full((4, 5, 1), dark)
    dataset = InvertedDataset(Given(image))
    sample = dataset[0]
    assert sample.image.dtype == image.dtype
    assert (sample.image == bright).all()
    assert (sample.mask == 1).all()
    assert (sample.target == dark).all()
    assert (image == dark).all()  # the dataset's own array is left alone
    part = dataset.read_region(0, Region(1, 2, 2, 3))
    assert part.image.shape == (2, 3, 1)
    assert (part.image == bright).all()


def test_a_negative_of_a_negative_is_the_image():
    image = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    assert np.array_equal(negative(negative(image)), image)
