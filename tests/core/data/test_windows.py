from itertools import pairwise

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from transeg.core.data.stream import (
    SOURCE,
    Collate,
    ResumableBatchSampler,
    TrainingDataset,
    TrainingDomain,
    training_loader,
)
from transeg.core.data.windows import RegionReader, Windows, class_pools, pad_sample, sampling_pools, telling_window
from transeg.core.errors import DataError, UsageError
from transeg.core.interfaces import IGNORE, Dataset, Region, Sample
from transeg.plugins.datasets.folder import Folder


class Pictures(Dataset):
    """Noise of given sizes, with a square of each class in a corner of its own."""

    classes = ("background", "a", "b")

    def __init__(self, sizes, labelled=True):
        self.sizes, self.labelled, self.decoded = sizes, labelled, 0
        self.mark = 1

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        self.decoded += 1
        height, width = self.sizes[index]
        image = np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)
        mask = np.zeros((height, width), np.uint8)
        mask[:3, :3], mask[-2:, -2:], mask[-1, 0] = 1, 2, IGNORE
        mask *= self.mark
        return Sample(image, mask if self.labelled else None, str(index), str(index), instances=mask.astype(np.int32))

    def size_of(self, index):
        return self.sizes[index]


def on(dataset, tile, stride, sampling="position", **options):
    windows = Windows(dataset.sizes, tile, stride)
    drawn = sampling_pools(dataset, windows, sampling, lambda: None)
    usual = {"seed": 0, "limit": 0, "sampling": "shuffle", "load_size": None, "size": tile, "transforms": []}
    return TrainingDomain(dataset, SOURCE, windows=windows, pools=drawn, **{**usual, **options})


def test_the_tutorials_number_of_windows():
    """segmentation_revisit: 20 along each side of 512 pixels, 400 on an image; its file names lose ten of them."""
    assert len(Windows([(512, 512)], 128, 20)) == 400
    assert len(Windows([(512, 512)] * 19, 128, 20)) == 7600


def test_a_stride_that_divides_gives_patchifys_windows():
    windows = Windows([(512, 384)], 128, 64)
    places = [windows[number][1][:2] for number in range(len(windows))]
    assert places == [(top, left) for top in range(0, 385, 64) for left in range(0, 257, 64)]


@settings(deadline=None, max_examples=25)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 99), st.integers(1, 99)), min_size=1, max_size=3),
    tile=st.integers(1, 60),
    share=st.floats(0.1, 1),
)
def test_windows_cover_every_pixel_of_every_image(sizes, tile, share):
    stride = max(1, round(tile * share))
    windows = Windows(sizes, tile, stride)
    found = [windows[number] for number in range(len(windows))]
    assert [image for image, _ in found] == sorted(image for image, _ in found)
    for index, size in enumerate(sizes):
        for axis, length in enumerate(size):
            starts = sorted({region[axis] for image, region in found if image == index})
            sides = {region[2 + axis] for image, region in found if image == index}
            assert sides == {min(tile, length)}
            assert starts[0] == 0
            assert starts[-1] + min(tile, length) == length
            distances = [b - a for a, b in pairwise(starts)]
            assert all(distance <= tile for distance in distances)
            assert not distances or max(distances) - min(distances) <= 1
    assert len(set(found)) == len(found)


def test_every_window_once_in_an_epoch():
    dataset = Pictures([(40, 30), (10, 50), (16, 16)])
    domain = on(dataset, 16, 8)
    count = len(Windows(dataset.sizes, 16, 8))
    for epoch in range(2):
        assert sorted(domain.index(epoch * count + place) for place in range(count)) == list(range(count))
    assert [domain.index(place) for place in range(count)] != [domain.index(count + place) for place in range(count)]


def test_windows_are_parts_of_their_image():
    dataset = Pictures([(40, 30), (21, 50)])
    domain, windows = on(dataset, 16, 8), Windows(dataset.sizes, 16, 8)
    for place in range(len(windows)):
        image, mask, *_ = domain[place]
        number, (top, left, height, width) = windows[domain.index(place)]
        whole = dataset[number]
        assert (height, width) == (16, 16)
        assert np.array_equal(image.permute(1, 2, 0), whole.image[top : top + 16, left : left + 16])
        assert np.array_equal(mask, whole.mask[top : top + 16, left : left + 16])


