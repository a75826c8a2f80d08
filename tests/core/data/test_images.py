import logging
import os
import subprocess
import sys
from functools import partial

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from transeg.core.data import images
from transeg.core.data.images import (
    read_binary_mask,
    read_grey,
    read_image,
    read_instances,
    read_label_map,
    read_size,
    read_unit_image,
    resize,
    resize_mask,
    unit_range,
    write_image,
)
from transeg.core.errors import DataError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (12, 17, 3), dtype=np.uint8)
GREY = COLOUR[:, :, 0]


@pytest.fixture(autouse=True)
def _forget_what_was_said():
    images._said.clear()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".ppm", ".webp"])
def test_colour_images_come_back_as_they_are(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(path, COLOUR, photometric="rgb")
    else:
        Image.fromarray(COLOUR).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    assert (read_image(path, 3) == COLOUR).all()


def test_jpeg_comes_back_nearly(tmp_path):
    smooth = np.repeat(np.linspace(0, 255, 32, dtype=np.uint8)[:, None, None], 3, 2).repeat(32, 1)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg", 3).astype(int) - smooth).max() < 12


def test_grey_in_a_colour_set_is_repeated_and_said_once(tmp_path, caplog):
    for name in "ab":
        Image.fromarray(GREY).save(tmp_path / f"{name}.png")
    with caplog.at_level(logging.WARNING):
        found = read_image(tmp_path / "a.png", 3)
        read_image(tmp_path / "b.png", 3)
    assert (found == GREY[:, :, None]).all()
    assert found.shape == (12, 17, 3)
    assert caplog.text.count("is grey in a set of colour images") == 1


def test_colour_in_a_grey_set_becomes_luminance(tmp_path, caplog):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    with caplog.at_level(logging.WARNING):
        found = read_image(tmp_path / "a.png", 1)
    assert (found[:, :, 0] == cv2.cvtColor(COLOUR, cv2.COLOR_RGB2GRAY)).all()
    assert "luminance" in caplog.text


@pytest.mark.parametrize(("mode", "channels"), [("RGBA", 3), ("LA", 1)])
def test_alpha_is_ignored_and_said(tmp_path, caplog, mode, channels):
    Image.fromarray(COLOUR).convert(mode).save(tmp_path / "a.png")
    with caplog.at_level(logging.WARNING):
        found = read_image(tmp_path / "a.png", channels)
    assert found.shape == (12, 17, channels)
    assert "alpha channel" in caplog.text


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_kept_and_said(tmp_path, caplog, suffix, channels):
    pixels = RNG.integers(0, 65536, (8, 9, channels), dtype=np.uint16)
    path = tmp_path / f"a{suffix}"
    if suffix == ".png":
        cv2.imwrite(str(path), pixels[:, :, ::-1] if channels == 3 else pixels[:, :, 0])
    else:
        tifffile.imwrite(path, pixels.squeeze(), photometric="rgb" if channels == 3 else "minisblack")
    with caplog.at_level(logging.WARNING):
        found = read_unit_image(path, channels)
    assert (found == pixels).all()
    assert "16 bits" in caplog.text
    assert unit_range(found).max() <= 1


def test_a_tiff_with_a_wrong_photometric_tag_is_read_right(tmp_path):
    """CVC-ClinicDB's TIFF files hold three samples but say that black is zero."""
    path = tmp_path / "1.tif"
    tifffile.imwrite(path, COLOUR, photometric="minisblack", planarconfig="contig")
    assert (read_image(path, 3) == COLOUR).all()


def test_many_channels_are_kept(tmp_path):
    pixels = RNG.integers(0, 256, (10, 11, 6), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", planarconfig="contig")
    assert (read_image(tmp_path / "a.tif", 6) == pixels).all()
    with pytest.raises(DataError, match=r"has 6 channels, not 3.*channels=6"):
        read_image(tmp_path / "a.tif", 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
def test_damaged_files_get_a_sentence(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    big = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    if suffix == ".tif":
        tifffile.imwrite(path, big, photometric="rgb")
    else:
        Image.fromarray(big).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"a\{suffix} cannot be decoded") as error:
        read_image(path, 3)
    assert error.value.file == str(path)


def test_a_png_takes_no_more_memory_than_its_chunks_have(tmp_path):
    """OpenCV makes room for what a chunk says: two gigabytes for a file of a hundred bytes."""
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    whole = path.read_bytes()
    end = whole.index(b"IDAT") - 4
    path.write_bytes(whole[:end] + (2**31 - 2).to_bytes(4) + b"tEXt" + whole[end:])
    script = (
        "import resource, sys\nfrom pathlib import Path\nfrom transeg.core.data.images import read_image\n"
        "read_image(Path(sys.argv[1]).with_name('whole.png'), 1)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    read_image(Path(sys.argv[1]), 1)\nexcept Exception as error:\n    print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000)"
    )
    path.with_name("whole.png").write_bytes(whole)
    said = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True).stdout
    assert said == f"{path} cannot be decoded: the file is truncated or damaged.\nTrue\n"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
def test_what_might_never_end_is_not_opened(tmp_path, suffix):
    pipe, device = tmp_path / f"pipe{suffix}", tmp_path / f"device{suffix}"
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    for path in (pipe, device):
        for read in (read_size, read_binary_mask, read_grey, partial(read_image, channels=3)):
            with pytest.raises(DataError, match=r"no regular file|stored as JPEG"):
                read(path)


def test_missing_files_get_a_sentence(tmp_path):
    with pytest.raises(DataError, match="There is no file"):
        read_image(tmp_path / "a.png", 3)


def test_the_sentence_survives_a_worker():
    """A data loader re-raises an exception with its traceback as the message."""
    message = (
        "Caught DataError in DataLoader worker process 0.\nOriginal Traceback ...\ntranseg.DataError: a.png is bad."
    )
    assert str(DataError(message)) == "a.png is bad."


def test_binary_masks_are_cut_at_half(tmp_path):
    values = np.full((64, 64), 255, dtype=np.uint8)
    values[:32] = 0
    values[[5, 6, 7, 40, 41, 42], 3] = [8, 112, 127, 128, 200, 247]
    Image.fromarray(values).save(tmp_path / "m.png")
    assert (read_binary_mask(tmp_path / "m.png") == (values > 127)).all()


def test_a_smeared_jpeg_mask_loses_no_pixel(tmp_path):
    truth = np.zeros((64, 64), dtype=np.uint8)
    truth[16:48, 16:48] = 255  # on the grid of JPEG's blocks, so that only rounding smears it
    Image.fromarray(np.repeat(truth[:, :, None], 3, 2)).save(tmp_path / "m.jpg", quality=75)
    assert (read_binary_mask(tmp_path / "m.jpg") == (truth > 0)).mean() > 0.999


@pytest.mark.parametrize(
    ("pixels", "mode"),
    [
        (np.array([[0, 1]], dtype=np.uint8), None),
        (np.array([[0, 65535]], dtype=np.uint16), None),
        (np.array([[False, True]]), None),
        (np.array([[0, 255]], dtype=np.uint8), "RGB"),
        (np.array([[0, 255]], dtype=np.uint8), "RGBA"),
        (np.array([[0, 255]], dtype=np.uint8), "LA"),
    ],
)
def test_masks_of_every_kind(tmp_path, pixels, mode):
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(tmp_path / "m.png")
    assert read_binary_mask(tmp_path / "m.png").tolist() == [[0, 1]]


def test_a_palette_counts_by_its_indices(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), mode="P")
    image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
    image.save(tmp_path / "m.png")
    assert read_label_map(tmp_path / "m.png", {0: 0, 1: 1, 2: 2}).tolist() == [[0, 1, 2]]


def test_label_values_become_classes(tmp_path):
    Image.fromarray(np.array([[0, 127, 255]], dtype=np.uint8)).save(tmp_path / "m.png")
    assert read_label_map(tmp_path / "m.png", {0: 0, 127: 1, 255: 2}).tolist() == [[0, 1, 2]]
    with pytest.raises(DataError, match=r"pixel values \[127\]"):
        read_label_map(tmp_path / "m.png", {0: 0, 255: 1})


def test_label_maps_in_jpeg_are_refused(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "m.jpg")
    with pytest.raises(DataError, match="stored as JPEG"):
        read_label_map(tmp_path / "m.jpg", {0: 0})


def test_resizing_keeps_labels_whole_and_means_right():
    mask = np.zeros((40, 60), dtype=np.uint8)
    mask[10:30, 10:40] = 3
    assert set(np.unique(resize_mask(mask, 17, 23))) == {0, 3}
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (8, 8))[:, :, None]
    assert np.abs(resize(stripes, 4, 8).astype(int) - 127).max() <= 1  # without area means it would alias
    assert resize(stripes, 8, 16) is stripes
    assert resize(stripes, 20, 40).shape == (20, 40, 1)
    many = RNG.integers(0, 256, (12, 17, 6), dtype=np.uint8)
    assert (resize(many, 5, 7)[:, :, 4:] == resize(many[:, :, 4:], 5, 7)).all()


