"""How large pixels are, as TIFF files of several programs say it."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from transeg.core.data.pixel_size_tags import pixel_size_tags, said_pixel_size
from transeg.core.data.tiff_writing import write_tiff

IMAGE = np.zeros((6, 8), np.uint8)
OME = {"PhysicalSizeX": 250.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5}
SAID = {
    "centimetres": ({"resolution": (40000, 20000), "resolutionunit": "CENTIMETER"}, (0.5, 0.25)),
    "inches": ({"resolution": (25400, 50800), "resolutionunit": "INCH"}, (0.5, 1.0)),
    "a screen": ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
    "no unit": ({"resolution": (3, 3), "resolutionunit": "NONE"}, None),
    "nothing": ({}, None),
    "none": ({"resolution": (0, 0), "resolutionunit": "CENTIMETER"}, None),
    "what cannot be": ({"resolution": (1, 4e9), "resolutionunit": "CENTIMETER"}, None),
    "ImageJ": ({"imagej": True, "resolution": (4, 2), "metadata": {"unit": "um"}}, (0.5, 0.25)),
    "ImageJ's micro": ({"imagej": True, "resolution": (4, 2), "metadata": {"unit": "\\u00B5m"}}, (0.5, 0.25)),
    "ImageJ without": ({"imagej": True, "resolution": (4, 2), "metadata": {"unit": "pixel"}}, None),
    "OME": ({"ome": True, "metadata": {"axes": "YX", **OME}}, (0.5, 0.25)),
    "OME's own unit": ({"ome": True, "metadata": {"axes": "YX", **OME, "PhysicalSizeXUnit": "reference frame"}}, None),
    "OME by resolution": ({"ome": True, "resolution": (40000, 20000), "resolutionunit": 3}, (0.5, 0.25)),
    "turned": (
        {"resolution": (40000, 20000), "resolutionunit": "CENTIMETER", "extratags": [(274, "H", 1, 6, True)]},
        (0.25, 0.5),
    ),
}


@pytest.mark.parametrize("kind", SAID)
def test_what_files_say(tmp_path, kind):
    options, expected = SAID[kind]
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, photometric="minisblack", **options)
    found = said_pixel_size(tmp_path / "a.tif")
    assert found == (expected and pytest.approx(expected))


def test_other_and_damaged_files_say_nothing(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png", dpi=(300, 300))
    (tmp_path / "a.tif").write_bytes(b"II*\0\xff\xff\xff\xff")
    assert said_pixel_size(tmp_path / "a.png") is said_pixel_size(tmp_path / "a.tif") is None
    assert said_pixel_size(tmp_path / "missing.tif") is None


@pytest.mark.parametrize("size", [(0.5, 0.25), (0.137, 1234.5), (3e-4, 3e-4)])
def test_what_is_written_is_read(tmp_path, size):
    write_tiff(tmp_path / "a.tif", iter([IMAGE[:, :, None]]), 6, 8, 1, size)
    assert said_pixel_size(tmp_path / "a.tif") == pytest.approx(size, rel=1e-6)


@pytest.mark.parametrize("size", [None, (1e-9, 1.0), (1.0, 1e12)])
def test_what_no_tag_can_say_is_left_out(size):
    assert pixel_size_tags(size) == {}
