import numpy as np
import pytest
from PIL import Image

from transeg.core.errors import DataError, UsageError
from transeg.core.inference.reading import Reading


def test_a_page_and_a_range_are_as_assigned(tmp_path):
    first, second = (np.full((4, 5), value, np.uint16) for value in (1000, 3000))
    path = tmp_path / "stack.tif"
    Image.fromarray(first).save(path, save_all=True, append_images=[Image.fromarray(second)])
    found = Reading.of(["range=[1000, 5000]", "page=1"]).within((0.0, 65535.0)).image(path, 1)
    assert found.shape == (4, 5, 1)
    scale = 1 if found.dtype.kind == "f" else np.iinfo(found.dtype).max
    assert found.mean() / scale == pytest.approx(0.5, abs=0.001)
    with pytest.raises(DataError, match="holds 2 pages"):
        Reading().image(path, 1)


def test_the_usual_range_counts_where_none_is_named():
    assert Reading.of([]).within((0.0, 4095.0)) == Reading((0.0, 4095.0), None)


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("pages=1", "Did you mean 'page'"),
        ("range=[5, 1]", "two numbers, the lower one first"),
        ("range=12", "two numbers"),
        ("page=-1", "the number of a page"),
        ("page=all", "the number of a page"),
    ],
)
def test_what_cannot_be_is_said(assignment, said):
    with pytest.raises(UsageError, match=said):
        Reading.of([assignment])
