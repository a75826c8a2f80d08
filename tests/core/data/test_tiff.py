import time

import imagecodecs
import numpy as np
import pytest
import tifffile
from layouts import write_huge_tiles

from transeg.core.data.images import read_binary_mask, read_image, read_size
from transeg.core.data.lru_cache import LRUCache
from transeg.core.data.tiff import open_tiff
from transeg.core.data.tiff_writing import write_tiff
from transeg.core.errors import DataError
from transeg.core.interfaces import Region

RNG = np.random.default_rng(0)
SIZE = (150, 203)
REGIONS = [
    Region(0, 0, *SIZE),
    Region(0, 0, 1, 1),
    Region(149, 202, 1, 1),
    Region(37, 60, 70, 100),
    Region(60, 0, 5, 203),
]
LAYOUTS = {
    "tiles": {"tile": (32, 48)},
    "compressed tiles": {"tile": (32, 48), "compression": "zlib", "predictor": True},
    "lzw": {"tile": (32, 48), "compression": "lzw"},
    "strips": {"rowsperstrip": 13},
    "compressed strips": {"rowsperstrip": 13, "compression": "zlib"},
    "one strip": {},
    "one compressed strip": {"compression": "zlib"},
    "big endian": {"byteorder": ">"},
    "big endian tiles": {"byteorder": ">", "tile": (32, 48)},
    "planes": {"planarconfig": "separate", "tile": (32, 48)},
    "planes in strips": {"planarconfig": "separate", "rowsperstrip": 13},
}


def pixels(dtype=np.uint8, channels=3):
    shape = (*SIZE, channels)
    return RNG.random(shape, dtype=np.float32) if dtype == np.float32 else RNG.integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_regions_are_parts_of_the_whole(tmp_path, layout, dtype):
    path = tmp_path / "a.tif"
    image = pixels(dtype)
    options = dict(LAYOUTS[layout])
    if options.get("predictor") and dtype == np.float32:
        options["predictor"] = 3
    planar = options.get("planarconfig") == "separate"
    tifffile.imwrite(path, np.moveaxis(image, 2, 0) if planar else image, photometric="rgb", **options)
    tiff = open_tiff(path)
    assert tiff.size == read_size(path) == SIZE
    for region in REGIONS:
        part = tiff.read(region)
        top, left, height, width = region
        assert part.dtype == dtype
        assert np.array_equal(part, image[top : top + height, left : left + width])
        assert np.array_equal(read_image(path, 3, region), read_image(path, 3)[top : top + height, left : left + width])


