import numpy as np

from transeg.core.data.largest_rectangle import largest_rectangle, shown_part
from transeg.core.interfaces import Region, Sample


def test_the_largest_rectangle():
    inside = np.random.default_rng(0).random((9, 11)) > 0.2
    found = largest_rectangle(inside)
    assert inside[found.top : found.top + found.height, found.left : found.left + found.width].all()
    most = max(
        (b - a) * (d - c)
        for a in range(9)
        for b in range(a, 10)
        for c in range(11)
        for d in range(c, 12)
        if inside[a:b, c:d].all()
    )
    assert found.height * found.width == most
    assert largest_rectangle(np.zeros((3, 3), bool)) == Region(0, 0, 0, 0)


def test_the_part_of_an_image_that_shows_something():
    rows, columns = np.mgrid[:600, :800]
    valid = np.hypot(rows - 300, columns - 400) < 290
    image = np.where(valid, 200, 0).astype(np.uint8)[:, :, None]
    part = shown_part(Sample(image, None, "a", "a", valid=valid))
    assert (part == 0).mean() < 0.001
    assert part.size > 0.6 * valid.sum()
    assert shown_part(Sample(image, None, "a", "a")) is image
    assert shown_part(Sample(image, None, "a", "a", valid=valid & False)) is image
