"""Pixels are what their file says: how it lies, in which colours, and which of its values are black and white."""

import io
import logging

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from transeg.core.data import images
from transeg.core.data.decoding import count_pages, decode
from transeg.core.data.images import read_binary_mask, read_image, read_label_map, read_size, read_unit_image
from transeg.core.data.tiff import open_tiff, said_range
from transeg.core.errors import DataError
from transeg.core.interfaces import Region

RNG = np.random.default_rng(0)
SMOOTH = np.stack([np.add.outer(np.arange(16) * a, np.arange(24) * b) for a, b in ((9, 4), (2, 8), (12, 1))], 2).astype(
    np.uint8
)
GREY = SMOOTH[:, :, 0]
MASK = np.zeros((16, 24), np.uint8)
MASK[2:7, 3:20] = 1


@pytest.fixture(autouse=True)
def _forget_what_was_said():
    images._said.clear()


def exif(orientation):
    said = Image.Exif()
    said[0x0112] = orientation
    return said


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".tif"])
def test_images_come_upright(tmp_path, suffix, orientation):
    path = tmp_path / f"a{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(path, SMOOTH, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    else:
        Image.fromarray(SMOOTH).save(
            path, exif=exif(orientation), **{".jpg": {"quality": 95}, ".webp": {"lossless": True}}.get(suffix, {})
        )
    stored = Image.fromarray(SMOOTH)
    stored.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(stored)).astype(int)
    found = read_image(path, 3)
    assert np.abs(found - upright).max() <= (12 if suffix == ".jpg" else 0)
    assert read_size(path) == upright.shape[:2]
    region = Region(3, 2, 7, 9)
    assert np.array_equal(read_image(path, 3, region), found[3:10, 2:11])
    assert (open_tiff(path) is not None) == (suffix == ".tif" and orientation == 1)


def test_an_orientation_after_the_pixels_of_a_png_counts(tmp_path):
    """The chunk may come anywhere, and Pillow sees it only once the image is loaded."""
    buffer = io.BytesIO()
    Image.fromarray(SMOOTH).save(buffer, "PNG", exif=exif(6))
    data = buffer.getvalue()
    start = data.index(b"eXIf") - 4
    chunk = data[start : start + 12 + int.from_bytes(data[start : start + 4])]
    end = data.index(b"IEND") - 4
    (tmp_path / "a.png").write_bytes(data[:start] + data[start + len(chunk) : end] + chunk + data[end:])
    assert read_size(tmp_path / "a.png") == (24, 16)
    assert np.array_equal(read_image(tmp_path / "a.png", 3), np.rot90(SMOOTH, -1))


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
@pytest.mark.parametrize("profile", [None, "sRGB"])
def test_inks_become_colours(tmp_path, suffix, profile):
    path = tmp_path / f"a{suffix}"
    if profile is None:
        Image.fromarray(SMOOTH).convert("CMYK").save(path, **({"quality": 98} if suffix == ".jpg" else {}))
        assert np.abs(read_image(path, 3).astype(int) - SMOOTH).max() < 20
        return
    wrong = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(SMOOTH).convert("CMYK").save(path, icc_profile=wrong)
    with pytest.raises(DataError, match="is in CMYK with a colour profile that cannot be used; save it as RGB"):
        read_image(path, 3)


