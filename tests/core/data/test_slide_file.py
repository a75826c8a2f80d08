import os
import pickle
import time

import imagecodecs
import numpy as np
import pytest
import tifffile
from layouts import SECRET, shrunk, tissue_slide, write_huge_tiles, write_pyramid, write_slide

from transeg.core.data import slide_file
from transeg.core.data.images import resize
from transeg.core.data.slide_file import SlideView, cut_squares, holds_pyramid, open_slide, slide_stem
from transeg.core.data.tissue_map import map_tissue
from transeg.core.errors import DataError, UsageError
from transeg.core.interfaces import Region

ADVICE = "do this"


def opened(path):
    return open_slide(path, "This")


@pytest.fixture
def noise(tmp_path):
    """A pyramid without loss, of 1, 2 and 4, and its finest level."""
    image = np.random.default_rng(0).integers(0, 256, (300, 416, 3), dtype=np.uint8)
    write_pyramid(tmp_path / "noise.tif", image)
    return opened(tmp_path / "noise.tif"), image


def test_levels_and_pixel_sizes_are_what_scanners_say(tmp_path):
    image = tissue_slide()[0]
    write_slide(tmp_path / "a.svs", image, mpp=0.2527)
    write_pyramid(tmp_path / "b.tif", image, mpp=0.5)
    scanned, generic = opened(tmp_path / "a.svs"), opened(tmp_path / "b.tif")
    assert scanned.levels == ((256, 320), (64, 80))
    assert scanned.pixel_size == (0.2527, 0.2527)
    assert generic.levels == ((256, 320), (128, 160), (64, 80))
    assert generic.pixel_size == pytest.approx((0.5, 0.5))
    assert np.abs(scanned.view((1, 1)).read_all().astype(int) - image).mean() < 4  # JPEG
    assert (generic.view((1, 1)).read_all() == image).all()
    for path, others in ((tmp_path / "a.svs", True), (tmp_path / "b.tif", True), (tmp_path / "c.tif", False)):
        if not path.exists():
            tifffile.imwrite(path, image, tile=(64, 64), photometric="rgb")
        assert holds_pyramid(path, "This") == others


@pytest.mark.parametrize(
    "kept",
    [{"compression": "jpeg2000"}, {"compression": "lzw"}, {}, {"ome": True, "metadata": {"axes": "CYX"}}],
    ids=str,
)
def test_tiles_may_be_stored_in_many_ways(tmp_path, kept):
    image = tissue_slide()[0]
    given = (image.transpose(2, 0, 1), "minisblack") if "ome" in kept else (image, "rgb")
    tifffile.imwrite(tmp_path / "a.tif", given[0], tile=(64, 64), photometric=given[1], **kept)
    assert (opened(tmp_path / "a.tif").view((1, 1)).read(Region(30, 50, 100, 120)) == image[30:130, 50:170]).all()


@pytest.mark.parametrize("resolution", [72, 300, 0])
def test_what_printers_say_is_no_pixel_size(tmp_path, resolution):
    tifffile.imwrite(
        tmp_path / "a.tif",
        tissue_slide()[0],
        tile=(64, 64),
        photometric="rgb",
        resolution=(resolution, resolution),
        resolutionunit="INCH",
    )
    assert opened(tmp_path / "a.tif").pixel_size is None


def test_the_nearest_finer_level_is_read(noise):
    slide, image = noise
    assert [slide.view((f, f)).level for f in (2, 1, 0.9, 0.5, 0.496, 0.45, 0.25, 0.1)] == [0, 0, 0, 1, 1, 1, 2, 2]
    for step in (1, 2, 4):
        assert (slide.view((1 / step,) * 2).read_all() == shrunk(image, step)).all()


def test_pixels_are_means_of_what_they_cover(noise):
    slide, image = noise
    by_hand = shrunk(image[:300, :414], 3).astype(int)
    view = slide.view((100 / 300, 138 / 414))
    assert view.size == (100, 139)
    assert np.abs(SlideView(slide, (100, 416)).read_all().astype(int) - resize(image, 100, 416)).max() <= 1
    found = SlideView(slide, (60, 64)).read_all()  # level of 2, by 2.5 and 3.25
    assert found.mean() == pytest.approx(image.mean(), abs=0.5)
    rows = image.reshape(300, 416 * 3)
    exact = np.stack([rows[3 * n : 3 * n + 3].mean(axis=0) for n in range(100)]).reshape(100, 416, 3)
    assert np.abs(SlideView(slide, (100, 416)).read_all() - exact).max() <= 0.51
    assert by_hand.shape == (100, 138, 3)


def test_a_slide_is_enlarged_as_images_are(noise):
    slide, image = noise
    found = slide.view((2, 2)).read_all().astype(int)
    assert np.abs(found - resize(image, 600, 832)).max() <= 1


