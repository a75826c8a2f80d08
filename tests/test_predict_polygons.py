"""`toolkit predict --format` from the command line to labels."""

import json

import numpy as np
import pytest
from layouts import scene, write_video
from PIL import Image

from transeg.core.inference import polygon_files


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "data" / "images"
    folder.mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.png")):
        Image.fromarray(scene(number)).save(folder / name)
    return folder


def said(result):
    return " ".join(result.stderr.split())


def masks(folder):
    return {path.stem: np.asarray(Image.open(path)) for path in folder.rglob("masks/*.png")}


@pytest.mark.parametrize("kind", polygon_files.FORMATS)
def test_what_was_predicted_is_read_as_labels(joint_run, toolkit, images, tmp_path, kind):
    out = tmp_path / "out"
    line = ["predict", joint_run, images, "-o", out, "--format", kind]
    assert "Polygons: " in toolkit(*line).output
    before = {path: path.read_bytes() for path in out.rglob("annotations*") if path.is_file()}
    before |= {path: path.read_bytes() for path in out.rglob("annotations/*")}
    assert before
    toolkit(*line)  # over what it has written itself, and alike
    assert {path: path.read_bytes() for path in before} == before
    there = "annotations.json" if kind == "coco" else "annotations"
    (out / there).rename(images.parent / there)
    option = ["--set", "classes=['background','polyp']"]
    toolkit("data", "convert", f"{kind}:{images.parent}", f"folder:{tmp_path / 'back'}", *option)
    predicted, back = masks(out), masks(tmp_path / "back")
    assert set(back) == set(predicted) == {"a", "b"}
    assert any(mask.any() for mask in predicted.values())
    assert all(np.array_equal(back[stem] > 0, predicted[stem] > 0) for stem in back)


def test_nothing_of_a_user_is_written_over(joint_run, toolkit, images, tmp_path):
    for kind, name in (("geojson", "annotations/a.geojson"), ("coco", "annotations.json")):
        mine = tmp_path / kind / name
        mine.parent.mkdir(parents=True)
        mine.write_text("mine")
        line = ["predict", joint_run, images, "-o", tmp_path / kind, "--format", kind]
        assert f"{mine.name} is there already" in said(toolkit(*line, code=2))
        assert mine.read_text() == "mine"


def test_a_file_that_cannot_be_read_is_left_out_and_numbers_stay(joint_run, toolkit, images, tmp_path):
    (images / "a.png").write_bytes(b"none")
    toolkit("predict", joint_run, images, "-o", tmp_path / "out", "--format", "coco", code=1)
    content = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert content["images"] == [{"id": 2, "file_name": "b.png", "width": 64, "height": 48}]


def test_slides_videos_and_a_missing_package_are_told(joint_run, toolkit, images, tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", [scene(0)] * 3)
    line = ["predict", joint_run, tmp_path / "a.mp4", "-o", tmp_path / "o.mp4", "--format", "coco"]
    assert "--format is for images, and" in said(toolkit(*line, code=2))
    line = ["predict", joint_run, images, "-o", tmp_path / "o", "--format"]
    with monkeypatch.context() as patched:
        patched.setattr("transeg.core.optional_packages.find_spec", lambda _: None)
        assert "pip install 'transeg[polygons]'" in said(toolkit(*line, "coco", code=2))
        assert "pip install 'transeg[polygons]'" in said(toolkit(*line, "imagej", code=2))
    monkeypatch.setattr("transeg.core.inference.large_image.LARGE", 100)
    assert "a.png is too large to be taken whole" in said(toolkit(*line, "geojson", "--window", 16, code=2))
    assert not (tmp_path / "o").exists()