def test_small_images_are_mirrored_and_nothing_is_known_of_that():
    dataset = Pictures([(5, 30)])
    image, mask, *_ = on(dataset, 16, 8)[0]
    assert image.shape == (3, 16, 16)
    assert (mask[5:] == IGNORE).all()
    assert (mask[:5] == IGNORE).sum() <= 1  # the corner of the picture itself
    assert torch.equal(image[:, 5:9], image[:, :4].flip(1))
    sample = pad_sample(dataset[0], 16, 32)
    assert sample.instances.shape == (16, 32)
    assert not sample.instances[5:].any()
    assert pad_sample(sample, 16, 32) is sample


def test_images_are_decoded_once_while_they_fit():
    dataset = Pictures([(40, 30)] * 5)
    domain = on(dataset, 16, 8)
    for place in range(60):
        domain[place]
    assert dataset.decoded == 5
    regions = RegionReader(dataset, limit=40 * 30 * 8 * 2)  # bytes of two samples
    for index in (0, 1, 0, 1, 2, 0, 1, 2):
        regions(index, Region(0, 0, 4, 4))
    assert dataset.decoded == 5 + 2 + 1 + 3


def test_by_foreground():
    dataset = Pictures([(60, 60), (60, 60)])
    domain, windows = on(dataset, 16, 11, "foreground"), Windows(dataset.sizes, 16, 11)
    drawn = [domain.index(place) for place in range(4)]
    assert sorted(drawn) == [0, 24, 25, 49]  # the corners with classes; each once in an epoch
    assert len(windows) == 50
    assert sorted(domain.index(place) for place in range(4, 8)) == sorted(drawn)


def test_by_classes():
    dataset = Pictures([(60, 60), (60, 60)])
    domain = on(dataset, 16, 11, "classes")
    drawn = [domain.index(place) for place in range(600)]
    corners = {1: (0, 25), 2: (24, 49)}
    for windows in corners.values():
        assert 0.27 < np.isin(drawn, windows).mean() < 0.43  # a third, and seldom by way of the background
    assert len(set(drawn)) == 50
    assert drawn == [on(dataset, 16, 11, "classes").index(place) for place in range(600)]


@settings(deadline=None, max_examples=25)
@given(height=st.integers(1, 60), width=st.integers(1, 60), tile=st.integers(2, 40), stride=st.integers(1, 40))
def test_what_windows_show_is_counted_right(height, width, tile, stride):
    class Noise(Pictures):
        def __getitem__(self, index):
            rng = np.random.default_rng(index)
            mask = (rng.random((height, width)) < 0.01) + 2 * (rng.random((height, width)) < 0.005)
            return Sample(np.zeros((height, width, 3), np.uint8), mask.astype(np.uint8), "", "")

    stride = min(stride, tile)
    dataset = Noise([(height, width)] * 3)
    windows = Windows(dataset.sizes, tile, stride)

    def shows(number, label):
        image, (top, left, tall, wide) = windows[number]
        return (dataset[image].mask[top : top + tall, left : left + wide] == label).any()

    expected = [[n for n in range(len(windows)) if shows(n, label)] for label in range(3)]
    found = sampling_pools(dataset, windows, "classes", lambda: None)
    assert [pool.tolist() for pool in found] == [numbers for numbers in expected if numbers]


def test_content_needs_masks_and_something_in_them():
    with pytest.raises(UsageError, match="only where there are masks"):
        on(Pictures([(20, 20)], labelled=False), 16, 8, "classes")

    class Empty(Pictures):
        def __getitem__(self, index):
            return Sample(np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20), np.uint8), "", "")

    with pytest.raises(UsageError, match=r"no window that shows a, b; say data\.tile_sampling=position"):
        on(Empty([(20, 20)]), 16, 8, "foreground")


