"""Files that are there whole or not at all."""

import json

import numpy as np
import pytest

from transeg.core.data.writing import image_suffix, read_records, write_records
from transeg.core.errors import DataError
from transeg.core.interfaces import Written


def test_records_come_back_and_others_stay(tmp_path):
    first, second = Written("a/b", "train", "subject 1", (0.1, 0.2)), Written("c", "test", "subject 2")
    write_records(tmp_path, {"a_b-1": first})
    write_records(tmp_path, {"c": second})
    assert read_records(tmp_path) == {"a_b-1": first, "c": second}


@pytest.mark.parametrize("foreign", [[1, 2], {"version": 3}, {"files": {"a.png": "x"}}, "text"])
def test_a_manifest_of_another_program_says_nothing(tmp_path, foreign):
    (tmp_path / "manifest.json").write_text(json.dumps(foreign))
    assert read_records(tmp_path) == {}


def test_a_damaged_manifest_is_an_error(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        read_records(tmp_path)


@pytest.mark.parametrize(
    ("dtype", "channels", "suffix"),
    [
        (np.uint8, 1, ".png"),
        (np.uint8, 3, ".png"),
        (np.uint8, 5, ".tif"),
        (np.uint16, 1, ".png"),
        (np.uint16, 3, ".tif"),
    ],
)
def test_formats_hold_what_they_are_given(dtype, channels, suffix):
    assert image_suffix(np.zeros((4, 4, channels), dtype)) == suffix
    assert image_suffix(np.zeros((4, 4, channels), np.float32)) == ".tif"
