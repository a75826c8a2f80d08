"""Arrays are taken as files of the same pixels are read."""

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from transeg.core.data.arrays import image_of_array, labels_of_array
from transeg.core.data.images import read_binary_mask, read_image, read_label_map
from transeg.core.errors import DataError

RNG = np.random.default_rng(0)
SHAPES = [(9, 7), (9, 7, 1), (9, 7, 2), (9, 7, 3), (9, 7, 4)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.float32])
def test_an_image_is_what_its_file_is(tmp_path, shape, dtype, channels):
    scale = 1 if dtype in (bool, np.float32) else np.iinfo(dtype).max
    array = (RNG.random(shape) * scale).astype(dtype) if dtype is not bool else RNG.random(shape) > 0.5
    colours, alpha = {1: ("minisblack", None), 2: ("minisblack", [2]), 3: ("rgb", None), 4: ("rgb", [2])}[
        (*shape, 1)[2]
    ]
    stored = array if array.ndim == 2 else array[:, :, 0] if shape[2] == 1 else array
    if dtype is bool and stored.ndim == 3:
        stored = stored.astype(np.uint8) * 255  # no file holds several channels of one bit
    layout = "contig" if stored.ndim == 3 else None
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric=colours, planarconfig=layout, extrasamples=alpha)
    read, taken = read_image(tmp_path / "a.tif", channels), image_of_array(array, channels, "it")
    assert read.dtype == taken.dtype
    np.testing.assert_array_equal(read, taken)


def test_what_opencv_wrote_as_16_bits_is_the_same_array(tmp_path):
    array = RNG.integers(0, 65536, (8, 9, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), array[:, :, ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 3), image_of_array(array, 3, "it"))


def test_floats_of_any_width_and_foreign_byte_orders_are_taken():
    array = RNG.random((5, 6))
    for dtype in (np.float16, np.float64, ">f4"):
        assert image_of_array(array.astype(dtype), 1, "it").dtype == np.float32
    swapped = (array * 1000).astype(">u2")
    taken = image_of_array(swapped, 1, "it")
    assert taken.dtype == np.uint16
    np.testing.assert_array_equal(taken[:, :, 0], swapped)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((5, 5), int), "The array has pixels of type int64; convert it to 8 or 16 bits."),
        (np.full((5, 5), 255.0), "has values from 255 to 255; floats are in"),
        (np.full((5, 5), np.nan), "has values that are not finite"),
        (np.full((5, 5), -0.1), "has values from -0.1 to -0.1"),
        (np.zeros(5, np.uint8), "is not a two-dimensional image; its shape is"),
        (np.zeros((2, 5, 5, 3), np.uint8), "is not a two-dimensional image"),
        (np.zeros((0, 5, 3), np.uint8), "is not a two-dimensional image"),
        (np.zeros((9, 9, 7), np.uint8), "The array has 7 channels, but the network takes 3."),
        (np.zeros((3, 5, 9), np.uint8), "has 9 channels, but the network takes 3; channels come last"),
    ],
)
def test_what_is_no_image_is_refused(array, said):
    with pytest.raises(DataError, match=said):
        image_of_array(array, 3, "The array")


@pytest.mark.parametrize("values", [[0, 1], [0, 255], [0, 200], [0, 65535]])
def test_a_mask_of_one_class_is_what_its_file_is(tmp_path, values):
    array = RNG.choice(values, (6, 7)).astype(np.uint16 if max(values) > 255 else np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    for same in (array, array.astype(np.int64)):
        np.testing.assert_array_equal(read_binary_mask(tmp_path / "a.png"), labels_of_array(same, None, "it"))
    truth = array > values[-1] // 2
    np.testing.assert_array_equal(labels_of_array(truth, None, "it"), truth)


def test_a_mask_of_several_classes_is_what_its_file_is(tmp_path):
    values = {0: 0, 1: 1, 2: 2, 255: 255}
    array = RNG.choice(list(values), (6, 7)).astype(np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        read_label_map(tmp_path / "a.png", values), labels_of_array(array.astype(np.int64), values, "it")
    )


def test_what_is_no_label_map_is_refused():
    with pytest.raises(DataError, match="stand for no class"):
        labels_of_array(np.full((3, 3), 7), {0: 0, 1: 1}, "The array")
    with pytest.raises(DataError, match="The array has labels of type float64; they are whole numbers"):
        labels_of_array(np.zeros((3, 3)), None, "The array")