@pytest.mark.parametrize("pixels", [GREY, COLOUR, GREY[:, :, None], GREY.astype(np.uint16) * 257])
def test_what_is_written_is_read(tmp_path, pixels):
    write_image(tmp_path / "deep" / "a.png", pixels)
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    found = read_image(tmp_path / "deep" / "a.png", channels)
    assert (found.squeeze() == pixels.squeeze()).all()


def test_instance_maps_keep_their_numbers(tmp_path, caplog):
    numbers = RNG.integers(0, 60000, (7, 9)).astype(np.uint16)
    Image.fromarray(numbers).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", numbers)
    for name in ("a.png", "a.tif"):
        found = read_instances(tmp_path / name)
        assert found.dtype == np.int32
        assert (found == numbers).all()
    Image.fromarray(GREY).convert("RGBA").save(tmp_path / "alpha.png")
    assert (read_instances(tmp_path / "alpha.png") == GREY).all()


@pytest.mark.parametrize(
    ("name", "write", "sentence"),
    [
        ("a.jpg", lambda path: Image.fromarray(GREY).save(path), "an instance map stored as JPEG"),
        ("a.png", lambda path: Image.fromarray(COLOUR).save(path), "is coloured, but an instance map"),
        (
            "a.tif",
            lambda path: tifffile.imwrite(path, GREY / np.float32(2)),
            "an instance map that has values of type float32",
        ),
    ],
)
def test_what_is_no_instance_map_is_said(tmp_path, name, write, sentence):
    write(tmp_path / name)
    with pytest.raises(DataError, match=sentence):
        read_instances(tmp_path / name)
