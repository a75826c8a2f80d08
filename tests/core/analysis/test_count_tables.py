import csv

import numpy as np
import pytest
from PIL import Image

from transeg.core.analysis.count_tables import CountAgreement, ObjectTables
from transeg.core.analysis.counting import Counting
from transeg.core.interfaces import IGNORE

TWO, THREE = ("background", "nucleus"), ("background", "axon", "myelin")


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def squares(*places, size=20):
    """A label map with 2x2 squares at (row, column, class)."""
    mask = np.zeros((size, size), dtype=np.int64)
    for row, column, label in places:
        mask[row : row + 2, column : column + 2] = label
    return mask


def test_a_line_for_each_image_and_object(tmp_path):
    with ObjectTables(Counting(), tmp_path / "new", TWO) as tables:
        tables.add("a", squares((0, 0, 1), (10, 4, 1)))
        tables.add("b", squares())
    assert rows(tmp_path / "new" / "counts.csv") == [
        {"image": "a", "count": "2", "total_area": "8", "mean_area": "4.00"},
        {"image": "b", "count": "0", "total_area": "0", "mean_area": ""},
    ]
    of_a = {"image": "a", "class": "nucleus", "area": "4"}
    assert rows(tmp_path / "new" / "objects.csv") == [
        of_a | {"number": "1", "centroid_x": "0.50", "centroid_y": "0.50"},
        of_a | {"number": "2", "centroid_x": "4.50", "centroid_y": "10.50"},
    ]


def test_several_classes_have_a_column_each(tmp_path):
    with ObjectTables(Counting(), tmp_path, THREE) as tables:
        tables.add("a", squares((0, 0, 1), (0, 4, 2), (0, 8, 2)))
    (line,) = rows(tmp_path / "counts.csv")
    assert (line["count"], line["count_axon"], line["count_myelin"]) == ("3", "1", "2")
    assert [line["class"] for line in rows(tmp_path / "objects.csv")] == ["axon", "myelin", "myelin"]


def test_agreement_with_the_truth(tmp_path):
    counts = CountAgreement(Counting(min_area=2), TWO)
    counts.add("a", "g", squares((0, 0, 1), (4, 4, 1)), squares((0, 0, 1)), None)
    counts.add("b", "g", squares(), squares((0, 0, 1), (8, 8, 1)), None)
    found = counts.summary()
    assert found == {
        "method": "components",
        "min_area": 2,
        "numbered": 0,
        "true": 3,
        "predicted": 2,
        "mae": 1.5,
        "relative_error": 1.0,
        "bias": -0.5,
        "limits": pytest.approx([-0.5 - 1.96 * 4.5**0.5, -0.5 + 1.96 * 4.5**0.5]),
        "pq": pytest.approx((2 / 3 + 0) / 2),
        "sq": 1,  # of the first image alone: the second has no pair
        "rq": pytest.approx((2 / 3 + 0) / 2),
        "aji": pytest.approx((4 / 8 + 0) / 2),
    }
    counts.write(tmp_path / "counts", "set")
    assert rows(tmp_path / "counts" / "set.csv") == [
        {"name": "a", "group": "g", "true": "1", "predicted": "2", "error": "1"}
        | {"pq": "0.666667", "sq": "1.000000", "rq": "0.666667", "aji": "0.500000"},
        {"name": "b", "group": "g", "true": "2", "predicted": "0", "error": "-2"}
        | {"pq": "0.000000", "sq": "", "rq": "0.000000", "aji": "0.000000"},
    ]
    picture = Image.open(tmp_path / "counts" / "set.png")
    assert picture.size == (600, 480)
    assert len(np.unique(np.asarray(picture))) > 2


def test_true_objects_that_are_numbered_are_counted_by_their_numbers():
    """They touch, so that components would make one of them."""
    counts = CountAgreement(Counting(), TWO)
    truth = squares((0, 0, 1), (0, 2, 1))
    instances = squares((0, 0, 8), (0, 2, 9))
    counts.add("a", "g", truth, truth, instances)
    counts.add("b", "g", truth, truth, None)
    found = counts.summary()
    assert (found["true"], found["predicted"], found["numbered"]) == (3, 2, 1)


def test_what_is_unknown_counts_on_neither_side():
    counts = CountAgreement(Counting(), TWO)
    truth = squares((0, 0, 1), (10, 10, IGNORE))
    counts.add("a", "g", squares((0, 0, 1), (10, 10, 1)), truth, squares((0, 0, 1), (10, 10, 2)))
    found = counts.summary()
    assert (found["true"], found["predicted"], found["pq"], found["aji"]) == (1, 1, 1, 1)


def test_outlines_overlap_and_are_no_single_objects(tmp_path):
    """One of them may lie within another, so that no pixel has one number."""
    counts = CountAgreement(Counting("contours"), THREE)
    counts.add("a", "g", squares((0, 0, 1)), squares((0, 0, 1)), None)
    found = counts.summary()
    assert [found["true"], found["pq"], found["aji"], found["classes"]["axon"]["pq"]] == [1, None, None, None]
    counts.write(tmp_path, "set")
    assert [rows(tmp_path / "set.csv")[0][column] for column in ("true", "pq", "aji_axon")] == ["1", "", ""]


def test_classes_agree_each_by_itself(tmp_path):
    counts = CountAgreement(Counting(), THREE)
    counts.add("a", "g", squares((0, 0, 1), (0, 4, 1)), squares((0, 0, 1), (0, 4, 2)), None)
    found = counts.summary()
    assert found["bias"] == 0  # one too many, one too few
    assert {name: values["bias"] for name, values in found["classes"].items()} == {"axon": 1, "myelin": -1}
    assert found["classes"]["axon"]["relative_error"] == 1
    assert found["pq"] == found["aji"] == 1  # whatever their classes
    assert [found["classes"][name]["rq"] for name in THREE[1:]] == pytest.approx([2 / 3, 0])
    counts.write(tmp_path, "set")
    (line,) = rows(tmp_path / "set.csv")
    assert {key: line[key] for key in ("error", "true_axon", "predicted_axon", "error_myelin")} == {
        "error": "0",
        "true_axon": "1",
        "predicted_axon": "2",
        "error_myelin": "-1",
    }
    assert [line[f"aji_{name}"] for name in THREE[1:]] == ["0.500000", "0.000000"]
    assert Image.open(tmp_path / "set.png").size == (3 * 600, 480)
