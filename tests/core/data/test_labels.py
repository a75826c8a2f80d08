"""What the values of a mask of one class mean is told, or it is refused with what to say."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from transeg.core.data.images import read_binary_mask, read_grey, read_instances, read_label_map
from transeg.core.data.labels import binarise, count_values, foreground_begins, number_classes
from transeg.core.errors import DataError
from transeg.core.interfaces import Region

RNG = np.random.default_rng(0)
OBJECT = np.zeros((64, 64), bool)
OBJECT[16:48, 10:40] = True
PART = np.zeros_like(OBJECT)
PART[16:30, 10:40] = True


def painted(*values):
    """A mask in which the first value is background, and others share the object."""
    mask = np.full(OBJECT.shape, values[0], np.int64)
    mask[OBJECT] = values[-1]
    if len(values) > 2:
        mask[PART] = values[1]
    return mask.astype(np.uint8 if max(values) < 256 else np.uint16)


def smeared(mask, quality):
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


@pytest.mark.parametrize("values", [(0, 2), (0, 38), (0, 127), (1, 2), (0, 1, 2), (0, 1, 255), (0, 127, 255), (0, 300)])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_values_that_may_mean_anything_are_refused(tmp_path, suffix, values):
    path, mask = tmp_path / f"m{suffix}", painted(*values)
    tifffile.imwrite(path, mask, tile=(32, 32)) if suffix == ".tif" else Image.fromarray(mask).save(path)
    for region in (None, Region(0, 0, 8, 8)):
        with pytest.raises(
            DataError, match=rf"m\{suffix} is a mask of one class with the values .* option values, as in"
        ):
            read_binary_mask(path, region)
    known = {value: min(place, 1) for place, value in enumerate(values)}
    assert np.array_equal(read_label_map(path, known), mask != values[0])


@pytest.mark.parametrize("values", [(0, 1), (0, 255), (0, 65535), (0, 200), (0, 254, 255), (0,), (255,), (38,)])
def test_values_that_mean_one_thing_are_read(values):
    mask = painted(*values)
    truth = mask > (0 if max(values) <= 1 else 127 if max(values) < 256 else 32767)
    assert np.array_equal(binarise(mask), truth)
    assert np.array_equal(binarise(mask.astype(np.float32)), truth)
    assert foreground_begins(count_values(mask), lossy=True) == foreground_begins(count_values(mask))


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("lossy", [True, False])
def test_black_and_white_that_jpeg_smeared_is_cut_at_half(quality, lossy):
    """As a JPEG, or as a PNG that was one once."""
    assert (binarise(smeared(painted(0, 255), quality), lossy) == OBJECT).mean() > 0.995
    small = np.zeros((64, 64), np.uint8)
    small[20:24, 20:24] = 255
    assert np.array_equal(binarise(smeared(small, quality), lossy), small > 127)


@pytest.mark.parametrize("values", [(0, 38), (0, 127, 255), (0, 90)])
def test_other_values_that_jpeg_smeared_are_refused(values):
    with pytest.raises(ValueError, match="option values"):
        binarise(smeared(painted(*values), 90), lossy=True)


def test_what_is_left_of_a_few_pixels_disturbs_no_mask():
    mask = painted(0, 255)
    mask[0, :3], mask[1, 0] = 112, 8
    assert np.array_equal(binarise(mask), OBJECT)
    edges = np.asarray(Image.fromarray(painted(0, 255)).resize((41, 53), Image.Resampling.BILINEAR))
    assert np.array_equal(binarise(edges), edges > 127)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint32, np.int16])
def test_label_maps_of_any_type_are_read_where_they_are_whole(tmp_path, dtype):
    labels = RNG.integers(0, 3, (9, 11)).astype(dtype)
    tifffile.imwrite(tmp_path / "m.tif", labels, photometric="minisblack")
    found = read_label_map(tmp_path / "m.tif", {0: 0, 1: 1, 2: 2})
    assert found.dtype == np.uint8
    assert np.array_equal(found, labels)
    assert np.array_equal(read_instances(tmp_path / "m.tif"), labels)
    labels[0, 0] = -1 if dtype == np.int16 else 7
    tifffile.imwrite(tmp_path / "m.tif", labels, photometric="minisblack")
    with pytest.raises(DataError, match=rf"pixel values \[{labels[0, 0]:g}\], which stand for no class"):
        read_label_map(tmp_path / "m.tif", {0: 0, 1: 1, 2: 2})
    assert read_label_map(tmp_path / "m.tif", {0: 0, 1: 1, 2: 2, int(labels[0, 0]): 255})[0, 0] == 255


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
def test_fractions_are_no_labels(tmp_path, value):
    tifffile.imwrite(tmp_path / "m.tif", np.array([[0, value]], np.float32))
    for read in (read_binary_mask, read_instances, lambda path: read_label_map(path, {0: 0, 1: 1})):
        with pytest.raises(DataError, match="are no whole numbers, so they are no labels"):
            read(tmp_path / "m.tif")


def test_large_and_negative_values_stand_for_classes():
    assert number_classes(np.array([[-1, 0, 2**31]]), {-1: 255, 0: 0, 2**31: 1}).tolist() == [[255, 0, 1]]
    with pytest.raises(ValueError, match="has values from -1 to 1"):
        binarise(np.array([[-1, 1]], np.int16))


def test_truth_values_stand_for_the_values_that_are_said(tmp_path):
    tifffile.imwrite(tmp_path / "m.tif", OBJECT)
    for values in ({0: 0, 1: 1}, {0: 0, 255: 1}):
        assert np.array_equal(read_label_map(tmp_path / "m.tif", values), OBJECT)
    assert read_grey(tmp_path / "m.tif").max() == 1
