import subprocess
import sys
import textwrap

import numpy as np
import pytest

from transeg.core.data.augmentation import Augmentation
from transeg.core.errors import DataError, UsageError
from transeg.core.experiment.augmentation_presets import PRESETS

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)
MASK = (IMAGE[:, :, 0] > 127).astype(np.uint8)


def corner(augmentation, position):
    """Where a marked corner goes."""
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    image[0, 0] = 255
    result, *_ = augmentation(position, image, None, None)
    return tuple(np.argwhere(result[:, :, 0])[0].tolist())


def test_it_is_a_function_of_seed_stream_and_position():
    def run(seed, stream, position):
        return Augmentation(PRESETS["cut-seg"], 24, seed, stream)(position, IMAGE, MASK, None)[0].tobytes()

    assert run(1, 2, 3) == run(1, 2, 3)
    assert len({run(1, 2, 3), run(2, 2, 3), run(1, 3, 3), run(1, 2, 4)}) == 4


def test_order_of_calls_does_not_matter():
    augmentation = Augmentation(PRESETS["cut-seg"], 24, 0, 0)
    forwards = [augmentation(i, IMAGE, None, None)[0].tobytes() for i in range(5)]
    backwards = [augmentation(i, IMAGE, None, None)[0].tobytes() for i in reversed(range(5))]
    assert forwards == backwards[::-1]


def test_transforms_draw_independently():
    """Re-seeding an albumentations pipeline gives every transform the same draws: two flips would go together."""
    flips = [{"name": "HorizontalFlip", "p": 0.5}, {"name": "VerticalFlip", "p": 0.5}]
    augmentation = Augmentation(flips, 8, 0, 0)
    places = [corner(augmentation, position) for position in range(200)]
    assert {places.count(place) > 30 for place in ((0, 0), (0, 7), (7, 0), (7, 7))} == {True}


@pytest.mark.parametrize("preset", PRESETS)
def test_image_mask_and_pair_move_together(preset):
    moves = [step for step in PRESETS[preset] if step["name"] != "ColorJitter"]
    augmentation = Augmentation(moves, 24, 0, 0)
    blocks = MASK[:8, :8].repeat(16, 0).repeat(16, 1)
    both = np.repeat(blocks[:, :, None], 3, 2) * 255
    for position in range(10):
        image, mask, paired, instances, _ = augmentation(
            position, both, blocks, both.copy(), 300 * blocks.astype(np.uint16)
        )
        assert image.shape == (24, 24, 3)
        assert mask.shape == (24, 24)
        assert (image == paired).all()
        assert (instances == 300 * mask.astype(np.uint16)).all()
        assert ((image[:, :, 0] > 127) == mask).mean() > 0.85  # the image is interpolated, the mask is not
        assert set(np.unique(mask)) <= {0, 1}


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_any_number_of_channels(channels, dtype):
    image = RNG.random((20, 20, channels)).astype(dtype)
    result, *_ = Augmentation(PRESETS["cut-seg"], 16, 0, 0)(0, image, None, None)
    assert result.shape == (16, 16, channels)
    assert result.dtype == dtype


def test_images_smaller_than_the_crop_are_padded():
    result, *_ = Augmentation([], 32, 0, 0)(0, IMAGE[:20], None, None)
    assert result.shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("transform", "sentence"),
    [
        ({"name": "HorizontalFlop"}, "Did you mean 'HorizontalFlip'"),
        ({"p": 0.5}, "no transform ''"),
        ({"name": "Rotate", "limt": 3}, "Rotate does not take"),
        ({"name": "Rotate", "limit": "x"}, "Rotate does not take"),
        ({"name": "Compose"}, "no transform 'Compose'"),
    ],
)
def test_wrong_transforms_get_a_sentence(transform, sentence):
    with pytest.raises(UsageError) as error:
        Augmentation([transform], 8, 0, 0)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_importing_it_asks_no_server():
    code = """
        import socket
        def refuse(*args, **kwargs):
            raise SystemExit("a socket was opened")
        socket.socket.connect = refuse
        socket.getaddrinfo = refuse
        import transeg.core.data.augmentation
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_what_stands_before_a_named_crop_sees_the_whole_image():
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 30:] = 255
    halved = [{"name": "RandomScale", "scale_limit": [-0.5, -0.5], "p": 1.0}, {"name": "RandomCrop"}]
    crop, mask, *_ = Augmentation(halved, 20, 0, 1)(0, image, image[:, :, 0] // 255, None)
    assert crop.shape == (20, 20, 3)
    assert mask.shape == (20, 20)
    assert 0 < mask.mean() < 1  # two thirds of the halved image, so both of its sides are there
    plain, *_ = Augmentation([], 64, 0, 1)(0, image, None, None)
    assert plain.shape == (64, 64, 3)


def test_the_preset_of_zh320_reflects_at_the_border():
    image = np.full((100, 100, 3), 200, np.uint8)
    preset = [step for step in PRESETS["zh320"] if step["name"] in ("RandomScale", "RandomCrop")]
    crops = [Augmentation(preset, 320, 0, 1)(i, image, None, None)[0] for i in range(8)]
    assert all(crop.shape == (320, 320, 3) and crop.min() == 200 for crop in crops)
    assert Augmentation(PRESETS["zh320"], 32, 0, 1)(0, image, None, None)[0].shape == (32, 32, 3)


class TestStain:
    def augmented(self, image, position, mask=None):
        return Augmentation(PRESETS["stain"], 32, 0, 0)(position, image, mask)[:2]

    def test_half_of_the_images_are_stained_anew_and_masks_stay(self):
        rng = np.random.default_rng(0)
        image = rng.integers(40, 220, (32, 32, 3), dtype=np.uint8)
        mask = (image[:, :, 0] > 128).astype(np.uint8)
        same = 0
        for position in range(40):
            changed, moved = self.augmented(image, position, mask)
            assert np.array_equal(np.sort(moved, axis=None), np.sort(mask, axis=None))
            untouched = (changed[:, :, 0] > 128).astype(np.uint8)
            if np.array_equal(np.sort(changed.reshape(-1, 3), axis=0), np.sort(image.reshape(-1, 3), axis=0)):
                same += 1
                assert (untouched == moved).all()
        assert 10 <= same <= 30

    @pytest.mark.parametrize("value", [0, 128, 255])
    def test_empty_patches_stay_what_they_are(self, value):
        image = np.full((32, 32, 3), value, np.uint8)
        for position in range(20):
            changed, _ = self.augmented(image, position)
            assert changed.std(axis=(0, 1)).max() == 0
            if value == 255:
                assert (changed == 255).all()

    def test_place_in_the_stream_decides(self):
        image = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        one, two = self.augmented(image, 7)[0], self.augmented(image, 7)[0]
        assert (one == two).all()

    def test_grey_images_get_a_sentence(self):
        with pytest.raises(DataError, match=r"cannot be applied to such images: .*3-channel images\.$"):
            [self.augmented(np.zeros((32, 32, 1), np.uint8), position) for position in range(20)]
