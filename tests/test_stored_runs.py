"""Runs that an older transeg trained go on; see stored_runs/README.md."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

STORED = Path(__file__).parent / "stored_runs"
EXPECTED = STORED / "expected"
RUNS = ("joint", "sequential")
LATER = ("val/shift",)
"""What they did not log when they were stored."""
CLOSE = 0.02
"""By how much losses and metrics may differ, which other instruction sets round differently in every step."""
AS_A_WHOLE = 0.04
"""The same, but on average over a training from its first step on: Adam's first steps are as long for a gradient of
rounding errors as for any other. On another processor than theirs it is 0.012; the same losses in another order are 0.1
apart."""


@pytest.fixture
def stored(tmp_path):
    """Copies of the runs, since using them writes into them; where they were trained, nothing is left."""

    def copy(name):
        folder = tmp_path / name
        shutil.copytree(STORED / name, folder)
        return folder

    return copy


def pixels(folder):
    return {path.name: np.asarray(Image.open(path)).astype(int) for path in sorted(folder.glob("[!.]*"))}


def assert_close(made, expected, tolerance, share=0.0):
    """Images are the same except for rounding and a share of pixels that lies on the edge of a decision."""
    made, expected = pixels(made), pixels(expected)
    assert made.keys() == expected.keys()
    for name, image in expected.items():
        assert made[name].shape == image.shape
        assert (abs(made[name] - image) > tolerance).mean() <= share, name


@pytest.mark.parametrize("name", RUNS)
def test_they_predict_what_they_did(stored, toolkit, tmp_path, name):
    out = tmp_path / "out"
    toolkit("predict", stored(name), STORED / "images", "-o", out, "--probabilities", "--device", "cpu")
    assert_close(out / "masks", EXPECTED / name / "masks", 0, share=0.002)
    assert_close(out / "probabilities", EXPECTED / name / "probabilities", 33)  # of 65535


def test_a_retired_option_and_what_it_kept_change_no_prediction(stored, toolkit, tmp_path):
    """As joint runs with pseudo-labels were stored: with the network that made them."""
    run, out = stored("joint"), tmp_path / "out"
    experiment = run / "experiment.toml"
    text = experiment.read_text()
    assert 'pseudo_labels = "off"' in text
    experiment.write_text(text.replace('pseudo_labels = "off"', 'pseudo_labels = "mean"'))
    for path in (run / "checkpoints").glob("*.pt"):
        state = torch.load(path, weights_only=True)
        kept = {key: weight for key, weight in state["model"].items() if key.startswith("segmenter.")}
        state["model"] |= {key.replace("segmenter", "labeller", 1): weight * 0 for key, weight in kept.items()}
        torch.save(state, path)
    toolkit("predict", run, STORED / "images", "-o", out, "--device", "cpu")
    assert_close(out / "masks", EXPECTED / "joint" / "masks", 0, share=0.002)


def test_they_translate_as_they_did(stored, toolkit, tmp_path):
    toolkit("translate", stored("joint"), STORED / "images", "-o", tmp_path / "out", "--device", "cpu")
    assert_close(tmp_path / "out", EXPECTED / "translated", 1)


@pytest.mark.parametrize("name", RUNS)
def test_they_are_measured_and_reported(stored, toolkit, tmp_path, name):
    run = stored(name)
    found = json.loads(toolkit("evaluate", run, "--json", "--device", "cpu").stdout)
    metrics = json.loads((run / "metrics.json").read_text())
    for key in ("dice", "iou"):
        assert found["tests"]["phantom"][key] == pytest.approx(metrics["tests"]["phantom"][key], abs=1e-3)
    toolkit("report", run, "-o", tmp_path / "report.html", "--device", "cpu")
    assert f"{metrics['tests']['phantom']['dice']:.2f}" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("name", RUNS)
def test_they_are_exported(stored, toolkit, tmp_path, name):
    toolkit("export", stored(name), "-o", tmp_path / "model")
    assert (tmp_path / "model" / "model.onnx").stat().st_size


def scalars(folder):
    """Everything that a training has logged but its speed, by iteration and name."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {(line["iteration"], key): line[key] for line in lines for key in line if key != "seconds_per_iteration"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "resumed", "trainings"),
    [("joint", ".", [".", "baseline"]), ("sequential", "translation", ["translation", "fold-1", "fold-2"])],
)
def test_interrupted_ones_are_resumed_to_the_weights_of_the_whole(stored, process, name, resumed, trainings):
    run = stored(f"{name}-interrupted")
    result = process("run", "--run-dir", run, "--resume")
    assert result.returncode == 0, result.stderr
    for training in trainings:
        made, whole = scalars(run / training), scalars(STORED / name / training)
        assert {key for key in made if key[1] not in LATER} == whole.keys()
        rates = {key: rate for key, rate in whole.items() if key[1].startswith("lr/")}
        assert rates
        assert {key: made[key] for key in rates} == pytest.approx(rates)
        if training == resumed:
            far = {key: (made[key], whole[key]) for key in whole if made[key] != pytest.approx(whole[key], abs=CLOSE)}
            assert not far
        else:
            for value in {key[1] for key in whole}:
                apart = [abs(made[key] - whole[key]) for key in whole if key[1] == value]
                assert np.mean(apart) < AS_A_WHOLE, (training, value, apart)
    made, whole = (
        torch.load(folder / resumed / "checkpoints" / "best.pt", weights_only=True)["model"]
        for folder in (run, STORED / name)
    )
    assert made.keys() == whole.keys()
    for key, weights in whole.items():
        assert torch.allclose(made[key].float(), weights.float(), atol=2e-3), key


def test_they_are_resumed_with_their_own_options_alone(stored, toolkit):
    """The digest in their checkpoints is still that of their experiment."""
    run = stored("joint-interrupted")
    refused = toolkit("run", "--run-dir", run, "--resume", "--set", "train.lr=0.5", code=2).stderr
    assert "holds another experiment: train.lr is" in " ".join(refused.split())
