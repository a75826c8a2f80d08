"""What a run has seen is not measured unawares: neither by the run itself nor by a later evaluation."""

import json
import shutil

import numpy as np
import pytest
from conftest import TINY_CUT, TINY_TRAINING, command
from PIL import Image

SETTINGS = [*TINY_TRAINING, *TINY_CUT, "data.size=32", "segmenter.base=4", "device=cpu"]


def write_set(root, numbers):
    for number in numbers:
        noise = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        for kind, pixels in (("images", noise), ("masks", np.eye(32, dtype=np.uint8) * 255)):
            (root / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / kind / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    return {"a": write_set(root / "a", range(6)), "b": write_set(root / "b", range(10, 14))}


@pytest.fixture(scope="module")
def line(sets):
    options = ["--generator", "cut", "--segmenter", "unet", "--source", f"folder:{sets['a']}"]
    options += ["--target", f"folder:{sets['b']}", "--test", f"folder:{sets['b']}"]
    return command((options, SETTINGS), "--target-split", "all", "--test-split", "all")


@pytest.fixture(scope="module")
def run(line, toolkit, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "transductive"
    toolkit(*line, "--transductive", "--run-dir", folder)
    return folder


def said(result):
    return " ".join((result.stdout + result.stderr).split())


def test_target_images_are_tested_on_only_when_asked_for_and_everything_says_so(line, run, toolkit, tmp_path):
    refused = said(toolkit(*line, "--dry-run", code=2))
    assert "4 of 4 test images" in refused
    assert "--transductive" in refused
    words = "transductive: 4 of 4 test images were seen in training, without their labels"
    assert words in said(toolkit(*line, "--transductive", "--dry-run"))
    assert list(json.loads((run / "metrics.json").read_text())["transductive"].values()) == [words]
    toolkit("report", run, "-o", tmp_path / "report.html", "--device", "cpu")
    assert words in " ".join((tmp_path / "report.html").read_text().split())


def test_an_evaluation_takes_what_the_run_has_not_seen_of_a_folder_that_moved(sets, run, toolkit, tmp_path):
    moved = shutil.copytree(sets["a"], tmp_path / "moved")
    (moved / "images" / "0.png").rename(moved / "images" / "z.png")
    (moved / "masks" / "0.png").rename(moved / "masks" / "z.png")
    evaluate = ["evaluate", run, "--test", f"folder:{moved}", "-o", tmp_path / "out", "--device", "cpu"]
    assert "6 of 6 test images" in said(toolkit(*evaluate, code=2))
    write_set(moved, (70, 71))
    result = toolkit(*evaluate)
    assert "2 of 8 images; the run has seen the rest" in said(result)
    assert "6 of 8 test images" in said(toolkit(*evaluate, "--split", "all", code=2))


def test_an_evaluation_on_the_target_is_refused_or_said_to_be_transductive(sets, run, toolkit, tmp_path):
    stored = (run / "experiment.toml").read_text()
    asked = shutil.copytree(run, tmp_path / "run")
    (asked / "experiment.toml").write_text(stored.replace("transductive = true", "transductive = false"))
    evaluate = ["evaluate", asked, "--test", f"folder:{sets['b']}", "-o", tmp_path / "out", "--device", "cpu"]
    assert "seen in training without labels" in said(toolkit(*evaluate, code=2))
    assert "transductive: 4 of 4" in said(toolkit(*evaluate, "--transductive"))


def test_splits_are_of_something(toolkit):
    assert "none is named" in said(toolkit("run", "--segmenter", "unet", "--test-split", "all", "--dry-run", code=2))
