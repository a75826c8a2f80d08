"""Outlines in JSON, filled to masks."""

import base64
import json
import os
import time
import tracemalloc

import cv2
import numpy as np
import pytest
from layouts import geojson, labelme, pixels, save, square

from transeg.core.errors import DataError
from transeg.plugins.datasets import outlines
from transeg.plugins.datasets.geojson import GeoJSON, list_features, read_features
from transeg.plugins.datasets.labelme import Labelme
from transeg.plugins.datasets.outlines import fill_polygon


def filled(polygon, size):
    top, left, inside = fill_polygon([np.array(ring, float) for ring in polygon], size)
    whole = np.zeros(size, bool)
    whole[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return whole


def test_a_pixel_is_inside_if_its_centre_is():
    assert np.argwhere(filled([square(1, 1, 2)], (5, 5))).tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert not filled([square(1.6, 1.6, 0.8)], (5, 5)).any()
    assert np.argwhere(filled([square(0.4, 3.4, 0.2)], (5, 5))).tolist() == [[3, 0]]


def test_it_agrees_with_the_distance_to_the_outline_wherever_that_lies():
    rng = np.random.default_rng(3)
    for _ in range(10):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
        ring = 15 + rng.uniform(4, 20, (12, 1)) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        inside = filled([ring], (30, 26))
        contour = ring.astype(np.float32)[:, None]
        for row, column in np.ndindex(inside.shape):
            distance = cv2.pointPolygonTest(contour, (column + 0.5, row + 0.5), True)
            assert abs(distance) < 1e-3 or inside[row, column] == (distance > 0)


def test_holes_and_crossings_are_out():
    hole = filled([square(1, 1, 6), square(3, 3, 2)], (9, 9))
    assert hole.sum() == 32
    assert not hole[3:5, 3:5].any()
    bow = filled([[[0, 0], [8, 8], [8, 0], [0, 8]]], (8, 8))
    assert bow[4, 1]
    assert bow[4, 6]
    assert not bow[1, 4]


def test_labelme(tmp_path):
    labelme(tmp_path)
    dataset = Labelme(tmp_path, "all")
    assert dataset.classes == ("background", "gland", "nucleus")
    mask, instances = dataset[0].mask, dataset[0].instances
    assert (mask[3:8, 2:7] == 2).all()
    assert (mask[9:15, 12:20] == 1).all()
    assert (mask[16:, :4] == 255).all()
    assert [np.count_nonzero(instances == number) for number in (1, 2, 3)] == [25, 48, 0]
    shapes = [{"label": "a", "group_id": 1, "points": square(x, 1, 2)} for x in (1, 8)]
    shapes.append({"label": "b", "points": [[12, 12], [12, 16]], "shape_type": "circle"})
    (tmp_path / "0.json").write_text(json.dumps({"shapes": shapes}))
    sample = Labelme(tmp_path, "all", classes=("background", "a", "b"))[0]
    assert np.count_nonzero(sample.instances == 1) == 8
    assert abs(np.count_nonzero(sample.mask == 2) - 16 * np.pi) < 3


def test_geojson(tmp_path):
    geojson(tmp_path)
    dataset = GeoJSON(tmp_path, "all")
    assert dataset.classes == ("background", "Stroma", "Tumor")
    mask, instances = dataset[0].mask, dataset[0].instances
    assert np.count_nonzero(mask == 2) == 64 - 9
    assert not mask[5:8, 4:7].any()
    assert np.count_nonzero(instances == 2) == 16 + 25


def test_classes_of_qupath_are_names_whichever_way_they_are_written(tmp_path):
    geojson(tmp_path)
    ring = square(1, 1, 4)
    kinds = ({"names": ["Tumor", "Positive"], "color": [1, 2, 3]}, "Stroma", {"name": "Immune cells"}, {}, None)
    features = [
        {
            "id": "7",
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "nucleusGeometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"objectType": "cell", "classification": kind, "measurements": {"Cell: Area": 7.5}},
        }
        for kind in kinds
    ]
    (tmp_path / "0.geojson").write_text(json.dumps(features))
    (tmp_path / "1.geojson").write_text(json.dumps([{**features[0], "properties": None}]))
    found = GeoJSON(tmp_path, "all", unclassified="Cell").classes
    assert found == ("background", "Cell", "Immune cells", "Stroma", "Tumor", "Tumor: Positive")


def test_a_large_export_is_read_in_little_memory(tmp_path):
    """A hundred megabytes of cells, which as lists would take two gigabytes."""
    ring = [[round(100 + 0.37 * place, 2), round(200 + 0.71 * place % 9, 2)] for place in range(40)]
    cell = {
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {
            "classification": {"name": "Tumor"},
            "measurements": {f"Nucleus: DAB OD {place}": place / 7 for place in range(60)},
        },
    }
    save(tmp_path / "0.png", pixels(0, 300, 300))
    text = json.dumps(cell).encode()
    with (tmp_path / "0.geojson").open("wb") as file:
        file.write(b"[" + (text + b",") * 5000)
        padded = b",".join([text[:-1] + b', "nucleusGeometry": ' + b'"' + b"x" * 2**20 + b'"}'] * 80)
        file.write(padded + b"]")
    assert (tmp_path / "0.geojson").stat().st_size > 90 * 2**20
    tracemalloc.start()
    try:
        begun = time.process_time()
        features = read_features(tmp_path / "0.geojson")
        assert len(list_features(features, None, outlines=True)) == 5080
        assert time.process_time() - begun < 10
        assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
    finally:
        tracemalloc.stop()


def test_there_is_an_end_to_what_is_read_of_a_large_file(tmp_path, monkeypatch):
    geojson(tmp_path)
    path = tmp_path / "0.geojson"

    def refused(clause):
        with pytest.raises(DataError, match=f"0.geojson {clause}"):
            GeoJSON(tmp_path, "all", classes=("background", "Stroma", "Tumor"))[0]

    monkeypatch.setattr(outlines, "MOST_OUTLINES", 3)
    refused("has more than 3 outlines in one image, so divide it")
    monkeypatch.setattr(outlines, "LARGEST", 2**6)
    refused("has an object whose outlines take more than")
    monkeypatch.setattr("transeg.plugins.datasets.geojson.MOST_BRACES", 8)
    refused("holds more than 8 pairs of braces, so divide it")
    os.truncate(path, 257 * 2**20)
    refused("has 257 MB; up to 256 are read")


BAD_POINTS = {
    "[[0, 0], [2e9, 0], [2e9, 2e9]]": "has .*far outside",
    "[[0, 0], [NaN, 0], [4, 4]]": "is no JSON",
    "[[0, 0], [4, 4]]": "has .*2 points",
    '[[0, 0], ["4", 0], [4, 4]]': "has .*no numbers",
    f"[[0, 0], [{'9' * 400}, 0], [4, 4]]": "has .*too large|is no JSON",
    "7": "has .*no list of points",
}


@pytest.mark.parametrize("points", BAD_POINTS)
def test_impossible_outlines_are_refused(tmp_path, points):
    labelme(tmp_path)
    (tmp_path / "0.json").write_text(f'{{"shapes": [{{"label": "nucleus", "points": {points}}}]}}')
    with pytest.raises(DataError, match=f"0.json ({BAD_POINTS[points]})"):
        Labelme(tmp_path, "all")[0]
    (tmp_path / "q").mkdir()
    geojson(tmp_path / "q")
    feature = (
        f'{{"geometry": {{"type": "Polygon", "coordinates": [{points}]}}, '
        '"properties": {"classification": {"name": "Tumor"}}}'
    )
    (tmp_path / "q" / "0.geojson").write_text(f'{{"features": [{feature}]}}')
    with pytest.raises(DataError, match=f"0.geojson ({BAD_POINTS[points]})"):
        GeoJSON(tmp_path / "q", "all")[0]


def test_masks_and_turned_rectangles_of_labelme(tmp_path):
    labelme(tmp_path)
    found = np.zeros((4, 6), np.uint8)
    found[1:3, 1:5] = 255
    turned = {"label": "turned", "points": [[12, 8], [16, 12], [14, 14], [10, 10]], "shape_type": "oriented_rectangle"}

    def read(**mask):
        text = base64.b64encode(cv2.imencode(".png", found)[1]).decode()
        shape = {"label": "found", "points": [[3, 5], [8, 8]], "shape_type": "mask", "mask": text, **mask}
        (tmp_path / "0.json").write_text(json.dumps({"shapes": [shape, turned]}))
        return Labelme(tmp_path, "all", classes=("background", "found", "turned"))[0].mask

    assert (read()[5:9, 3:9] == found // 255).all()
    assert (read() == 1).sum() == 8
    assert (read() == 2).sum() == filled([turned["points"]], (20, 24)).sum() > 10
    assert (read(points=[[2.6, 5.4], [7.6, 8.4]]) == read()).all()
    with pytest.raises(DataError, match="reaches out of the image"):
        read(points=[[20, 5], [25, 8]])
    for damaged in (None, 5, "?", "iVBORw0KGgoAAAANSUhEUgAAAGQAAABk"):
        with pytest.raises(DataError, match="mask that is no PNG"):
            read(mask=damaged)
    found = np.zeros((400, 400), np.uint8)
    with pytest.raises(DataError, match="larger than the image"):
        read()


BAD_FILES = {
    "[" * 1_000_000: "nested too deeply|no list of",
    "{": "no JSON",
    "[1]": "no list of",
    "{}": "no list of",
    '{"shapes": [1], "features": [1]}': "no list of",
    '{"shapes": [{"label": "x", "points": [[0,0],[4,0],[4,4]]}], "features": [{}]}': "none of|without a class",
    "\xff": "no JSON",
    " " * (33 * 2**20): "33 MB|no JSON",
}


@pytest.mark.parametrize("content", BAD_FILES, ids=range(len(BAD_FILES)))
@pytest.mark.parametrize(("cls", "build"), [(Labelme, labelme), (GeoJSON, geojson)])
def test_files_of_another_kind_are_refused(tmp_path, cls, build, content):
    build(tmp_path)
    next(tmp_path.glob("0.*json")).write_bytes(content.encode("latin-1"))
    began = time.monotonic()
    with pytest.raises(DataError, match=BAD_FILES[content]):
        cls(tmp_path, "all", classes=("background", "Tumor"))[0]
    assert time.monotonic() - began < 10


def test_an_image_without_a_file_and_of_another_size_are_said(tmp_path):
    labelme(tmp_path)
    (tmp_path / "1.json").unlink()
    assert "1.png has no mask" in Labelme(tmp_path, "all").faults[0].reason
    (tmp_path / "0.json").write_text('{"shapes": [], "imageHeight": 24, "imageWidth": 20}')
    with pytest.raises(DataError, match="is of an image of 20x24 pixels, but its image has 24x20"):
        Labelme(tmp_path, "all")[0]
