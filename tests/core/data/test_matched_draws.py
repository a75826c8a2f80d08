import numpy as np
import pytest

from transeg.core.data.matched_draws import effective_number, matching_probabilities, shown_values
from transeg.core.data.stream import SOURCE, TrainingDomain
from transeg.core.data.windows import Windows
from transeg.core.errors import UsageError
from transeg.core.interfaces import IGNORE, Dataset, Sample


class Masks(Dataset):
    """Given label maps, with numbers of objects where they are wanted."""

    def __init__(self, *masks, instances=None):
        self.masks = [None if mask is None else np.array(mask, np.uint8) for mask in masks]
        self.instances = None if instances is None else np.array(instances)

    def __len__(self):
        return len(self.masks)

    def __getitem__(self, index):
        mask = self.masks[index]
        shape = (8, 8) if mask is None else mask.shape
        return Sample(np.zeros((*shape, 3), np.uint8), mask, str(index), "", instances=self.instances)

    def size_of(self, index):
        return self.masks[index].shape


def squares(*sides, size=(12, 40)):
    """Squares apart from each other, none at the edge."""
    mask = np.zeros(size, np.uint8)
    for place, side in enumerate(sides):
        mask[1 : 1 + side, 1 + 10 * place : 1 + 10 * place + side] = 1
    return mask


def values(dataset, matched, **options):
    return shown_values(dataset, len(dataset), matched, lambda: None, **options).tolist()


def test_the_share_of_what_is_known():
    known = [[0, 1, 2, 0], [0, 0, IGNORE, IGNORE]]
    found = values(Masks(known, np.zeros((2, 2)), np.full((2, 2), IGNORE)), "share")
    assert found == pytest.approx([2 / 6, 0, np.nan], nan_ok=True)


def test_the_diameter_of_a_disk_of_an_objects_area():
    """Squares of 2, 4 and 8: the middle one has an area of 16, and so has a disk of diameter 8 / sqrt(pi)."""
    dataset = Masks(squares(2, 4, 8), squares(), squares(4, size=(5, 9)))
    found = [8 / np.pi**0.5, np.nan, np.nan]  # the last one reaches the lower edge
    assert values(dataset, "size") == pytest.approx(found, nan_ok=True)
    shrunk = (24 * 24 / (12 * 40)) ** 0.5
    assert values(dataset, "size", load_size=24)[0] == pytest.approx(found[0] * shrunk)


def test_numbered_objects_that_touch_stay_apart():
    mask = np.zeros((6, 10), np.uint8)
    mask[1:5, 1:9] = 1
    numbers = np.where(mask, 1 + (np.arange(10) >= 5), 0)
    assert values(Masks(mask, instances=numbers), "size") == pytest.approx([8 / np.pi**0.5])
    assert values(Masks(mask), "size") == pytest.approx([(4 * 32 / np.pi) ** 0.5])


def test_windows_count_in_place_of_images():
    looked = []
    dataset = Masks(squares(4, 0, 0, 8))
    windows = Windows([dataset.size_of(0)], 12, 12)
    found = shown_values(dataset, 1, "share", lambda: looked.append(1), windows=windows)
    assert found.tolist() == pytest.approx([16 / 144, 0, 0, 64 / 144])
    assert len(looked) == len(windows)


def test_without_masks():
    with pytest.raises(UsageError, match="has no masks to look at"):
        values(Masks(None), "share")


def test_the_mean_is_the_wanted_one_and_draws_are_as_even_as_can_be():
    assert matching_probabilities(np.array([0.0, 1.0]), "share", 0.3) == pytest.approx([0.7, 0.3])
    found = matching_probabilities(np.array([2.0, 3.0, 4.0]), "size", 2.5)
    assert found @ [2, 3, 4] == pytest.approx(2.5)
    assert found[1] ** 2 == pytest.approx(found[0] * found[2])  # a geometric row, as the exponents are evenly apart
    assert matching_probabilities(np.array([1.0, 3.0]), "size", 2) == pytest.approx([0.5, 0.5])
    assert matching_probabilities(np.array([0.5, 0.5]), "share", 0.5) == pytest.approx([0.5, 0.5])
    assert effective_number(np.full(8, 1 / 8)) == pytest.approx(8)
    assert effective_number(np.array([1, 0, 0])) == 1


def test_images_without_a_value_are_drawn_as_often_as_before():
    found = matching_probabilities(np.array([0.0, np.nan, 1.0, np.nan]), "share", 0.25)
    assert found == pytest.approx([0.375, 0.25, 0.125, 0.25])


@pytest.mark.parametrize("wanted", [1e-6, 0.0999999, 0.9 - 1e-9])
def test_means_near_the_ends(wanted):
    found = matching_probabilities(np.array([0, 0.1, 0.5, 0.9]), "share", wanted)
    assert found @ [0, 0.1, 0.5, 0.9] == pytest.approx(wanted)
    assert found.sum() == pytest.approx(1)


def test_out_of_reach():
    with pytest.raises(UsageError, match=r"match=share:0\.5 is out of reach: .* shows 0\.1 to 0\.3 of foreground"):
        matching_probabilities(np.array([0.1, 0.3]), "share", 0.5)
    with pytest.raises(UsageError, match=r"diameters of 8 to 12 pixels; data\.source\.rescale=2 would"):
        matching_probabilities(np.array([8.0, 12.0, np.nan]), "size", 20)
    with pytest.raises(UsageError, match="finds no object in the source"):
        matching_probabilities(np.array([np.nan]), "size", 20)


def test_what_is_drawn_is_a_function_of_the_place():
    dataset = Masks(*(squares(side, size=(10, 10)) for side in (1, 2, 4, 6, 8)))
    shares = np.array(values(dataset, "share"))
    probabilities = matching_probabilities(shares, "share", 0.4)
    usual = {"limit": 0, "sampling": "shuffle", "load_size": None, "size": 10, "transforms": []}

    def drawn(places, seed=0):
        domain = TrainingDomain(dataset, SOURCE, seed=seed, probabilities=probabilities, **usual)
        return [domain.index(place) for place in places]

    many = drawn(range(4000))
    assert np.bincount(many) / 4000 == pytest.approx(probabilities, abs=0.025)
    assert shares[many].mean() == pytest.approx(0.4, abs=0.01)
    assert drawn([3999, 17]) == [many[3999], many[17]]
    assert drawn(range(50), seed=1) != many[:50]
