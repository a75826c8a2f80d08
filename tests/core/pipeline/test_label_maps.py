import numpy as np
import pytest

from transeg.core.errors import DataError
from transeg.core.interfaces import IGNORE, Dataset, Sample
from transeg.core.pipeline.label_maps import LabelMap, LabelMaps, recombine

SIDE = 40


def disc(mask, row, column, radius, value):
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    mask[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = value


class Discs(Dataset):
    """Each map has a large disc of class 1 and small ones of class 2; the second map's are smaller still."""

    classes = ("background", "large", "small")

    def __init__(self, numbered=True, masked=True):
        self.numbered = numbered
        self.masked = masked

    def __len__(self):
        return 2

    def __getitem__(self, index):
        mask, numbers = np.zeros((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), np.int32)
        for number, (row, column, radius, value) in enumerate(
            [(12, 12, 8 - 2 * index, 1), (30, 30, 4 - index, 2), (30, 10, 4 - index, 2)], start=1
        ):
            disc(mask, row, column, radius, value)
            disc(numbers, row, column, radius, number)
        image = np.zeros((SIDE, SIDE, 3), np.uint8)
        given = mask if self.masked else None
        return Sample(image, given, str(index), "g", instances=numbers if self.numbered else None)


def test_each_is_a_function_of_seed_and_number():
    maps = [LabelMaps(Discs(), 0, "recombine", seed) for seed in (0, 0, 1)]
    assert (maps[0][5].mask == maps[1][5].mask).all()
    assert not (maps[0][5].mask == maps[2][5].mask).all()
    assert not (maps[0][5].mask == maps[0][7].mask).all()  # the same origin, drawn anew
    assert maps[0][5].name == maps[0][7].name == "1"


@pytest.mark.parametrize("variation", ["deform", "recombine"])
def test_classes_and_numbers_stay_whole(variation):
    maps = LabelMaps(Discs(), 0, variation, 0)
    for number in range(8):
        made = maps[number]
        assert set(np.unique(made.mask)) <= {0, 1, 2}
        assert ((made.mask > 0) == (made.instances > 0)).all()
        for instance in np.unique(made.instances[made.instances > 0]):
            assert len(np.unique(made.mask[made.instances == instance])) == 1


def test_without_variation_they_are_as_given():
    made = LabelMaps(Discs(), 0, "none", 0)[3]
    assert (made.mask == Discs()[1].mask).all()


def test_a_limit_uses_the_first():
    maps = LabelMaps(Discs(), 1, "none", 0)
    assert len(maps) == 1
    assert maps[1].name == "0"


def test_without_numbers_touching_pixels_are_one_object():
    made = LabelMaps(Discs(numbered=False), 0, "none", 0)[0]
    assert made.instances.max() == 3


def test_exchanged_objects_keep_class_and_place():
    own, other = (LabelMaps(Discs(), 0, "none", 0)[index] for index in (0, 1))
    made = recombine(own, other, np.random.default_rng(1))
    areas = {value: int((made.mask == value).sum()) for value in (1, 2)}
    before = {value: int((own.mask == value).sum()) for value in (1, 2)}
    after = {value: int((other.mask == value).sum()) for value in (1, 2)}
    assert all(after[value] <= areas[value] <= before[value] for value in (1, 2))
    assert areas != before  # something was exchanged
    assert made.mask[12, 12] == 1
    assert made.mask[30, 30] == made.mask[30, 10] == 2


def test_what_is_unknown_stays_unknown():
    mask = np.full((SIDE, SIDE), IGNORE, np.uint8)
    disc(mask, 12, 12, 8, 1)
    numbers = (mask == 1).astype(np.uint16)
    large = LabelMap(np.ones((SIDE, SIDE), np.uint8), np.ones((SIDE, SIDE), np.uint16), "all", "g")
    for seed in range(6):
        made = recombine(LabelMap(mask, numbers, "x", "g"), large, np.random.default_rng(seed))
        assert (made.mask[mask == IGNORE] == IGNORE).all()


def test_a_map_without_labels():
    with pytest.raises(DataError, match="0 has no mask"):
        LabelMaps(Discs(masked=False), 0, "deform", 0)[0]
