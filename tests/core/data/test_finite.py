import numpy as np
import pytest
import tifffile
from PIL import Image

from transeg.core.data import finite, tiff
from transeg.core.data.finite import check_floats
from transeg.core.data.ranged import RangedDataset
from transeg.core.errors import DataError
from transeg.core.interfaces import Dataset, Sample
from transeg.plugins.datasets.folder import Folder


def test_every_float_image_is_looked_at_once_and_no_other(tmp_path, monkeypatch):
    Image.new("L", (5, 4)).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((4, 5), np.uint8))
    for name in "cde":
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((4, 5), np.float32))
    dataset = Folder(tmp_path, "all", channels=1)
    decoded = []
    read = RangedDataset.__getitem__
    monkeypatch.setattr(RangedDataset, "__getitem__", lambda self, index: decoded.append(index) or read(self, index))
    check_floats([RangedDataset(dataset)])
    check_floats([RangedDataset(dataset)])
    assert sorted(decoded) == [2, 3, 4]
    for name, value in (("c", np.nan), ("e", 300)):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.full((4, 5), value, np.float32))
    for _ in range(2):
        with pytest.raises(DataError, match=r"c\.tif has 20 values that are not finite.*\(1 more images are like that"):
            check_floats([RangedDataset(dataset)])


def test_large_images_are_looked_at_in_bands(tmp_path, monkeypatch):
    monkeypatch.setattr(finite, "LARGE", 100)
    monkeypatch.setattr(finite, "BAND", 16)
    pixels = np.zeros((70, 50), np.float32)
    pixels[69, 49] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(16, 16))
    assert tiff.holds_floats(tmp_path / "a.tif")
    monkeypatch.setattr(RangedDataset, "__getitem__", None)
    with pytest.raises(DataError, match="not finite"):
        check_floats([RangedDataset(Folder(tmp_path, "all", channels=1))])


class Made(Dataset):
    """Of a plugin that knows nothing of ranges."""

    def __init__(self, *images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return Sample(self.images[index], None, f"image {index}", "")


def test_images_of_any_dataset_are_looked_at():
    good, bad = np.zeros((3, 4, 1), np.float32), np.full((3, 4, 1), np.inf, np.float32)
    with pytest.raises(DataError, match="image 1 has 12 values that are not finite"):
        check_floats([RangedDataset(Made(good, bad))])
    scaled = RangedDataset(Made(np.full((3, 4, 1), 2047.5, np.float32)), (0, 4095))[0].image
    assert np.allclose(scaled, 0.5)
    with pytest.raises(ValueError, match="must be increasing"):
        RangedDataset(Made(good), (1, 1))
