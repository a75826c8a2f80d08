"""`--count` from the command line to the files."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label

from transeg.core.claims import NOTE


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name, size in (("a.png", (50, 30)), ("b.jpg", (31, 77))):
        pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def test_predict_counts_what_it_writes(joint_run, toolkit, images, tmp_path):
    out = tmp_path / "out"
    result = toolkit("predict", joint_run, images, "-o", out, "--count")
    assert str(out / "counts.csv") in result.stdout.replace("\n", "")
    lines = list(csv.DictReader((out / "counts.csv").open()))
    objects = list(csv.DictReader((out / "objects.csv").open()))
    assert [line["image"] for line in lines] == ["a", "b"]
    for line in lines:
        mask = np.asarray(Image.open(out / "masks" / f"{line['image']}.png")) > 0
        assert int(line["count"]) == label(mask, np.ones((3, 3)))[1]
        assert int(line["total_area"]) == mask.sum()
        areas = [int(each["area"]) for each in objects if each["image"] == line["image"]]
        assert (len(areas), sum(areas)) == (int(line["count"]), mask.sum())


def test_without_the_flag_nothing_is_counted(joint_run, toolkit, images, tmp_path):
    toolkit("predict", joint_run, images, "-o", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"masks", "overlays", NOTE}


def test_what_is_too_large_to_count_is_said_before_anything_is_done(joint_run, toolkit, images, tmp_path, monkeypatch):
    monkeypatch.setattr("transeg.core.inference.large_image.LARGE", 50 * 30)
    result = toolkit("predict", joint_run, images, "-o", tmp_path / "out", "--window", 16, "--count", code=2)
    assert f"--count: {images / 'b.jpg'} is too large" in " ".join(result.stderr.split()).replace("- ", "-")
    assert not (tmp_path / "out").exists()


def test_evaluate_compares_with_the_truth(joint_run, toolkit, tmp_path):
    arguments = ["evaluate", joint_run, "--count", "--min-area", 3, "--out", tmp_path]
    document = json.loads(toolkit(*arguments, "--json").stdout)
    counts = document["tests"]["phantom"]["counts"]
    assert (counts["method"], counts["min_area"], counts["numbered"]) == ("components", 3, 0)
    lines = list(csv.DictReader((tmp_path / "counts" / "phantom.csv").open()))
    assert len(lines) == 2
    assert counts["true"] == sum(int(line["true"]) for line in lines)
    assert counts["mae"] == np.mean([abs(int(line["error"])) for line in lines])
    assert Image.open(tmp_path / "counts" / "phantom.png").size[0] > 100
    table = " ".join(toolkit(*arguments).stdout.split())
    assert counts["pq"] == pytest.approx(np.mean([float(line["pq"]) for line in lines if line["pq"]]), abs=1e-6)
    for word in ("true", "predicted", "MAE", "relative", "bias [95 % limits]", "PQ SQ RQ AJI"):
        assert word in table
    toolkit("compare", tmp_path, tmp_path)  # the new files are not taken for test sets


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--min-area", "4"], "--min-area says how to count objects; say --count, too."),
        (["--count-method", "contours"], "--count-method says how to count objects; say --count, too."),
        (["--count", "--count-method", "guess"], "'guess' is not one of 'components', 'contours', 'watershed'"),
        (["--count", "--min-area", "-1"], "-1 is not in the range x>=0"),
    ],
)
def test_options_that_make_no_sense(joint_run, toolkit, images, tmp_path, options, said):
    for line in (["predict", joint_run, images, "-o", tmp_path / "out"], ["evaluate", joint_run, "-o", tmp_path]):
        result = toolkit(*line, *options, code=2)
        assert said in " ".join(result.stderr.split())