def test_lab_becomes_colours(tmp_path):
    made = ImageCms.profileToProfile(
        Image.fromarray(SMOOTH), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    made.save(tmp_path / "a.tif")
    assert np.abs(read_image(tmp_path / "a.tif", 3).astype(int) - SMOOTH).max() < 8
    tifffile.imwrite(tmp_path / "b.tif", SMOOTH.astype(np.uint16), photometric="cielab", planarconfig="contig")
    with pytest.raises(DataError, match="is in LAB with 3 channels of type uint16; save it as RGB"):
        read_image(tmp_path / "b.tif", 3)


def test_luma_and_chroma_become_colours(tmp_path):
    Image.fromarray(SMOOTH).convert("YCbCr").save(tmp_path / "a.tif")
    assert np.abs(read_image(tmp_path / "a.tif", 3).astype(int) - SMOOTH).max() < 4


def test_what_is_no_colour_is_refused_by_name(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="cfa", extratags=[(33421, 3, 2, (2, 2), True)])
    with pytest.raises(DataError, match=r"colours that are not read \(photometric CFA\); save it as RGB"):
        read_image(tmp_path / "a.tif", 1)


@pytest.mark.parametrize("suffix", [".bmp", ".gif", ".png", ".tif"])
def test_palettes_are_colours_of_images_and_indices_of_masks(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    image = Image.fromarray(SMOOTH).quantize(16)
    image.save(path)
    assert np.array_equal(read_image(path, 3), np.asarray(image.convert("RGB")))
    numbers = np.where(MASK, 2, 1).astype(np.uint8)
    numbers[0, 0] = 0
    labels = Image.fromarray(numbers, mode="P")
    labels.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
    labels.save(path)
    assert np.array_equal(read_label_map(path, {0: 0, 1: 1, 2: 2}), numbers)


@pytest.mark.parametrize("suffix", [".bmp", ".gif", ".png", ".tif"])
@pytest.mark.parametrize("white_first", [False, True])
def test_a_palette_of_black_and_white_counts_by_its_colours(tmp_path, suffix, white_first):
    path = tmp_path / f"m{suffix}"
    image = Image.fromarray(1 - MASK if white_first else MASK, mode="P")
    image.putpalette([255, 255, 255, 0, 0, 0] if white_first else [0, 0, 0, 255, 255, 255])
    image.save(path)
    assert np.array_equal(read_binary_mask(path), MASK)
    if suffix in (".png", ".bmp"):  # the other formats fill palettes up
        assert np.array_equal(read_label_map(path, {0: 0, 1: 1}), MASK)
        assert np.array_equal(read_label_map(path, {0: 0, 255: 1}), MASK)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16])
def test_white_may_be_zero(tmp_path, dtype):
    path, top = tmp_path / "a.tif", 1 if dtype is bool else np.iinfo(dtype).max
    values = (top - MASK.astype(int) * top).astype(dtype)
    tifffile.imwrite(path, values, photometric="miniswhite", software="another")
    assert np.array_equal(read_binary_mask(path), MASK)
    assert np.array_equal(read_binary_mask(path, Region(1, 2, 5, 6)), MASK[1:6, 2:8])
    assert np.array_equal(read_image(path, 1)[:, :, 0] > 0, MASK > 0)
    tifffile.imwrite(path, np.zeros((4, 5), np.float32), photometric="miniswhite")
    with pytest.raises(DataError, match="says that 0 is white, of values of type float32; invert it"):
        read_image(path, 1)


def test_truth_values_that_tifffile_wrote_are_not_turned_over(tmp_path):
    """It says of them that 0 is white, and reads them as they were."""
    tifffile.imwrite(tmp_path / "m.tif", MASK > 0)
    assert tifffile.TiffFile(tmp_path / "m.tif").pages[0].photometric == 0
    assert np.array_equal(read_binary_mask(tmp_path / "m.tif"), MASK)


STACK = np.stack([GREY, GREY + 1, GREY + 2])


@pytest.mark.parametrize(
    "options",
    [
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"metadata": {"axes": "TYX"}, "ome": True},
        {"photometric": "minisblack"},
    ],
    ids=["imagej", "ome", "plain"],
)
def test_pages_are_no_channels(tmp_path, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, **options)
    assert count_pages(path) == 3
    for read in (lambda: read_image(path, 3), lambda: read_image(path, 1), lambda: read_binary_mask(path)):
        with pytest.raises(DataError, match=r"holds 3 pages, a stack or time series .axes .*page=NUMBER"):
            read()
    for page in range(3):
        assert np.array_equal(read_image(path, 1, page=page)[:, :, 0], STACK[page])
    with pytest.raises(DataError, match="has 3 pages, so there is no page 3"):
        read_image(path, 1, page=3)


