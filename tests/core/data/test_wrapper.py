"""What every dataset that wraps another must do: say of its samples what is true of them, without decoding any."""

from pathlib import Path

import numpy as np
import pytest

from transeg.core.builders.folds import Subset
from transeg.core.data.inverted import InvertedDataset
from transeg.core.data.ranged import RangedDataset
from transeg.core.data.rescaling import RescaledDataset
from transeg.core.data.stain import StainNormalisedDataset
from transeg.core.data.windows import RegionReader
from transeg.core.data.wrapper import DatasetWrapper
from transeg.core.evaluation.translation_quality import SwappedPairs
from transeg.core.inference.translator import DatasetWithOriginals, NumberedNames, TranslatedDataset
from transeg.core.interfaces import Dataset, Fault, Origin, Region, Sample


class Counting(Dataset):
    """Pairs of different sizes that counts how many were decoded; it reads parts, and says what they are made of."""

    classes = ("background", "a", "b")
    channels, target_channels, paired = 3, 1, True
    faults = (Fault("file", "broken"),)

    def __init__(self, count=3):
        self.count = count
        self.decoded = 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.decoded += 1
        height, width = self.size_of(index)
        random = np.random.default_rng(index)
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        target = random.integers(0, 256, (height, width, 1), np.uint8)
        mask = random.integers(0, 3, (height, width), np.uint8)
        return Sample(image, mask, f"image {index}", self.group_of(index), target, pixel_size=self.pixel_size_of(index))

    def size_of(self, index):
        return 10 + 2 * index, 16

    def pixel_size_of(self, index):
        return 0.5, 0.25 * (index + 1)

    def group_of(self, index):
        return f"group {index // 2}"

    def read_region(self, index, region):
        return RegionReader(Whole(self))(0, region) if index == 0 else None

    def origin_of(self, index):
        return Origin((Path(str(index)),), "counted", type(self))


class Whole(Dataset):
    """Samples of another, never in parts."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return self.dataset[index]


class Inverse:
    """Stands for a stain."""

    how = "inverted"

    def __call__(self, image):
        return 255 - image


class Grey:
    """Stands for a translator, and counts."""

    makes = 1

    def __init__(self):
        self.translated = 0

    def __call__(self, image, name):
        self.translated += 1
        return image[:, :, :1]


MAKE = {
    "larger": lambda dataset: RescaledDataset(dataset, factor=2),
    "of one pixel size": lambda dataset: RescaledDataset(dataset, pixel_size=0.4),
    "stained": lambda dataset: StainNormalisedDataset(dataset, Inverse()),
    "numbered": NumberedNames,
    "with originals": lambda dataset: DatasetWithOriginals(NumberedNames(dataset), dataset),
    "translated": lambda dataset: TranslatedDataset(dataset, Grey()),
    "swapped": SwappedPairs,
    "inverted": InvertedDataset,
    "ranged": lambda dataset: RangedDataset(dataset, (0.0, 100.0)),
    "chosen": lambda dataset: Subset([(dataset, 2), (dataset, 0)]),
    "twice": lambda dataset: TranslatedDataset(
        StainNormalisedDataset(RescaledDataset(dataset, factor=0.5), Inverse()), Grey()
    ),
}


@pytest.fixture
def dataset():
    return Counting()


@pytest.fixture(params=MAKE)
def wrapper(request, dataset):
    made = MAKE[request.param](dataset)
    dataset.decoded = 0
    return made


def test_every_wrapper_is_looked_at(dataset):
    ours = [cls for cls in DatasetWrapper.__subclasses__() if cls.__module__.startswith("transeg.")]
    assert {type(make(dataset)) for make in MAKE.values()} == {Subset, *ours}


def test_what_it_says_is_true_of_its_samples(wrapper):
    assert len({wrapper[index].name for index in range(len(wrapper))}) == len(wrapper)
    for index in range(len(wrapper)):
        sample = wrapper[index]
        assert wrapper.size_of(index) == sample.size == sample.mask.shape
        assert wrapper.pixel_size_of(index) == pytest.approx(sample.pixel_size)
        assert wrapper.group_of(index) == sample.group
        assert sample.image.shape[2] == wrapper.channels
        assert (sample.target is not None) == wrapper.paired
        if wrapper.paired:
            assert sample.target.shape == (*sample.size, wrapper.target_channels)


def test_classes_and_faults_are_the_others(wrapper, dataset):
    assert (wrapper.classes, tuple(wrapper.faults)) == (dataset.classes, dataset.faults)


def test_nothing_is_decoded_to_say_so(wrapper, dataset):
    for index in range(len(wrapper)):
        wrapper.size_of(index), wrapper.pixel_size_of(index), wrapper.group_of(index), wrapper.origin_of(index)
    assert dataset.decoded == 0


def test_nothing_is_translated_to_say_so(dataset):
    translator = Grey()
    translated = TranslatedDataset(dataset, translator)
    assert (translated.size_of(0), translated.pixel_size_of(0), translated.group_of(0)) == (
        (10, 16),
        (0.5, 0.25),
        "group 0",
    )
    assert (translator.translated, dataset.decoded) == (0, 0)
    assert translated[0].image.shape == (10, 16, 1)
    assert translator.translated == 1


def test_originals_are_found_by_number(dataset):
    numbered = NumberedNames(dataset)
    samples = DatasetWithOriginals(Subset([(numbered, 2), (numbered, 0)]), dataset)
    assert [np.array_equal(samples[0].target, dataset[index].image) for index in range(3)] == [False, False, True]


def test_parts_are_parts_of_its_samples(wrapper):
    for index in range(len(wrapper)):
        sample, part = wrapper[index], RegionReader(wrapper)(index, Region(1, 2, 3, 4))
        for name in ("image", "mask", "target"):
            whole, found = getattr(sample, name), getattr(part, name)
            assert (whole is None) == (found is None)
            assert whole is None or np.array_equal(found, whole[1:4, 2:6])
        assert (part.name, part.group, part.pixel_size) == (sample.name, sample.group, sample.pixel_size)


def test_samples_of_equal_origins_are_equal(dataset):
    seen = {}
    for each in (dataset, *(make(dataset) for make in MAKE.values())):
        for index in range(len(each)):
            origin = each.origin_of(index)
            if origin is not None:
                image = seen.setdefault(origin, each[index].image)
                assert np.array_equal(image, each[index].image)
    assert len(seen) == 6 * len(dataset)  # as it is, larger, of one pixel size, stained, inverted, ranged
