"""How far a translation is found to be shifted, where that is known."""

import numpy as np
import pytest
from scipy import ndimage

from transeg.core.evaluation.label_shift import label_shift
from transeg.core.evaluation.label_survival import LabelSurvival
from transeg.core.evaluation.label_table import LabelTable, describe_labels, worst_labels
from transeg.plugins.datasets.phantom.dataset import Phantom


@pytest.fixture(scope="module")
def images():
    clean = Phantom(None, "train", count=3, side=128)
    return [clean[index].image for index in range(3)]


@pytest.mark.parametrize("shift", [(0, 0), (0.5, -0.3), (2.25, 1.6), (-6.4, 3.2), (9, -12)])
def test_a_known_shift_is_found_to_a_fraction_of_a_pixel_also_of_another_contrast(images, shift):
    rng = np.random.default_rng(0)
    for image in images:
        moved = ndimage.shift(image.astype(float), (*shift, 0), order=3, mode="reflect").clip(0, 255)
        inverted = (200 - 0.6 * moved).clip(0, 255)
        noisy = (inverted + rng.normal(0, 4, moved.shape)).clip(0, 255)
        for made, error in ((moved, 0.3), (inverted, 0.3), (noisy, 0.6)):
            assert np.hypot(*np.subtract(label_shift(image, made.astype(np.uint8)), shift)) < error
        grey = (inverted.mean(axis=2, keepdims=True) / 255).astype(np.float32)
        assert np.hypot(*np.subtract(label_shift(image, grey), shift)) < 0.3


def test_images_that_have_nothing_in_common_are_shifted_by_no_more_than_their_size(images):
    rng = np.random.default_rng(0)
    for number in range(60):
        size = int(rng.integers(24, 128))
        part = images[number % 3][:size, :size]
        smooth = ndimage.gaussian_filter(rng.normal(128, 90, (size, size, 3)), (number % 9, number % 7, 0))
        found = label_shift(part, smooth.clip(0, 255).astype(np.uint8))
        assert np.abs(found).max() <= size / 2 + 1


def test_what_cannot_be_told(images):
    assert label_shift(images[0], np.full_like(images[0], 7)) == (0.0, 0.0)
    assert label_shift(images[0][:15], images[0][:15]) is None


def test_the_worst_are_those_not_found_again_or_else_those_shifted_farthest(tmp_path):
    table = LabelTable(tmp_path / "new" / "labels.csv")
    table.begin()
    shifts = {"a": (0.0, 1.0), "b": (-3.0, 4.0), "c": None, "d": (2.0, 0.0)}
    for name, shift in shifts.items():
        table.add("train", name, LabelSurvival(shift, None))
    table.begin()
    table.add("train", "a", LabelSurvival((0.0, 0.5), None))  # once more, after a kill
    with (tmp_path / "new" / "labels.csv").open("a") as file:
        file.write("train,e,1")  # and a power cut
    table.begin()
    table.add("train", "a", LabelSurvival((0.0, 0.5), None))
    table.finish()
    assert len((tmp_path / "new" / "labels.csv").read_text().splitlines()) == 5
    lines = table.read()
    assert list(lines) == ["train/a", "train/b", "train/c", "train/d"]
    assert worst_labels(lines, 0.5) == {"train/b", "train/d"}
    assert worst_labels(lines, 0.24) == set()
    assert describe_labels(lines) == ("Shifted against their labels by 2.0 pixels (median), train/b by 5.0.")
    judged = LabelTable(tmp_path / "judged.csv")
    judged.begin()
    for name, dice in {"a": 0.9, "b": 0.2, "c": None, "d": 0.6}.items():
        judged.add("val", name, LabelSurvival((9.0 if name == "a" else 0.0, 0.0), dice))
    assert worst_labels(judged.read(), 0.5) == {"val/b", "val/d"}
    assert describe_labels(judged.read()).endswith(
        "Labels found again with a Dice of 0.600 (median), that of val/b with 0.200."
    )
