import numpy as np
import pytest
import tifffile
from PIL import Image

from transeg.core.errors import DataError
from transeg.plugins.datasets.folder import Folder

STACK = np.arange(3 * 8 * 9, dtype=np.uint8).reshape(3, 8, 9)


@pytest.fixture
def root(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for stem in "ab":
        tifffile.imwrite(tmp_path / "images" / f"{stem}.tif", STACK, photometric="minisblack")
        tifffile.imwrite(
            tmp_path / "masks" / f"{stem}.tif", (STACK > 100).astype(np.uint8) * 255, photometric="minisblack"
        )
    return tmp_path


def test_each_page_is_an_image_of_one_group(root):
    with pytest.raises(DataError, match="holds 3 pages"):
        Folder(root, "all", channels=1)[0]
    dataset = Folder(root, "all", channels=1, page="all")
    assert not dataset.faults
    assert [dataset[i].name for i in range(6)] == [f"{stem}-{page:04d}" for stem in "ab" for page in range(3)]
    assert [dataset.group_of(i) for i in range(6)] == ["a"] * 3 + ["b"] * 3
    for place, page in enumerate([*STACK, *STACK]):
        sample = dataset[place]
        assert np.array_equal(sample.image[:, :, 0], page)
        assert np.array_equal(sample.mask, page > 100)
        assert dataset.size_of(place) == sample.size
    assert len({dataset.origin_of(i) for i in range(6)}) == 6
    for split in ("train", "val", "test"):
        assert len(Folder(root, split, channels=1, page="all", ratio=(0.5, 0.5, 0))) in (0, 3)


def test_one_page_is_chosen(root):
    Image.fromarray((STACK[1] > 100).astype(np.uint8) * 255).save(root / "masks" / "a.png")
    (root / "masks" / "a.tif").unlink()
    dataset = Folder(root, "all", channels=1, page=1)
    assert [dataset[i].name for i in range(2)] == ["a", "b"]
    for index in range(2):
        assert np.array_equal(dataset[index].image[:, :, 0], STACK[1])
        assert np.array_equal(dataset[index].mask, STACK[1] > 100)
    assert "has 3 pages, but" in Folder(root, "all", channels=1, page="all").faults[0].reason
    assert "there is no page 3" in Folder(root, "all", channels=1, page=3).faults[0].reason


def test_frames_of_an_animation_are_pages(tmp_path):
    frames = [Image.fromarray(page) for page in STACK]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert len(Folder(tmp_path, "all", channels=1)) == 1
    dataset = Folder(tmp_path, "all", channels=1, page="all")
    assert [int(dataset[i].image[0, 0, 0]) for i in range(3)] == STACK[:, 0, 0].tolist()
