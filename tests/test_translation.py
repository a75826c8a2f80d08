"""Datasets carried into another domain, and images translated before they are segmented, as a user does both."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from conftest import SUPERVISED, TINY_CUT, TINY_TRAINING, TRANSLATION, command
from PIL import Image

import transeg
from transeg.core.data.images import read_image
from transeg.core.data.writing import file_name
from transeg.core.evaluation.label_shift import label_shift
from transeg.plugins.datasets.folder import Folder
from transeg.plugins.datasets.phantom.dataset import Phantom


@pytest.fixture(scope="module")
def runs(toolkit, tmp_path_factory):
    """A translation and a segmenter of the phantom, and grey ones in windows with images of 16 bits."""
    root = tmp_path_factory.mktemp("runs")
    toolkit(*command(TRANSLATION, "--run-dir", root / "translation"))
    toolkit(*command(SUPERVISED, "--run-dir", root / "segmenter"))
    deep = labelled(root / "deep", count=10)
    data = ["--source", f"folder:{deep}", "--target", f"folder:{deep}"]
    settings = [*TINY_TRAINING, *TINY_CUT, "data.tile=32", "data.source.channels=1", "data.target.channels=1"]
    toolkit(*command((["--generator", "cut", *data], settings), "--run-dir", root / "windows"))
    return root


def labelled(root, count=4, dtype=np.uint16, size=(70, 50)):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for index in range(count):
            image = rng.integers(0, np.iinfo(dtype).max, size, dtype=dtype)
            for kind, pixels in (("images", image), ("masks", rng.integers(0, 2, size, dtype=np.uint8) * 255)):
                folder = root / split / kind
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / f"{split}{index}.png")
    return root


class TestADataset:
    def test_labels_and_types_stay(self, runs, toolkit, tmp_path):
        out = tmp_path / "out"
        options = ["--format", "folder", "--set", "channels=1"]
        result = toolkit("translate", runs / "windows", f"folder:{runs / 'deep'}", "-o", out, *options)
        assert "20 translated images" in " ".join(result.stdout.split())
        for split in ("train", "test"):
            before, after = (Folder(root, split, channels=1) for root in (runs / "deep", out))
            assert len(before) == len(after) == 10
            for index in range(len(before)):
                one, other = before[index], after[index]
                assert one.name == other.name
                assert np.array_equal(one.mask, other.mask)
                assert one.image.dtype == other.image.dtype == np.uint16
                assert one.image.shape == other.image.shape
                assert not np.array_equal(one.image, other.image)
        manifest = json.loads((out / "translation.json").read_text())
        assert manifest["run"] == str(runs / "windows")
        assert len(manifest["samples"]) == 20
        assert manifest["samples"]["test/test3"]["group"] == "test3"

    def test_a_table_says_how_labels_fit(self, runs, toolkit, tmp_path):
        out = tmp_path / "out"
        line = ["translate", runs / "translation", "phantom:clean", "-o", out, "--format", "folder", "--split", "train"]
        line += ["--set", "count=4", "side=32", "--consistency", runs / "segmenter"]
        said = " ".join(toolkit(*line).stdout.split())
        assert re.search(
            r"Shifted against their labels by \d+\.\d pixels \(median\), train/\S+ by \d+\.\d\. Labels", said
        )
        with (out / "labels.csv").open() as file:
            lines = {line["name"]: line for line in csv.DictReader(file)}
        dataset = Folder(out, "train")
        assert list(lines) == [dataset[index].name for index in range(4)]
        original = Phantom(None, "train", count=4, side=32)
        for index in range(4):
            found = lines[dataset[index].name]
            shift = label_shift(original[index].image, dataset[index].image)
            assert [found["shift_rows"], found["shift_columns"]] == [f"{value:.2f}" for value in shift]
            assert 0 <= float(found["dice"]) <= 1
        lost, table = dataset.pairs[1].image, (out / "labels.csv").read_text()
        (out / "manifest.json").unlink()
        lost.unlink()
        assert " ".join(toolkit(*line).stdout.split()) == said
        assert (out / "labels.csv").read_text() == table

    def test_it_goes_on_where_it_was_interrupted(self, runs, toolkit, tmp_path):
        line = ["translate", runs / "windows", runs / "deep", "-o", tmp_path / "out", "--format", "folder"]
        line += ["--set", "channels=1", "--split", "test"]
        toolkit(*line)
        images = sorted((tmp_path / "out" / "test" / "images").iterdir())
        kept, lost = images[0], images[1]
        pixels, stamp = lost.read_bytes(), kept.stat().st_mtime_ns
        lost.unlink()
        (tmp_path / "out" / "manifest.json").unlink()
        toolkit(*line)
        assert lost.read_bytes() == pixels
        assert kept.stat().st_mtime_ns == stamp
        assert (tmp_path / "out" / "manifest.json").exists()

    @pytest.mark.slow
    def test_processes_share_it(self, runs, toolkit, tmp_path):
        line = [str(x) for x in ("translate", runs / "windows", runs / "deep", "--format", "folder", "-o")]
        toolkit(*line, tmp_path / "one", "--set", "channels=1")
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
        command_line = [*launcher, "-m", "transeg", *line, str(tmp_path / "two"), "--set", "channels=1"]
        two = subprocess.run(command_line, capture_output=True, text=True)
        assert two.returncode == 0, two.stderr
        assert two.stdout.count("translated images") == 1
        one, two = (
            {p.relative_to(r): p.read_bytes() for p in r.rglob("*.png")} for r in (tmp_path / "one", tmp_path / "two")
        )
        assert one == two
        manifests = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("one", "two")]
        assert manifests[0] == manifests[1]

    def test_another_translation_is_not_mixed_in(self, runs, toolkit, tmp_path):
        line = ["translate", runs / "windows", runs / "deep", "-o", tmp_path / "out", "--format", "folder"]
        line += ["--set", "channels=1", "--split", "test"]
        toolkit(*line)
        text = toolkit(*line, "--window", 48, code=2).stderr
        assert "its window is 32, not 48" in " ".join(text.split())

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--format", "folder"], "images of 3 channels, but the generator takes 1; datasets with the option take"),
            (["--format", "kvasir"], "can be read but not written; these can be:"),
            (["--format", "foldr"], "Did you mean 'folder'?"),
            (["--format", "folder", "--direction", "target-to-source"], "translates source-to-target, not"),
            (["--set", "channels=1"], "images have the options range and page"),
            (["--format", "folder", "--split", "val"], "no image in these splits"),
            (["--consistency", "runs/other"], "--consistency is for datasets, whose labels come along; say --format"),
        ],
    )
    def test_a_sentence(self, runs, toolkit, tmp_path, options, said):
        if "--set" not in options and "folder" not in options[:2]:
            options = [*options, "--set", "channels=1"]
        if "--split" in options:
            options = [*options, "--set", "channels=1"]
        text = toolkit("translate", runs / "windows", runs / "deep", "-o", tmp_path / "out", *options, code=2).stderr
        assert said in " ".join(text.split())
        assert not (tmp_path / "out").exists()

    def test_a_folder_with_something_else_is_left_alone(self, runs, toolkit, tmp_path):
        (tmp_path / "mine.txt").write_text("keep")
        line = [
            "translate",
            runs / "windows",
            runs / "deep",
            "-o",
            tmp_path,
            "--format",
            "folder",
            "--set",
            "channels=1",
        ]
        assert "holds no translation" in " ".join(toolkit(*line, code=2).stderr.split())


def test_files_keep_their_type(runs, toolkit, tmp_path):
    rng = np.random.default_rng(1)
    sixteen = rng.integers(0, 65536, (40, 45), dtype=np.uint16)
    Image.fromarray(sixteen).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", rng.random((33, 40), dtype=np.float32))
    for name in ("a.png", "b.tif"):
        toolkit("translate", runs / "windows", tmp_path / name, "-o", tmp_path / "out")
        before, after = (read_image(folder / name, 1) for folder in (tmp_path, tmp_path / "out"))
        assert before.dtype == after.dtype
        assert before.shape == after.shape


def test_a_generator_that_learned_from_negatives_is_given_those_of_files(toolkit, tmp_path):
    settings = ["data.source.invert=true", "generator.references=1", "train.iterations=2", "data.size=32"]
    settings += [f"data.{role}.{option}" for role in ("source", "target") for option in ("count=6", "side=32")]
    line = ["run", "--strategy", "translation", "--generator", "histogram", "--source", "phantom:clean"]
    line += ["--target", "phantom:scope", *(part for setting in settings for part in ("--set", setting))]
    toolkit(*line, "--run-dir", tmp_path / "run")
    ramp = np.tile(np.arange(32, dtype=np.uint8)[:, None, None] * 8, (1, 32, 3))
    Image.fromarray(ramp).save(tmp_path / "a.png")
    toolkit("translate", tmp_path / "run", tmp_path / "a.png", "-o", tmp_path / "out")
    made = np.asarray(Image.open(tmp_path / "out" / "a.png")).astype(int)
    assert (np.diff(made.mean((1, 2))) <= 0).all()  # what was darkest is brightest
    assert made[0].mean() > made[-1].mean() + 50
    assert np.abs(transeg.load(tmp_path / "run").translate(ramp) - made).max() <= 1
    toolkit("export", tmp_path / "run", "--format", "torchscript", "-o", tmp_path / "graph")
    graph = torch.jit.load(str(tmp_path / "graph" / "model.torchscript"))
    exported = graph(torch.from_numpy(ramp).permute(2, 0, 1)[None].float() / 255, torch.zeros(1, 1))[0]
    assert np.abs(exported.permute(1, 2, 0).numpy() * 255 - made).max() <= 1


class TestAdaptation:
    def test_masks_come_back_at_the_images_own_size(self, runs, toolkit, tmp_path):
        pixels = np.random.default_rng(2).integers(0, 256, (60, 44, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        line = ["predict", runs / "segmenter", tmp_path / "a.png", "--probabilities"]
        toolkit(*line, "-o", tmp_path / "plain")
        toolkit(*line, "-o", tmp_path / "adapted", "--translate-with", runs / "translation", "--rescale", 0.5)
        toolkit("translate", runs / "translation", tmp_path / "a.png", "-o", tmp_path / "translated")
        toolkit(*line[:2], tmp_path / "translated" / "a.png", "--probabilities", "-o", tmp_path / "steps")
        toolkit(*line, "-o", tmp_path / "at-once", "--translate-with", runs / "translation")
        likely = {
            name: np.asarray(Image.open(tmp_path / name / "probabilities" / "a.png"))
            for name in ("plain", "adapted", "steps", "at-once")
        }
        assert likely["adapted"].shape == (60, 44)
        assert Image.open(tmp_path / "adapted" / "masks" / "a.png").size == (44, 60)
        assert np.array_equal(likely["steps"], likely["at-once"])
        assert not np.array_equal(likely["plain"], likely["at-once"])
        assert not np.array_equal(likely["adapted"], likely["at-once"])

    def test_it_is_measured(self, runs, toolkit, tmp_path):
        options = ["--test", "phantom:scope", "--json", "--out", tmp_path]
        plain = json.loads(toolkit("evaluate", runs / "segmenter", *options).stdout)["tests"]
        adapted = json.loads(
            toolkit("evaluate", runs / "segmenter", *options, "--translate-with", runs / "translation").stdout
        )["tests"]
        assert plain["phantom"]["images"] == adapted["phantom"]["images"]
        assert plain != adapted

    @pytest.mark.parametrize(
        ("run", "said"),
        [("segmenter", "trained a segmenter alone, so it cannot translate"), ("windows", "makes images of 1 channels")],
    )
    def test_a_sentence(self, runs, toolkit, tmp_path, run, said):
        Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
        line = ["predict", runs / "segmenter", tmp_path / "a.png", "-o", tmp_path / "o", "--translate-with", runs / run]
        assert said in " ".join(toolkit(*line, code=2).stderr.split())


def test_names_that_differ_stay_different():
    names = ["a/b", "a_b", "a:b", "sub-1 (2).x"]
    assert len({file_name(name) for name in names}) == len(names)
    assert file_name("sub-1 (2).x") == "sub-1 (2).x"
    assert not set("/:") & set("".join(map(file_name, names)))
    assert Path(file_name("x" * 300)).name != file_name("x" * 301)