def test_whole_images_are_drawn_by_class():
    class Rare(Pictures):
        """Of ten images two show the first class, one of them the second, too."""

        def __getitem__(self, index):
            mask = np.zeros((20, 20), np.uint8)
            mask[0, 0] = index in (3, 7)
            mask[1, 1] = 2 * (index == 7)
            mask[2, 2] = IGNORE
            return Sample(np.zeros((20, 20, 3), np.uint8), mask, "", "")

    looked = []
    pools = class_pools(Rare([(20, 20)] * 10), 10, lambda: looked.append(1))
    assert [pool.tolist() for pool in pools] == [list(range(10)), [3, 7], [7]]
    assert len(looked) == 10
    assert [pool.tolist() for pool in class_pools(Rare([(20, 20)] * 10), 5, lambda: None)] == [list(range(5)), [3]]
    with pytest.raises(UsageError, match=r"no image that shows a, b; say data\.sampling=shuffle"):
        class_pools(Rare([(20, 20)] * 3), 3, lambda: None)


def test_pictures_show_windows_with_objects():
    dataset = Pictures([(40, 300), (6, 9), (7, 7)])
    assert (telling_window(dataset, 0, 16).mask == 1).sum() == 9, "in the upper left corner"
    whole = telling_window(dataset, 1, 16)
    assert (whole.image == dataset[1].image).all()
    assert (telling_window(dataset, 2, 2).mask > 0).sum() < 4, "more than objects"
    dataset.decoded = 0
    telling_window(dataset, 0, 16)
    assert dataset.decoded == 1


@pytest.mark.parametrize("labelled", [True, False])
def test_pictures_show_the_middle_where_nothing_is_labelled(labelled):
    dataset = Pictures([(90, 90)], labelled)
    dataset.mark = 0
    shown = telling_window(dataset, 0, 30)
    assert (shown.image == dataset[0].image[30:60, 30:60]).all()


@pytest.mark.parametrize("sampling", ["position", "classes"])
def test_workers_do_not_matter(sampling):
    def batches(workers):
        stream = TrainingDataset(on(Pictures([(40, 30), (21, 50)]), 16, 8, sampling), None)
        return list(
            training_loader(
                stream, ResumableBatchSampler(4, 3, 0, 1), Collate(0, 3), workers=workers, device=torch.device("cpu")
            )
        )

    for one, other in zip(batches(0), batches(2), strict=True):
        assert torch.equal(one.source, other.source)
        assert torch.equal(one.source_mask, other.source_mask)


class TestFiles:
    def files(self, root, image_suffix, mask_suffix, mask_size=(70, 90)):
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)
        mask = (rng.random(mask_size) > 0.5).astype(np.uint8) * 255
        for folder, pixels, suffix in (("images", image, image_suffix), ("masks", mask, mask_suffix)):
            (root / folder).mkdir(parents=True)
            path = root / folder / f"a{suffix}"
            if suffix == ".tif":
                tifffile.imwrite(path, pixels, tile=(16, 32), photometric="rgb" if pixels.ndim == 3 else "minisblack")
            else:
                Image.fromarray(pixels).save(path)
        return Folder(root, "all")

    @pytest.mark.parametrize("suffixes", [(".tif", ".tif"), (".tif", ".png"), (".png", ".png")])
    def test_regions_are_parts_of_the_sample(self, tmp_path, suffixes):
        dataset = self.files(tmp_path, *suffixes)
        whole, part = dataset[0], RegionReader(dataset)(0, Region(10, 20, 30, 40))
        assert dataset.size_of(0) == whole.size == (70, 90)
        assert np.array_equal(part.image, whole.image[10:40, 20:60])
        assert np.array_equal(part.mask, whole.mask[10:40, 20:60])
        assert (part.name, part.group) == (whole.name, whole.group)
        assert (dataset.read_region(0, Region(0, 0, 1, 1)) is None) == (suffixes != (".tif", ".tif"))

    def test_sizes_that_differ_are_still_said(self, tmp_path):
        dataset = self.files(tmp_path, ".tif", ".tif", mask_size=(70, 80))
        with pytest.raises(DataError, match="90x70 pixels, but its mask"):
            RegionReader(dataset)(0, Region(0, 0, 4, 4))