@pytest.mark.parametrize("size", [(300, 416), (211, 290), (77, 107), (600, 832), (20, 28)])
def test_parts_that_meet_are_those_of_the_whole(noise, size, monkeypatch):
    view = SlideView(noise[0], size)
    whole = view.read_all()
    for top, left, height, width in ((0, 0, 7, 9), (11, 3, 9, 20), (size[0] - 5, size[1] - 8, 5, 8)):
        part = view.read(Region(top, left, height, width))
        assert (part == whole[top : top + height, left : left + width]).all()
    monkeypatch.setattr(slide_file, "BLOCK", 900)
    assert (view.read_all() == whole).all()


def test_squares_cover_a_slide_once_but_for_the_last():
    for size in ((100, 100), (64, 200), (10, 10), (129, 64)):
        covered = np.zeros(size, int)
        for square in cut_squares(size, 64):
            assert (square.height, square.width) == (min(64, size[0]), min(64, size[1]))
            covered[square.top : square.top + square.height, square.left : square.left + square.width] += 1
        assert covered.min() == 1
        assert (covered[: size[0] // 64 * 64 - 64, : size[1] // 64 * 64 - 64] == 1).all()


def test_what_cannot_be_scaled_is_said(tmp_path):
    write_slide(tmp_path / "a.svs", tissue_slide()[0], mpp=None)
    slide = opened(tmp_path / "a.svs")
    assert slide.pixel_size is None
    assert slide.scale_to(None, ADVICE) == (1, 1)
    with pytest.raises(DataError, match=r"a.svs does not say how large its pixels are, .* 0.5 micro.*; do this\."):
        slide.scale_to(0.5, ADVICE)
    assert slide.with_pixel_size((0.25, 0.5)).scale_to(0.5, ADVICE) == (0.5, 1)
    with pytest.raises(DataError, match=r"scanned at 0.5 micrometres a pixel, too coarsely to be read at 0.1"):
        slide.with_pixel_size((0.5, 0.5)).scale_to(0.1, ADVICE)


def test_tissue_is_what_is_coloured(tmp_path):
    image, _ = tissue_slide()
    truth = (image.max(axis=2).astype(int) - image.min(axis=2)) > 20
    image[:40], image[-30:] = 3, (128, 130, 128)  # what was not scanned, and the edge of the glass
    write_slide(tmp_path / "a.svs", image)
    found = map_tissue(opened(tmp_path / "a.svs"))
    assert (found.found[45:-35] >= truth[45:-35]).mean() > 0.999
    assert (found.found != truth).mean() < 0.05
    assert not found.found[:30].any()
    assert found.share(Region(32, 40, 64, 80), (128, 160)) > 0.8
    assert found.share(Region(0, 0, 20, 20), (128, 160)) == 0
    assert (found.within(Region(10, 20, 30, 40), (256, 320)) == found.found[10:40, 20:60]).all()
    for name, grey in (("glass", (243, 240, 238)), ("black", (0, 0, 0))):
        noisy = np.random.default_rng(0).integers(-2, 3, (200, 200, 3)) + grey
        write_pyramid(tmp_path / f"{name}.tif", noisy.clip(0, 255).astype(np.uint8))
        assert not map_tissue(opened(tmp_path / f"{name}.tif")).found.any()


def test_label_and_macro_pictures_are_never_decoded(tmp_path, monkeypatch):
    write_slide(tmp_path / "a.svs", tissue_slide()[0])
    decoded = []
    keep = tifffile.TiffPage.asarray
    monkeypatch.setattr(tifffile.TiffPage, "asarray", lambda page, *a, **k: decoded.append(page) or keep(page, *a, **k))
    slide = opened(tmp_path / "a.svs")
    for scale in (2, 1, 0.5, 0.25, 0.05):
        pixels = slide.view((scale, scale)).read_all()
        assert (np.abs(pixels.astype(int) - SECRET).sum(axis=2) > 60).all()
    map_tissue(slide)
    assert not decoded  # tiles of levels are decoded one by one


def test_a_picture_of_other_shape_is_no_level(tmp_path):
    image = tissue_slide()[0]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        kept = {"tile": (64, 64), "photometric": "rgb", "metadata": None}
        file.write(image, subifds=2, **kept)
        file.write(shrunk(image, 2), subfiletype=1, **kept)
        file.write(np.full((64, 60, 3), SECRET, np.uint8), subfiletype=1, **kept)
    slide = opened(tmp_path / "a.tif")
    assert slide.levels == ((256, 320), (128, 160))


def test_processes_read_side_by_side(tmp_path):
    """A place in a file that forked processes share would move under them."""
    image = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    write_pyramid(tmp_path / "a.tif", image)
    slide = opened(tmp_path / "a.tif")
    slide.read_level(0, Region(0, 0, 9, 9))
    children = []
    for number in range(3):
        if (child := os.fork()) == 0:
            same = all(
                (slide.read_level(0, Region(top, number, 64, 64)) == image[top : top + 64, number : number + 64]).all()
                for top in range(0, 448, 16)
            )
            os._exit(0 if same else 1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert pickle.loads(pickle.dumps(slide)) == slide


def damaged(root):
    """Hostile files, and what is said of each."""
    image = tissue_slide()[0]
    write_slide(root / "whole.svs", image)
    content = (root / "whole.svs").read_bytes()
    for name, part in (("empty.svs", b""), ("text.svs", b"nothing"), ("head.svs", content[:100])):
        (root / name).write_bytes(part)
        yield name, "is no slide that tiffslide reads, or is cut off or damaged"
    (root / "half.svs").write_bytes(content[: len(content) // 2])
    yield "half.svs", "is cut off: tiles are missing"
    tifffile.imwrite(root / "grey.tif", image[:, :, 0], tile=(64, 64))
    yield "grey.tif", "slides are read in RGB of 8 bits"
    tifffile.imwrite(root / "deep.tif", image.astype(np.uint16), tile=(64, 64), photometric="rgb")
    yield "deep.tif", "slides are read in RGB of 8 bits"
    tifffile.imwrite(root / "stack.tif", np.stack([image] * 3), tile=(64, 64), photometric="rgb")
    yield "stack.tif", "is no slide that tiffslide reads"
    for name, tags in (
        ("wide.tif", {"ImageWidth": 2**31 - 1, "ImageLength": 2**31 - 1}),
        ("sparse.tif", {"ImageWidth": 400_000, "ImageLength": 400_000}),
        ("tile.tif", {"TileWidth": 2**20, "TileLength": 2**20}),
    ):
        write_pyramid(root / name, image, levels=1)
        with tifffile.TiffFile(root / name, mode="r+b") as file:
            for tag, value in tags.items():
                file.pages[0].tags[tag].overwrite(value)
    yield "wide.tif", "claims to have 2147483647x2147483647 pixels"
    yield "sparse.tif", "is cut off: tiles are missing"
    yield "tile.tif", "too large to be read in parts"
    (root / "folder.svs").mkdir()
    yield "folder.svs", "is no regular file"


def test_bad_files_get_a_sentence_that_repeats_nothing_of_them(tmp_path, caplog):
    begun = time.monotonic()
    for name, clause in damaged(tmp_path):
        with pytest.raises(DataError, match=name) as said:
            opened(tmp_path / name)
        assert clause in str(said.value)
        assert "DOE" not in str(said.value)
    assert time.monotonic() - begun < 10
    assert not caplog.records


def test_damaged_files_of_any_kind_get_a_sentence(tmp_path, caplog):
    """Bytes anywhere in a file are changed, or it ends there: it is read, or refused."""
    write_slide(tmp_path / "whole.svs", tissue_slide(128, 160)[0])
    write_pyramid(tmp_path / "whole.tif", tissue_slide(128, 160)[0])
    random = np.random.default_rng(0)
    refused = {}
    for number in range(60):
        whole = tmp_path / ("whole.svs", "whole.tif")[number % 2]
        content = bytearray(whole.read_bytes())
        places = random.integers(0, len(content), 12)
        for place in places if number % 3 else places // 40:  # the first tags, too
            content[place] = random.integers(0, 256)
        path = tmp_path / f"{number}{whole.suffix}"
        path.write_bytes(content[: random.integers(1, len(content))] if number % 5 == 0 else content)
        try:
            slide = opened(path)
            slide.view((0.4, 0.4)).read(Region(0, 0, 20, 20))
            slide.view((1, 1)).read(Region(*(max(0, side - 9) for side in slide.size), 5, 5))
        except DataError as error:
            refused[path.name] = str(error)
    assert len(refused) > 10
    assert all(name in said and "DOE" not in said for name, said in refused.items())
    assert not caplog.records


@pytest.mark.parametrize("code", [imagecodecs.jpeg8_encode, imagecodecs.jpeg2k_encode])
def test_a_tile_that_says_it_is_huge_is_not_decoded(tmp_path, code):
    write_huge_tiles(tmp_path / "a.tif", code)
    slide, begun = opened(tmp_path / "a.tif"), time.monotonic()
    with pytest.raises(DataError, match=r"a.tif is cut off or damaged at row 0, column 3 of level 0"):
        slide.read_level(0, Region(0, 3, 30, 30))
    assert time.monotonic() - begun < 1


def test_another_file_of_the_name_is_another_slide(tmp_path):
    write_pyramid(tmp_path / "a.tif", tissue_slide()[0])
    before = opened(tmp_path / "a.tif")
    write_pyramid(tmp_path / "a.tif", tissue_slide(128, 128)[0])
    assert opened(tmp_path / "a.tif") != before
    (tmp_path / "a.tif").unlink()
    with pytest.raises(DataError, match=r"a.tif cannot be opened any more|is cut off or damaged"):
        before.read_level(0, Region(200, 200, 9, 9))


def test_names_of_slides():
    assert slide_stem(slide_file.Path("a/b.c.svs")) == "b.c"
    assert slide_stem(slide_file.Path("a/b.ome.tif")) == "b"


def test_it_says_what_is_missing(tmp_path, monkeypatch):
    write_slide(tmp_path / "a.svs", tissue_slide()[0])
    monkeypatch.setattr("transeg.core.optional_packages.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"This needs tiffslide.*pip install 'transeg\[slides\]'"):
        opened(tmp_path / "a.svs")