def test_pages_of_several_sizes_count_but_thumbnails_do_not(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GREY), file.write(np.tile(GREY, (2, 1)))
    with pytest.raises(DataError, match="holds 2 pages"):
        read_image(tmp_path / "a.tif", 1)
    with tifffile.TiffWriter(tmp_path / "b.tif") as file:
        file.write(GREY), file.write(GREY[::2, ::2])
    assert np.array_equal(read_image(tmp_path / "b.tif", 1)[:, :, 0], GREY)


def test_declared_channels_are_channels_and_planes_lie_by_their_tags(tmp_path):
    tifffile.imwrite(tmp_path / "c.tif", STACK, imagej=True, metadata={"axes": "CYX"})
    assert np.array_equal(read_image(tmp_path / "c.tif", 3), np.moveaxis(STACK, 0, 2))
    tifffile.imwrite(tmp_path / "zc.tif", np.stack([STACK[:2], STACK[1:]]), imagej=True, metadata={"axes": "ZCYX"})
    assert np.array_equal(read_image(tmp_path / "zc.tif", 2, page=1), np.moveaxis(STACK[1:], 0, 2))
    low = RNG.integers(0, 256, (3, 500, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "low.tif", low, photometric="rgb", planarconfig="contig")
    assert np.array_equal(read_image(tmp_path / "low.tif", 3), low)
    tifffile.imwrite(tmp_path / "planes.tif", np.moveaxis(low, 2, 0), photometric="rgb", planarconfig="separate")
    assert np.array_equal(read_image(tmp_path / "planes.tif", 3), low)


def test_frames_are_the_first_or_a_chosen_one(tmp_path, caplog):
    frames = [Image.fromarray(page) for page in STACK * 40]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(read_image(tmp_path / "a.gif", 1)[:, :, 0], STACK[0] * 40)
    assert "has several frames, of which the first is taken" in caplog.text
    assert count_pages(tmp_path / "a.gif") == 3
    assert np.array_equal(read_image(tmp_path / "a.gif", 1, page=2)[:, :, 0], STACK[2] * 40)


def test_jpeg_2000_is_read(tmp_path):
    Image.fromarray(SMOOTH).save(tmp_path / "a.jp2", irreversible=False)
    assert np.array_equal(read_image(tmp_path / "a.jp2", 3), SMOOTH)
    assert read_size(tmp_path / "a.jp2") == (16, 24)


def test_sixteen_bits_of_a_pgm_are_sixteen_bits(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5\n24 16\n65535\n" + (GREY.astype(np.uint16) * 100).astype(">u2").tobytes())
    found = read_image(tmp_path / "a.pgm", 1)
    assert found.dtype == np.uint16
    assert np.array_equal(found[:, :, 0], GREY.astype(np.uint16) * 100)


@pytest.mark.parametrize(("form", "suffix"), [("JPEG", ".png"), ("PNG", ".tif"), ("TIFF", ".jpg"), ("BMP", ".png")])
def test_what_a_file_is_decides_not_its_ending(tmp_path, form, suffix):
    Image.fromarray(SMOOTH).save(tmp_path / f"a{suffix}", form)
    assert np.abs(read_image(tmp_path / f"a{suffix}", 3).astype(int) - SMOOTH).max() < 20
    assert read_size(tmp_path / f"a{suffix}") == (16, 24)
    if form == "JPEG":
        with pytest.raises(DataError, match="stored as JPEG"):
            read_label_map(tmp_path / f"a{suffix}", {0: 0})


@pytest.mark.parametrize("declared", [True, False])
def test_alpha_is_what_the_file_declares(tmp_path, declared):
    four = np.dstack([SMOOTH, GREY])
    options = {"photometric": "rgb", "extrasamples": ["unassalpha"]} if declared else {"photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "a.tif", four, planarconfig="contig", **options)
    assert np.array_equal(read_image(tmp_path / "a.tif", 4), four)
    if declared:
        assert np.array_equal(read_image(tmp_path / "a.tif", 3), SMOOTH)
    else:
        with pytest.raises(DataError, match="has 4 channels, not 3"):
            read_image(tmp_path / "a.tif", 3)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_mask_may_live_in_its_alpha_channel(tmp_path, suffix):
    path = tmp_path / f"m{suffix}"
    painted = np.dstack([np.full_like(MASK, 255)] * 3 + [MASK * 255])
    Image.fromarray(painted).save(path)
    assert np.array_equal(read_binary_mask(path), MASK)
    assert np.array_equal(read_binary_mask(path, Region(1, 2, 5, 6)), MASK[1:6, 2:8])
    assert np.array_equal(read_label_map(path, {0: 0, 255: 1}), MASK)


def test_a_depth_of_bits_is_a_range_and_an_images_own_extremes_are_not(tmp_path, caplog):
    twelve = (GREY.astype(np.uint16) * 16)[:, :, None]
    for name, largest in (("deep", 4095), ("own", 3817)):
        tifffile.imwrite(
            tmp_path / f"{name}.tif", twelve[:, :, 0], extratags=[(340, 3, 1, 0, True), (341, 3, 1, largest, True)]
        )
    assert said_range(tmp_path / "deep.tif") == (0, 4095)
    assert np.allclose(read_unit_image(tmp_path / "deep.tif", 1), twelve / 4095)
    part = read_unit_image(tmp_path / "deep.tif", 1, Region(1, 2, 3, 4))
    assert np.allclose(part, twelve[1:4, 2:6] / 4095)
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(read_unit_image(tmp_path / "own.tif", 1), twelve)
    assert "from 0 to 3817, which is no depth of bits" in caplog.text
    assert "range=[0,4095]" in caplog.text


def test_floats_have_the_range_that_is_given_or_none(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY.astype(np.float32))
    assert np.array_equal(read_image(path, 1)[:, :, 0], GREY)
    with pytest.raises(
        DataError, match=r"a\.tif has values of type float32 from 0 to \d+, outside of the range 0 to 1"
    ):
        read_unit_image(path, 1)
    assert np.allclose(read_unit_image(path, 1, range_=(0, 255))[:, :, 0], GREY / 255)
    overshot = np.linspace(-0.1, 1.1, 12, dtype=np.float32).reshape(3, 4)
    tifffile.imwrite(path, overshot)
    assert np.allclose(read_unit_image(path, 1)[:, :, 0], overshot.clip(0, 1))
    for value in (np.nan, np.inf):
        tifffile.imwrite(path, np.array([[0, value]], np.float32))
        with pytest.raises(DataError, match=r"a\.tif has 1 values that are not finite"):
            read_unit_image(path, 1)


def test_a_range_holds_for_images_of_its_kind_alone(tmp_path):
    """A run that scaled 12 bits is shown 8 bits, or floats that are scaled already."""
    Image.fromarray(GREY).save(tmp_path / "a.png")
    assert np.array_equal(read_unit_image(tmp_path / "a.png", 1, range_=(0, 4095))[:, :, 0], GREY)
    tifffile.imwrite(tmp_path / "a.tif", (GREY / 255).astype(np.float32))
    assert np.allclose(read_unit_image(tmp_path / "a.tif", 1, range_=(0, 4095))[:, :, 0], GREY / 255)
    cv2.imwrite(str(tmp_path / "b.png"), GREY.astype(np.uint16) * 16)
    assert np.allclose(read_unit_image(tmp_path / "b.png", 1, range_=(0, 4095))[:, :, 0], GREY * 16.0 / 4095)


def test_other_files_that_a_file_names_are_not_opened(tmp_path):
    """OME-TIFF may spread one image over files anywhere on this machine."""
    part = '<TiffData IFD="0" FirstZ="{}"><UUID FileName="{}">urn:uuid:{}</UUID></TiffData>'
    said = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="24" SizeY="16" SizeC="1" SizeZ="2" SizeT="1">'
        '<Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
        f"{part.format(0, 'a.ome.tif', 1)}{part.format(1, 'other.tif', 2)}</Pixels></Image></OME>"
    )
    tifffile.imwrite(tmp_path / "a.ome.tif", GREY, description=said, metadata=None)
    tifffile.imwrite(tmp_path / "other.tif", 255 - GREY)
    assert count_pages(tmp_path / "a.ome.tif") == 1
    assert np.array_equal(decode(tmp_path / "a.ome.tif").pixels[:, :, 0], GREY)
