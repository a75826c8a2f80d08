"""Masks written as polygons, and read again as labels."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import roifile
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from layouts import pixels, save
from PIL import Image
from pycocotools import mask as coco_masks

from transeg.core.analysis.counting import Counting
from transeg.core.data.pixel_size_tags import said_pixel_size
from transeg.core.errors import UsageError
from transeg.core.inference.polygon_files import FORMATS, polygon_documents
from transeg.core.inference.predicted_objects import predicted_objects
from transeg.core.registry import Registry

REGISTRY = Registry()
NAMES = ("background", "gland", "nucleus", "vessel")
DATA = os.environ.get("TRANSEG_TEST_DATA")
"""A folder of public datasets, where there is one."""
SIZES = st.tuples(st.integers(1, 14), st.integers(1, 14))
MASKS = st.lists(
    st.one_of(
        arrays(np.uint8, SIZES, elements=st.integers(0, 3)),  # hardly two pixels alike beside each other
        arrays(np.uint8, SIZES, elements=st.sampled_from([0, 0, 0, 2])).map(lambda mask: mask.repeat(2, 0)),
        arrays(np.uint8, SIZES, elements=st.sampled_from([1, 1, 1, 1, 0, 3])),  # holes, some with others inside
    ),
    min_size=1,
    max_size=3,
)


def probabilities(mask):
    return np.random.default_rng(0).random((len(NAMES) - 1, *mask.shape), dtype=np.float32)


def write(root, kind, masks):
    """A folder with images and what was predicted on them, as a user puts it there."""
    files = [root / "images" / f"{index:03}.png" for index in range(len(masks))]
    for file, mask in zip(files, masks, strict=True):
        save(file, pixels(0, *mask.shape))
    with polygon_documents(kind, root, NAMES, files) as documents:
        for file, mask in zip(files, masks, strict=True):
            for path, content in documents(
                file, mask.shape, list(predicted_objects(mask, probabilities(mask)))
            ).items():
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)


def read(root, kind):
    dataset = REGISTRY.load(REGISTRY.find("dataset", kind))(root, "all", classes=NAMES)
    assert not list(dataset.faults)
    return [dataset[index] for index in range(len(dataset))]


@pytest.mark.parametrize("kind", FORMATS)
@given(masks=MASKS)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_masks_come_back_as_they_were(tmp_path_factory, kind, masks):
    root = tmp_path_factory.mktemp("tree")
    write(root, kind, masks)
    for mask, sample in zip(masks, read(root, kind), strict=True):
        assert np.array_equal(sample.mask, mask)
        assert len(np.unique(sample.instances[sample.instances > 0])) == len(Counting()(mask))


@pytest.mark.parametrize("kind", FORMATS)
def test_masks_of_public_data_come_back_as_they_were(tmp_path, kind):
    masks = list(_public_masks(8))
    if not masks:
        pytest.skip("TRANSEG_TEST_DATA names no folder with masks")
    write(tmp_path, kind, masks)
    for mask, sample in zip(masks, read(tmp_path, kind), strict=True):
        assert np.array_equal(sample.mask, mask)


def _public_masks(count):
    """Label maps of few values, as classes 0 to 3."""
    for path in sorted(Path(DATA).rglob("*.png")) if DATA else ():
        if not any("mask" in part.lower() or "label" in part.lower() for part in path.parts):
            continue
        with Image.open(path) as image:
            if image.mode not in ("L", "1", "P") or image.width * image.height > 4_000_000:
                continue
            values, index = np.unique(np.asarray(image), return_inverse=True)
            if 1 < len(values) <= len(NAMES):
                yield index.reshape(image.height, image.width).astype(np.uint8)
                count -= 1
        if not count:
            return


def ring():
    """An object with a hole in which another one lies, and one of two parts that touch at a corner."""
    mask = np.zeros((12, 16), np.uint8)
    mask[1:8, 2:9] = 1
    mask[3:6, 4:7] = 0
    mask[4, 5] = 2
    mask[9, 12] = mask[10, 13] = 3
    return mask


def test_geojson_is_as_qupath_reads_it(tmp_path):
    write(tmp_path, "geojson", [ring()])
    text = (tmp_path / "annotations" / "000.geojson").read_text()
    features = json.loads(text)["features"]
    assert [f["properties"]["classification"]["name"] for f in features] == ["gland", "nucleus", "vessel"]
    assert [f["geometry"]["type"] for f in features] == ["Polygon", "Polygon", "MultiPolygon"]
    assert len(features[0]["geometry"]["coordinates"]) == 2
    assert all(ring[0] == ring[-1] for ring in features[0]["geometry"]["coordinates"])
    expected = probabilities(ring())[0][ring() == 1].mean()
    (measured,) = features[0]["properties"]["measurements"]
    assert measured == {"name": "confidence", "value": pytest.approx(expected, abs=1e-4)}
    assert len({f["id"] for f in features}) == 3
    write(tmp_path, "geojson", [ring()])
    assert (tmp_path / "annotations" / "000.geojson").read_text() == text


def test_labelme_is_as_labelme_reads_it(tmp_path):
    write(tmp_path, "labelme", [ring()])
    content = json.loads((tmp_path / "annotations" / "000.json").read_text())
    assert (tmp_path / "annotations" / content["imagePath"]).resolve() == (tmp_path / "images" / "000.png").resolve()
    assert (content["imageHeight"], content["imageWidth"], content["imageData"]) == (12, 16, None)
    assert [shape["group_id"] for shape in content["shapes"]] == [None, None, 3, 3]
    assert content["shapes"][0]["description"].startswith("confidence 0.")


def test_imagej_is_as_imagej_and_napari_read_it(tmp_path):
    write(tmp_path, "imagej", [ring(), np.zeros((5, 7), np.uint8)])
    folder = tmp_path / "annotations"
    rois = roifile.roiread(folder / "000.zip")
    with zipfile.ZipFile(folder / "000.zip") as archive:
        assert archive.namelist() == [f"{roi.name}.roi" for roi in rois]
    assert [roi.name for roi in rois] == ["gland #1", "nucleus #2", "vessel #3"]
    assert [roi.group for roi in rois] == [1, 2, 3]
    assert [roi.composite for roi in rois] == [True, False, True]
    assert [roi.roitype.name for roi in rois] == ["RECT", "TRACED", "RECT"]
    assert [len(roi.coordinates(multi=True)) for roi in rois] == [2, 1, 2]
    assert [(roi.left, roi.top, roi.right, roi.bottom) for roi in rois[::2]] == [(2, 1, 9, 8), (12, 9, 14, 11)]
    expected = probabilities(ring())[0][ring() == 1].mean()
    assert rois[0].properties == {"confidence": pytest.approx(expected, abs=1e-4)}
    assert not roifile.roiread(folder / "001.zip")
    with tifffile.TiffFile(folder / "000.ome.tif") as tiff:
        assert tiff.is_ome
        assert (tiff.series[0].axes, tiff.series[0].dtype) == ("YX", np.uint32)
        assert "PhysicalSize" not in tiff.ome_metadata
        numbers = tiff.asarray()
    assert [np.unique(ring()[numbers == number]).tolist() for number in (1, 2, 3)] == [[1], [2], [3]]
    assert np.array_equal(numbers > 0, ring() > 0)


def test_object_numbers_say_how_large_pixels_are(tmp_path):
    image = tmp_path / "ä & b.tif"
    tifffile.imwrite(image, ring(), resolution=(40000, 20000), resolutionunit="CENTIMETER")
    for told, expected in ((None, (0.5, 0.25)), ((0.1, 0.2), (0.1, 0.2))):
        with polygon_documents("imagej", tmp_path, NAMES, [image], told) as documents:
            files = documents(image, ring().shape, [])
        path = tmp_path / "written.ome.tif"
        path.write_bytes(files[tmp_path / "annotations" / "ä & b.ome.tif"])
        assert said_pixel_size(path) == pytest.approx(expected)
        with tifffile.TiffFile(path) as tiff:
            pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
            assert (pixels["PhysicalSizeY"], pixels["PhysicalSizeX"]) == pytest.approx(expected)
            assert pixels["PhysicalSizeXUnit"] == pixels["PhysicalSizeYUnit"] == "µm"
            assert tiff.pages[0].tags["XResolution"].value[0] / 1e4 == pytest.approx(1 / expected[1])


def test_classes_that_rois_cannot_be_called_are_told(tmp_path):
    with pytest.raises(UsageError, match="the class '𝄞' has a character that ROIs cannot hold"):
        polygon_documents("imagej", tmp_path, ("background", "𝄞"), [])


def test_coco_is_as_its_own_tools_read_it(tmp_path):
    masks = [ring(), np.zeros((5, 7), np.uint8), ring()[::-1]]
    write(tmp_path, "coco", masks)
    content = json.loads((tmp_path / "annotations.json").read_text())
    assert [image["id"] for image in content["images"]] == [1, 2, 3]
    assert [found["id"] for found in content["annotations"]] == [1, 2, 3, 4, 5, 6]
    drawn = [np.zeros_like(mask) for mask in masks]
    for found in content["annotations"]:
        mask, outline = drawn[found["image_id"] - 1], found["segmentation"]
        runs = coco_masks.merge(coco_masks.frPyObjects(outline, *mask.shape)) if isinstance(outline, list) else outline
        inside = coco_masks.decode(runs) > 0
        assert found["area"] == inside.sum()
        assert found["bbox"] == coco_masks.toBbox(runs).tolist()
        mask[inside] = found["category_id"]
    assert all(np.array_equal(one, other) for one, other in zip(drawn, masks, strict=True))
