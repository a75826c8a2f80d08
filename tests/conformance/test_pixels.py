"""What every dataset of files must make of what files say: their first image is stored in another way, and read."""

import numpy as np
import pytest
import tifffile
from layouts import write
from PIL import Image

from transeg.core.builders.datasets import build_dataset
from transeg.core.data.finite import check_floats
from transeg.core.errors import DataError
from transeg.core.experiment.completion import complete_dataset
from transeg.core.registry import Registry

REGISTRY = Registry()
ELSEWHERE = {
    "phantom",
    "pannuke",
    "hdf5",
    "video",
    "nifti",
    "dicom",
    "slides",
}  # made, or in files of many images: their own tests
COMPONENTS = [c for c in REGISTRY.components("dataset") if c.name not in ELSEWHERE]


@pytest.fixture(params=COMPONENTS, ids=str, scope="module")
def tree(request, tmp_path_factory):
    """Builds a dataset anew, and the file of its first image, which is what it was again after each test."""
    root = tmp_path_factory.mktemp(request.param.name) / request.param.name
    write(request.param.name, root)

    def build(**options):
        table = {"name": request.param.name, "root": str(root), "split": "all", **options}
        return build_dataset(complete_dataset(table, "source", REGISTRY), "source", REGISTRY)

    return build, build().origin_of(0).files[0]


@pytest.fixture
def build(tree):
    make, path = tree
    before = path.read_bytes()
    yield make, path
    path.write_bytes(before)


def pixels(path):
    """A grey picture of the size that a file's has."""
    width, height = Image.open(path).size
    return np.add.outer(np.arange(height) * 5, np.arange(width) * 2).astype(np.uint8)


def same(one, two, tolerance=0.0):
    for name in ("image", "target"):
        a, b = getattr(one, name), getattr(two, name)
        assert (a is None) == (b is None)
        scaled = [x if x is None or x.dtype != np.uint8 else x / 255 for x in (a, b)]
        assert a is None or np.abs(scaled[0] - scaled[1]).max() <= tolerance
    return True


@pytest.mark.parametrize("how", ["orientation", "palette", "white is zero", "range", "floats"])
def test_it_reads_what_the_file_means(build, how):
    make, path = build
    grey = pixels(path)
    Image.fromarray(grey).save(path, "PNG")
    truth = make()[0]
    options = {}
    if how == "orientation":
        tifffile.imwrite(path, np.rot90(grey), extratags=[(274, 3, 1, 6, True)])
    elif how == "palette":
        shown = Image.fromarray(255 - grey, mode="P")
        shown.putpalette([value for level in range(255, -1, -1) for value in [level] * 3])
        shown.save(path, "PNG")
    elif how == "white is zero":
        tifffile.imwrite(path, 255 - grey, photometric="miniswhite")
    else:
        tifffile.imwrite(path, grey.astype(np.uint16) * 16 if how == "range" else grey.astype(np.float32))
        options = {"range": [0, 255 * 16 if how == "range" else 255]}
    if not options:
        assert same(make()[0], truth)
        return
    index = 1 if make(**options)[0].target is None else 0
    assert make(**options)[index].image.dtype == np.float32  # it holds for all images
    assert same(make(**options)[0], truth, 1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, 255.0])
def test_it_refuses_what_cannot_be_shown(build, value):
    make, path = build
    grey = pixels(path).astype(np.float32) / 255
    grey[0, 0] = value
    tifffile.imwrite(path, grey)
    with pytest.raises(
        DataError, match="not finite" if value != 255 else "outside of the range 0 to 1; .* range="
    ) as said:
        make()[0]
    assert path.name in str(said.value)
    if path.suffix == ".tif":
        with pytest.raises(DataError, match=path.name):
            check_floats([make()])


def test_it_takes_no_pages_for_channels(build):
    make, path = build
    tifffile.imwrite(path, np.zeros((3, 20, 24), np.uint8), photometric="minisblack")
    with pytest.raises(DataError, match="holds 3 pages"):
        make()[0]
