"""Generators with two directions: judged there and back, from the command line to the files."""

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import TINY_DATA, TINY_TARGET, TINY_TRAINING, command
from PIL import Image

from transeg.cli import main

# There it inverts intensities; back it inverts them and adds a fault. Its weight is trained, by next to nothing.
NET = '''
import torch
from torch import nn
from transeg.core.interfaces import Generator, Optimization, Phase

class Negative(Generator):
    """Inverts.

    Args:
        fault: is added on the way back.
    """

    directions = ("source-to-target", "target-to-source")

    def __init__(self, source_channels, target_channels, *, fault: float = 0.0):
        super().__init__()
        self.fault = fault
        self.scale = nn.Parameter(torch.ones(1))

    def optimizers(self):
        return {"scale": Optimization(torch.optim.SGD(self.parameters(), lr=1e-12))}

    def phases(self, batch):
        fake = -self.scale * batch.source
        yield Phase(("scale",), {"size": fake.square().mean()}, fake=fake)

    def translate(self, image, direction, noise=None):
        assert noise is not None
        return -image + (self.fault if direction == "target-to-source" else 0.0)
'''
MANIFEST = '[plugin]\ncontract = 1\n[generator.negative]\nentry = "negative.py:Negative"\npaired = false\n'


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "negative.py").write_text(NET)
    (folder / "mine.toml").write_text(MANIFEST)
    return folder / "mine.toml"


def start(registry, run, *more, settings=(), segmenter=False):
    parts = ["--generator", "negative", *(["--segmenter", "unet"] if segmenter else [])]
    tiny = [*TINY_DATA, *TINY_TRAINING, *TINY_TARGET, "augmentation.preset=none", "baseline=none", *settings]
    line = command((parts, tiny), "--registry", registry, "--run-dir", run, *more)
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 0, result.output
    return json.loads((run / "metrics.json").read_text())


@pytest.fixture(scope="module")
def run(registry, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "two"
    start(registry, folder, settings=["generator.fault=0.1"])
    return folder


def test_both_directions_are_brought_back(run):
    """In [0, 1], the fault of 0.1 in [-1, 1] is 0.05; from the target it is made on the way there instead."""
    quality = json.loads((run / "metrics.json").read_text())["quality"]
    assert set(quality) == {"validation", "target-to-source"}
    for label, values in quality.items():
        assert set(values) == {"roundtrip_ssim", "roundtrip_psnr", "roundtrip_l1", "images"}
        assert values["roundtrip_l1"] == pytest.approx(0.05, rel=1e-3), label
        assert values["roundtrip_psnr"] == pytest.approx(-20 * np.log10(0.05), abs=0.01), label
    assert quality["validation"]["images"] == quality["target-to-source"]["images"]
    rows = list(csv.DictReader((run / "evaluation" / "target-to-source-translation.csv").open()))
    assert rows[0]["name"].startswith("scope-")
    assert float(rows[0]["roundtrip_l1"]) == pytest.approx(0.05, rel=1e-3)


def test_nothing_is_judged_at_validations_but_what_is_cheap(run):
    assert not any("val/" in line for line in (run / "metrics.jsonl").read_text().splitlines())


def test_evaluate_judges_as_the_run_did(run, registry, toolkit, tmp_path):
    document = json.loads(toolkit("evaluate", run, "--registry", registry, "--json", "-o", tmp_path).stdout)
    assert document == {"tests": {}, "quality": json.loads((run / "metrics.json").read_text())["quality"]}
    more = ["--test", "phantom:clean", "--split", "train", "-o", tmp_path]
    table = toolkit("evaluate", run, "--registry", registry, *more, "--json").stdout
    assert set(json.loads(table)["quality"]) == {"phantom", "target-to-source"}
    assert "and back" in " ".join(toolkit("evaluate", run, "--registry", registry, *more).stdout.split())


def test_features_compare_each_direction_with_its_own_domain(registry, toolkit, tmp_path):
    segmenter = tmp_path / "segmenter"
    settings = [*TINY_DATA, *TINY_TRAINING, "segmenter.base=4", "data.source.count=10"]
    toolkit(*command((["--segmenter", "unet", "--source", "phantom"], settings), "--run-dir", segmenter))
    judged = [f"quality.features={segmenter}", "data.source.count=20", f"quality.segmenter={segmenter}"]
    quality = start(registry, tmp_path / "run", settings=judged)["quality"]
    assert {"fid", "kid"} <= set(quality["validation"])
    assert {"fid", "kid"} <= set(quality["target-to-source"])
    assert quality["validation"]["fid"] != quality["target-to-source"]["fid"]
    assert "consistency_dice" in quality["validation"]
    assert "consistency_dice" not in quality["target-to-source"]  # the segmenter knows the other domain


@pytest.mark.parametrize("strategy", ["joint", "sequential"])
def test_with_a_segmenter_the_sources_validation_images_are_judged(registry, toolkit, tmp_path, strategy):
    settings = ["segmenter.base=4", "data.test.phantom.count=10", "data.test.phantom.side=32"]
    more = ["--strategy", strategy]
    metrics = start(registry, tmp_path / "run", *more, settings=settings, segmenter=True)
    assert set(metrics["quality"]) == {"validation", "target-to-source"}
    assert metrics["quality"]["validation"]["roundtrip_l1"] < 1e-3
    line = ["evaluate", tmp_path / "run", "--registry", registry, "--json", "-o", tmp_path / "o"]
    document = json.loads(toolkit(*line).stdout)
    assert document == {"tests": metrics["tests"], "quality": metrics["quality"]}
    named = json.loads(toolkit(*line, "--test", "phantom:scope").stdout)
    assert named["quality"] == {}  # those are images of the target


def test_pairs_are_compared_on_both_sides(registry, tmp_path):
    """Counterparts are the inverted images, so that both directions are right."""
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        (tmp_path / "data" / split).mkdir(parents=True)
        for index in range(3):
            left = np.kron(rng.integers(0, 256, (8, 8, 3), np.uint8), np.ones((4, 4, 1), np.uint8))
            Image.fromarray(np.concatenate([left, 255 - left], 1)).save(tmp_path / "data" / split / f"{index}.png")
    settings = [*TINY_TRAINING, "data.size=32", "augmentation.preset=none", *TINY_TARGET]
    options = ["--generator", "negative", "--source", f"aligned:{tmp_path / 'data'}", "--target", "phantom:scope"]
    line = command((options, settings), "--registry", registry, "--run-dir", tmp_path / "run")
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 0, result.output
    quality = json.loads((tmp_path / "run" / "metrics.json").read_text())["quality"]
    assert set(quality) == {"validation", "validation-target-to-source", "target-to-source"}
    for label in ("validation", "validation-target-to-source"):
        assert quality[label]["l1"] < 1e-3
        assert quality[label]["psnr"] > 50
        assert quality[label]["roundtrip_l1"] < 1e-3
    assert "l1" not in quality["target-to-source"]
    scalars = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "val/l1" in scalars  # of pairs, one translation of each says all
