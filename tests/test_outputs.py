"""What commands leave alone, and that one bad file among many keeps none of them from doing the others."""

import json
import os
import shutil

import numpy as np
import pytest
from conftest import SUPERVISED, command
from PIL import Image

from transeg.core.builders import datasets
from transeg.core.interfaces import Fault

RNG = np.random.default_rng(0)


def said(result):
    return " ".join(result.stderr.split())


@pytest.fixture
def data(tmp_path):
    """Images with masks, in folders."""
    root = tmp_path / "set"
    for index in range(4):
        for kind, pixels in (
            ("images", RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)),
            ("masks", RNG.integers(0, 2, (32, 32), dtype=np.uint8) * 255),
        ):
            (root / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / kind / f"{index}.png")
    return root


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


class TestNothingIsWrittenOver:
    def test_ground_truth_by_predictions(self, joint_run, toolkit, data):
        before = contents(data)
        assert "masks/0.png is there already" in said(
            toolkit("predict", joint_run, data / "images", "-o", data, code=2)
        )
        assert contents(data) == before

    @pytest.mark.parametrize("name", ["images", "linked", "copied"])
    def test_originals_by_translations(self, joint_run, toolkit, data, name):
        (data / "linked").symlink_to(data / "images")
        (data / "copied").mkdir()
        for path in (data / "images").iterdir():
            os.link(path, data / "copied" / path.name)
        before = contents(data)
        text = said(toolkit("translate", joint_run, data / "images", "-o", data / name, code=2))
        assert "is read, so nothing is written over it" in text
        assert contents(data) == before

    def test_translations_by_translations_of_them(self, joint_run, toolkit, data, tmp_path):
        toolkit("translate", joint_run, data / "images", "-o", tmp_path / "out")
        before = contents(tmp_path / "out")
        toolkit("translate", joint_run, data / "images", "-o", tmp_path / "out")
        text = said(toolkit("translate", joint_run, tmp_path / "out", "-o", tmp_path / "out", code=2))
        assert "is read, so nothing is written over it" in text
        assert contents(tmp_path / "out") == before

    def test_tables(self, joint_run, toolkit, data, tmp_path):
        out = tmp_path / "out"
        out.mkdir()
        (out / "phantom.csv").write_text("mine")
        assert "phantom.csv is there already" in said(toolkit("evaluate", joint_run, "-o", out, code=2))
        (out / "set.csv").write_text("mine")
        line = ["measure", data / "masks", "--test", f"folder:{data}", "--split", "all", "-o", out]
        assert "set.csv is there already" in said(toolkit(*line, code=2))
        assert (out / "phantom.csv").read_text() == (out / "set.csv").read_text() == "mine"

    @pytest.mark.parametrize("name", ["a.md", "a.csv", "a.json"])
    def test_a_file_by_a_comparison(self, joint_run, toolkit, tmp_path, name):
        shutil.copytree(joint_run, tmp_path / "other")
        line = ["compare", joint_run, tmp_path / "other", "-o", tmp_path / name]
        if name != "a.json":
            shutil.copytree(joint_run, tmp_path / "third")
            line.insert(3, tmp_path / "third")
        (tmp_path / name).write_text("mine\n")
        assert "is not written by toolkit compare" in said(toolkit(*line, code=2))
        assert (tmp_path / name).read_text() == "mine\n"
        (tmp_path / name).unlink()
        toolkit(*line)
        toolkit(*line)

    def test_what_is_in_a_folder_by_a_run_a_sweep_and_an_export(self, joint_run, toolkit, tmp_path):
        (tmp_path / "metrics.json").write_text("mine")
        line = command(SUPERVISED)
        text = said(toolkit(*line, "--run-dir", tmp_path, code=2))
        assert "metrics.json is there already and belongs to no run" in text
        assert "is not empty and is no sweep" in said(
            toolkit("sweep", tmp_path, *line[1:], "--seed", 0, "--seed", 1, code=2)
        )
        assert "is there already" in said(toolkit("export", joint_run, "-o", tmp_path, code=2))
        assert contents(tmp_path) == {(tmp_path / "metrics.json").relative_to(tmp_path): b"mine"}

    def test_what_a_user_keeps_where_decoded_images_are_kept(self, toolkit, data, monkeypatch):
        monkeypatch.setenv("TRANSEG_CACHE", str(data))
        before = contents(data)
        toolkit("data", "cache", "--clear")
        assert contents(data) == before


class TestOneBadFile:
    @pytest.fixture
    def bad(self, data):
        path = data / "images" / "0.png"
        path.write_bytes(path.read_bytes()[:300])
        return data

    def test_is_named_and_the_others_are_segmented(self, joint_run, toolkit, bad, tmp_path):
        result = toolkit("predict", joint_run, bad / "images", "-o", tmp_path / "out", "--count", code=1)
        assert "3 masks" in result.stdout
        assert "1 image could not be segmented" in said(result)
        assert "images/0.png cannot be decoded" in said(result)
        assert len(list((tmp_path / "out" / "masks").glob("*.png"))) == 3
        assert len((tmp_path / "out" / "counts.csv").read_text().splitlines()) == 4

    @pytest.mark.parametrize("more", [[], ["--format", "folder"]], ids=["files", "dataset"])
    def test_is_named_and_the_others_are_translated(self, joint_run, toolkit, bad, tmp_path, more):
        images = bad if more else bad / "images"
        result = toolkit("translate", joint_run, images, "-o", tmp_path / "out", *more, code=1)
        assert "3 translated images" in " ".join(result.stdout.split())
        assert "images/0.png cannot be decoded" in said(result)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_is_named_and_the_others_are_measured(self, joint_run, toolkit, bad, tmp_path, workers):
        text = (joint_run / "experiment.toml").read_text()
        run = shutil.copytree(joint_run, tmp_path / "run")
        (run / "experiment.toml").write_text(text.replace("workers = 0", f"workers = {workers}"))
        line = ["evaluate", run, "--test", f"folder:{bad}", "--split", "all", "-o", tmp_path / "out", "--json"]
        result = toolkit(*line, code=1)
        (table,) = json.loads(result.stdout)["tests"].values()
        assert table["images"] == 3
        assert "1 image could not be measured" in said(result)


@pytest.mark.parametrize("layout", ["folder", "hdf5", "nnunet", "em"])
def test_images_of_one_name_in_two_splits_are_both_written_or_refused(toolkit, data, tmp_path, layout):
    shutil.copytree(data, tmp_path / "both" / "train")
    shutil.copytree(data, tmp_path / "both" / "test")
    kept = layout in ("folder", "hdf5")
    line = ["data", "convert", f"folder:{tmp_path / 'both'}", f"{layout}:{tmp_path / 'out'}"]
    result = toolkit(*line, code=0 if kept else 1)
    if kept:
        assert "8 images, no fault" in toolkit("data", "verify", f"{layout}:{tmp_path / 'out'}").stdout
    else:
        assert "Two images are called 0, one in train and one in test" in said(result)


def test_a_split_that_is_empty_for_its_faults_is_not_left_out(toolkit, data, tmp_path, monkeypatch):
    real = datasets.build_dataset

    def build(choice, role, registry):
        made = real(choice, role, registry)
        if choice.split == "test":
            made = Empty()
        return made

    class Empty(list):
        faults = (Fault("9.png", "9.png is not as it should be."),)

    monkeypatch.setattr(datasets, "build_dataset", build)
    out = tmp_path / "out"
    assert "9.png is not as it should be" in said(toolkit("data", "convert", f"folder:{data}", f"nnunet:{out}", code=2))
    assert not out.exists()
