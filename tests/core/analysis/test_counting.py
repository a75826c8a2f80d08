"""Objects of known shapes, counted by hand; and the tutorial's protocol on its own masks."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from transeg.core.analysis.counting import Counting
from transeg.core.errors import UsageError
from transeg.core.interfaces import IGNORE

TISSUE = Path(os.environ.get("TRANSEG_DATA", "/nonexistent")) / "tissue" / "mask binary"
METHODS = ["components", "contours", "watershed"]


def disc(mask, row, column, radius, label=1):
    """Draw a disc onto a label map."""
    y, x = np.indices(mask.shape)
    mask[(y - row) ** 2 + (x - column) ** 2 <= radius**2] = label
    return mask


def empty(height=60, width=80):
    return np.zeros((height, width), dtype=np.uint8)


def count(mask, method="components", **options):
    return Counting(method, **options)(mask)


@pytest.fixture(autouse=True)
def _watershed_where_it_is_installed(request):
    if "watershed" in request.node.name:
        pytest.importorskip("skimage")


@pytest.mark.parametrize("method", METHODS)
def test_discs_apart(method):
    """A disc of radius 5 has 81 pixels, row by row 11 + 2 * (9 + 9 + 9 + 7 + 1)."""
    found = count(disc(disc(empty(), 10, 12, 5), 40, 60, 5), method)
    places = sorted((o.label, o.area, o.row, o.column) for o in found)
    assert places == [(1, 81, 10, 12), (1, 81, 40, 60)]


@pytest.mark.parametrize("method", METHODS)
def test_nothing(method):
    assert count(empty(), method) == []
    assert count(np.full((9, 9), IGNORE), method) == []


@pytest.mark.parametrize("method", METHODS)
def test_one_pixel_and_a_whole_image(method):
    mask = empty(5, 5)
    mask[4, 0] = 1
    assert [(o.area, o.row, o.column) for o in count(mask, method)] == [(1, 4, 0)]
    assert [(o.area, o.row, o.column) for o in count(np.ones((5, 7)), method)] == [(35, 2, 3)]


def test_pixels_that_meet_at_a_corner_are_one_component():
    assert [o.area for o in count(np.eye(4, dtype=np.uint8))] == [4]


def test_holes_are_objects_to_contours_alone():
    ring = disc(disc(empty(), 30, 30, 12), 30, 30, 6, label=0)
    (component,) = count(ring)
    assert component.area == np.count_nonzero(ring)
    outer, hole = sorted(count(ring, "contours"), key=lambda o: -o.area)
    assert outer.area == np.count_nonzero(disc(empty(), 30, 30, 12))  # with what it encloses
    assert np.count_nonzero(disc(empty(), 30, 30, 6)) < hole.area < outer.area  # runs on the ring's innermost pixels
    assert (hole.row, hole.column) == (30, 30)


def test_touching_discs_are_split_by_watershed_alone():
    mask = disc(disc(empty(), 30, 25, 12), 30, 45, 12)
    assert len(count(mask)) == len(count(mask, "contours")) == 1
    first, second = sorted(count(mask, "watershed"), key=lambda o: o.column)
    assert first.area + second.area == np.count_nonzero(mask)
    assert abs(first.area - second.area) <= 0.1 * first.area
    assert (first.row, second.row) == pytest.approx((30, 30), abs=0.5)
    assert (first.column, second.column) == pytest.approx((25, 45), abs=1)


def test_watershed_splits_neither_a_bar_nor_a_rough_disc():
    bar = empty()
    bar[20:30, 5:75] = 1
    rough = disc(empty(), 30, 40, 15)
    rough[15, 38:43] = 0
    rough[30, 55] = 0
    assert len(count(bar, "watershed")) == len(count(rough, "watershed")) == 1


def test_watershed_loses_no_pixel():
    """Specks and lines have no top of their own height; they stay what they are."""
    rng = np.random.default_rng(0)
    mask = (rng.random((40, 40)) < 0.3).astype(np.uint8)
    mask[5:9, 5:35] = 1
    found = count(mask, "watershed")
    assert sum(o.area for o in found) == np.count_nonzero(mask)
    assert len(found) >= len(count(mask))


@pytest.mark.parametrize("method", METHODS)
def test_small_objects_do_not_count(method):
    mask = disc(disc(empty(), 10, 12, 5), 40, 60, 1)  # 81 and 5 pixels
    assert [len(count(mask, method, min_area=n)) for n in (0, 5, 6, 81, 82)] == [2, 2, 1, 1, 0]


@pytest.mark.parametrize("method", METHODS)
def test_each_class_is_counted_by_itself(method):
    mask = disc(disc(disc(empty(), 20, 20, 6), 20, 60, 6, label=3), 40, 20, 6, label=3)
    mask[50:] = IGNORE
    assert sorted(o.label for o in count(mask, method)) == [1, 3, 3]
    halves = empty(10, 10)
    halves[:5], halves[5:] = 1, 2  # they touch, and are still two
    assert [(o.label, o.area) for o in count(halves, method)] == [(1, 50), (2, 50)]


def test_numbered_objects():
    """Touching ones stay apart, parts of one together; a class is the commonest, unknown pixels are none."""
    instances = np.array([[7, 7, 9, 9, 0, 7], [7, 7, 9, 9, 0, 7], [500, 500, 3, 3, 0, 0]])
    mask = np.array([[1, 1, 2, 2, 0, 1], [1, 1, 2, 1, 0, 1], [0, 0, 1, IGNORE, 0, 0]])
    found = Counting().numbered(instances, mask).objects()
    assert [(o.label, o.area) for o in found] == [(1, 1), (1, 6), (2, 4)]
    assert (found[2].row, found[2].column) == (0.5, 2.5)
    large = Counting(min_area=2).numbered(instances, mask)
    assert large.numbers.tolist() == [[1, 1, 2, 2, 0, 1], [1, 1, 2, 2, 0, 1], [0, 0, 0, 0, 0, 0]]
    assert (large.labels.tolist(), large.areas.tolist()) == ([1, 2], [6, 4])
    assert Counting().numbered(np.zeros((2, 2), int), np.ones((2, 2), int)).objects() == []


def test_a_watershed_numbers_pixels():
    """Objects side by side, of which one is two that touch, in the class after another."""
    mask = disc(disc(disc(empty(), 30, 25, 12), 30, 45, 12), 30, 70, 5)
    mask[:5, :5] = 2
    found = Counting("watershed").map_of(mask)
    assert [found.numbers[30, column] for column in (25, 45, 70)] == [1, 2, 3]
    assert (found.numbers[0, 0], found.labels.tolist()) == (4, [1, 1, 1, 2])
    assert found.areas.tolist() == np.bincount(found.numbers.ravel())[1:].tolist()
    assert np.array_equal(found.numbers > 0, mask > 0)


def test_watershed_without_scikit_image(monkeypatch):
    monkeypatch.setattr("transeg.core.optional_packages.find_spec", lambda name: None)
    Counting("contours")
    with pytest.raises(UsageError, match=r"pip install 'transeg\[watershed\]'"):
        Counting("watershed")


@pytest.mark.skipif(not TISSUE.is_dir(), reason="TRANSEG_DATA has no tissue/")
def test_the_tutorials_protocol_on_its_masks():
    """`contours` is what its script counts, 147, 130 and 160 of them in its README; what is more is holes."""
    numbers = {}
    for file in sorted(TISSUE.glob("*.png")):
        mask = np.asarray(Image.open(file)) > 127
        script = len(cv2.findContours(mask.astype(np.uint8) * 255, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0])
        numbers[file.stem] = (len(count(mask, "contours")), len(count(mask)))
        assert numbers[file.stem][0] == script
    assert numbers == {
        "cryonuseg_0": (105, 96),
        "cryonuseg_1": (147, 135),
        "cryonuseg_3": (83, 81),
        "cryonuseg_4": (130, 123),
        "cryonuseg_5": (160, 145),
        "cryonuseg_6": (161, 150),
        "cryonuseg_8": (137, 130),
    }


def test_why_the_tutorial_has_390_patches_of_an_image():
    """Windows of 128 every 20 pixels of 512 are 20 x 20; without a separator, row 1 column 11 is named as 11 and 1."""
    steps = range((512 - 128) // 20 + 1)
    places = [(row, column) for row in steps for column in steps]
    apart = {f"{row}_{column}" for row, column in places}
    run_together = {f"{row}{column}" for row, column in places}
    assert (len(apart), len(run_together)) == (400, 390)
    assert (19 * len(run_together), 9 * len(run_together)) == (7410, 3510)  # what its README counts