@pytest.mark.parametrize("photometric", ["rgb", "ycbcr"])
def test_jpeg_in_tiff(tmp_path, photometric):
    """As scanners write slides."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels(), photometric=photometric, tile=(64, 64), compression="jpeg")
    assert np.array_equal(open_tiff(path).read(REGIONS[3]), tifffile.imread(path)[37:107, 60:160])


def test_the_largest_level_of_a_pyramid_counts(tmp_path):
    path = tmp_path / "a.tif"
    image = pixels()
    with tifffile.TiffWriter(path) as file:
        file.write(image, subifds=1, tile=(32, 32), photometric="rgb")
        file.write(image[::2, ::2].copy(), subfiletype=1, tile=(32, 32), photometric="rgb")
    assert open_tiff(path).size == SIZE
    assert np.array_equal(open_tiff(path).read(REGIONS[3]), image[37:107, 60:160])


def test_what_cannot_be_read_in_parts_is_decoded(tmp_path):
    path = tmp_path / "stack.tif"
    image = pixels()
    tifffile.imwrite(path, np.moveaxis(image, 2, 0), imagej=True, metadata={"axes": "CYX"})
    assert open_tiff(path) is None
    assert read_size(path) == SIZE
    assert np.array_equal(read_image(path, 3, REGIONS[3]), image[37:107, 60:160])
    assert open_tiff(tmp_path / "none.tif") is None


def test_a_file_that_changes_is_read_anew(tmp_path):
    path = tmp_path / "a.tif"
    for value, size in ((1, (40, 40)), (2, (48, 40))):
        tifffile.imwrite(path, np.full(size, value, np.uint8), tile=(16, 16))
        assert open_tiff(path).size == size
        assert open_tiff(path).read(Region(0, 0, 1, 1)) == value


def test_a_damaged_tile_is_named(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels(), tile=(32, 48), compression="zlib", photometric="rgb")
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].dataoffsets[7]  # second row, third column
    data = bytearray(path.read_bytes())
    data[place : place + 50] = bytes(50)
    path.write_bytes(data)
    assert open_tiff(path).read(Region(0, 0, 10, 10)).shape == (10, 10, 3)
    with pytest.raises(DataError, match=r"a\.tif cannot be decoded at row 32, column 96: "):
        open_tiff(path).read(Region(30, 90, 10, 10))


@pytest.mark.parametrize(("layout", "said"), [("tiles", "the file is truncated"), ("one strip", "cannot be decoded")])
def test_a_truncated_file_is_named(tmp_path, layout, said):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels(), photometric="rgb", **LAYOUTS[layout])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=said):
        open_tiff(path).read(Region(149, 202, 1, 1))


def test_masks_are_cut_by_the_range_of_the_whole(tmp_path):
    """A corner with nothing but the noise of 0 in it is no foreground."""
    path = tmp_path / "mask.tif"
    mask = np.zeros(SIZE, np.uint8)
    mask[:20, :20] = 1
    mask[100:] = 255
    tifffile.imwrite(path, mask, tile=(32, 48))
    assert not read_binary_mask(path, Region(0, 0, 50, 50)).any()
    assert read_binary_mask(path, Region(90, 0, 20, 50)).sum() == 10 * 50
    tifffile.imwrite(path, (mask > 0).astype(np.uint8), tile=(32, 48), description="0 and 1")
    assert read_binary_mask(path, Region(0, 0, 50, 50)).sum() == 400


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("at_a_time", [1, 100, 256, 600])
def test_written_from_top_to_bottom(tmp_path, channels, at_a_time):
    image = RNG.integers(0, 256, (600, 300, channels), dtype=np.uint8)
    rows = (image[top : top + at_a_time] for top in range(0, 600, at_a_time))
    write_tiff(tmp_path / "deep" / "a.tif", rows, 600, 300, channels)
    assert np.array_equal(tifffile.imread(tmp_path / "deep" / "a.tif").reshape(image.shape), image)
    assert np.array_equal(open_tiff(tmp_path / "deep" / "a.tif").read(Region(255, 1, 3, 299)), image[255:258, 1:])


def test_nothing_stays_of_a_file_that_is_not_finished(tmp_path):
    def rows():
        yield np.zeros((300, 40, 1), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_tiff(tmp_path / "a.tif", rows(), 600, 40, 1)
    assert not list(tmp_path.iterdir())


def test_what_was_asked_for_longest_ago_makes_room():
    made = []
    recent = LRUCache(10, len)

    def ask(key):
        return recent.get(key, lambda: made.append(key) or key * 4)

    assert [ask(key) for key in "abac"] == ["aaaa", "bbbb", "aaaa", "cccc"]
    assert made == ["a", "b", "c"]  # and b had to go
    ask("a"), ask("b")
    assert made == ["a", "b", "c", "b"]
    assert recent.bytes == 8
    assert recent.get("large", lambda: "x" * 99) == "x" * 99
    assert recent.bytes == 99


@pytest.mark.parametrize("code", [imagecodecs.jpeg8_encode, imagecodecs.jpeg2k_encode])
def test_a_tile_that_says_it_is_huge_is_not_decoded(tmp_path, code):
    path = tmp_path / "a.tif"
    write_huge_tiles(path, code)
    begun = time.monotonic()
    for region in (None, Region(0, 3, 30, 30)):
        with pytest.raises(DataError, match="a tile says that it has 16384x16384 pixels, and 64x64 is the most"):
            read_image(path, 3, region)
    assert time.monotonic() - begun < 1


def test_what_only_looks_like_the_header_of_a_tile_is_no_size(tmp_path):
    tile = np.zeros((64, 64, 3), np.uint8)
    tile.reshape(-1)[:20] = np.frombuffer(bytes.fromhex("ffd8ffc000110840004000"), np.uint8).tolist() + [0] * 9
    tifffile.imwrite(tmp_path / "a.tif", tile, tile=(64, 64), photometric="rgb")
    assert (read_image(tmp_path / "a.tif", 3) == tile).all()
