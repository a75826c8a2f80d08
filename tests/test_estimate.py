"""`predict --estimate` from the command line to the files."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import SUPERVISED, command
from evaluations import read_rows
from PIL import Image

import transeg
from transeg.core.claims import NOTE
from transeg.core.evaluation.expected_dice import Calibration
from transeg.core.evaluation.metrics.counts import mask_dice
from transeg.core.inference.trained_model import TrainedModel


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for name, size in (("a.png", (50, 30)), ("b.jpg", (31, 77)), ("c.png", (40, 40))):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def run(joint_run, tmp_path_factory):
    """A run of one's own, which may be written to."""
    return shutil.copytree(joint_run, tmp_path_factory.mktemp("own") / "run")


def lines(folder):
    return read_rows(folder / "estimate.csv")


def said(result):
    return " ".join((result.stdout + result.stderr).split())


def test_without_the_option_nothing_is_estimated(run, toolkit, images, tmp_path):
    toolkit("predict", run, images, "-o", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"masks", "overlays", NOTE}
    assert not (run / "calibration.json").exists()


def test_a_line_for_each_image_by_a_calibration_that_is_made_once(run, toolkit, images, tmp_path):
    toolkit("predict", run, images, "-o", tmp_path / "plain", "--probabilities")
    output = toolkit("predict", run, images, "-o", tmp_path / "out", "--probabilities", "--estimate", 0)
    assert "calibrating on held-out images" in output.stderr
    found = lines(tmp_path / "out")
    assert [line["image"] for line in found] == ["a", "b", "c"]
    stored = json.loads((run / "calibration.json").read_text())
    calibration = Calibration(tuple(stored["temperatures"]), tuple(stored["always"]))
    for line in found:
        kinds = {}
        for kind in ("masks", "probabilities"):
            written, same = (tmp_path / out / kind / f"{line['image']}.png" for out in ("out", "plain"))
            assert written.read_bytes() == same.read_bytes()
            kinds[kind] = np.asarray(Image.open(written))
        chances = torch.tensor(kinds["probabilities"].astype(np.float64) / 65535).clamp(1e-6, 1 - 1e-6)
        expected = calibration.expected_dice(torch.logit(chances)[None].float())[0]
        if not kinds["masks"].any():
            assert line["estimated_dice"] in ("", "0.000000")
        else:
            assert float(line["estimated_dice"]) == pytest.approx(expected, abs=2e-3)
        assert line["verdict"] in ("", "nothing found")
    model = transeg.load(run, device="cpu")
    in_python = model.estimate([images / "a.png", images / "b.jpg", images / "c.png"])
    assert [f"{value:.6f}" for value in in_python] == [line["estimated_dice"] or "nan" for line in found]
    assert model.estimate(np.asarray(Image.open(images / "a.png"))) == pytest.approx(in_python[0], nan_ok=True)
    (run / "calibration.json").write_text(json.dumps({**stored, "temperatures": [50, 50]}))
    again = toolkit("predict", run, images, "-o", tmp_path / "again", "--estimate", 0)
    assert "calibrating" not in again.stderr
    assert [line["estimated_dice"] for line in lines(tmp_path / "again")] != [line["estimated_dice"] for line in found]
    toolkit("predict", run, images, "-o", tmp_path / "flips", "--estimate", 0, "--flips")
    assert json.loads((run / "calibration.json").read_text())["made_for"]["flips"] is True


@pytest.fixture
def surely(monkeypatch):
    """Let segmenters find an object of everything, or of nothing, and be as sure as a logit says."""

    def set_logit(logit):
        def segment(self, image, places=None):
            return torch.full((len(image), 1, *image.shape[2:]), logit)

        monkeypatch.setattr(TrainedModel, "segment", segment)

    return set_logit


def test_the_words_for_what_is_below_the_bound(surely, run, toolkit, images, tmp_path):
    all_of_it = shutil.copytree(run, tmp_path / "all")
    (all_of_it / "calibration.json").unlink(missing_ok=True)
    surely(3.0)
    output = said(toolkit("predict", all_of_it, images, "-o", tmp_path / "out", "--estimate", 0.9))
    found = lines(tmp_path / "out")
    dice = [float(line["estimated_dice"]) for line in found]
    assert [line["verdict"] for line in found] == ["do not use"] * 3
    share = dice[0] / (
        2 - dice[0]
    )  # what is everywhere has 2 p / (1 + p), and p is the objects' share where it was learned
    assert 0.02 < share < 0.8
    assert f"Estimated Dice: {np.mean(dice):.3f}" in output
    assert "(do not use: below 0.9; do not use 3 of 3 images)" in output
    output = said(toolkit("predict", all_of_it, images, "-o", tmp_path / "low", "--estimate", 0.01))
    assert "do not use" not in output
    assert [line["verdict"] for line in lines(tmp_path / "low")] == [""] * 3


def test_where_nothing_is_found(surely, run, toolkit, images, tmp_path):
    none_of_it = shutil.copytree(run, tmp_path / "none")
    (none_of_it / "calibration.json").unlink(missing_ok=True)
    surely(-3.0)
    output = said(toolkit("predict", none_of_it, images, "-o", tmp_path / "out", "--estimate", 0.5))
    always = json.loads((none_of_it / "calibration.json").read_text())["always"]
    assert always == [True]  # every phantom has an object, so these images have missed theirs
    assert [line["estimated_dice"] for line in lines(tmp_path / "out")] == ["0.000000"] * 3
    assert "do not use 3 of 3 images" in output
    stored = json.loads((none_of_it / "calibration.json").read_text())
    (none_of_it / "calibration.json").write_text(json.dumps({**stored, "always": [False]}))
    output = said(toolkit("predict", none_of_it, images, "-o", tmp_path / "may", "--estimate", 0.5))
    assert "nothing was found in any of 3 images" in output
    found = lines(tmp_path / "may")
    assert [(line["estimated_dice"], line["verdict"]) for line in found] == [("", "nothing found")] * 3


def test_agreement_of_a_segmenter_and_its_average(run, toolkit, images, tmp_path):
    teacher = shutil.copytree(run, tmp_path / "teacher")
    path = teacher / "checkpoints" / "best.pt"
    state = torch.load(path, weights_only=True)
    drawn = torch.Generator().manual_seed(0)
    student = {key: value for key, value in state["model"].items() if key.startswith("segmenter.")}
    state["segmenter average"] = {
        key: value + 0.02 * torch.randn(value.shape, generator=drawn)
        for key, value in student.items()
        if key.endswith(("weight", "bias"))
    }
    torch.save(state, path)
    toolkit("predict", teacher, images, "-o", tmp_path / "out", "--estimate", 0)
    state["averages"] = state.pop("segmenter average")
    torch.save(state, path)
    toolkit("predict", teacher, images, "-o", tmp_path / "of-average", "--estimate", 0)
    for line, other in zip(lines(tmp_path / "out"), lines(tmp_path / "of-average"), strict=True):
        first, second = (
            torch.tensor(np.asarray(Image.open(tmp_path / out / "masks" / f"{line['image']}.png")) > 0).long()
            for out in ("out", "of-average")
        )
        expected = mask_dice(first, second, 2)
        for each in (line, other):
            assert each["agreement"] == ("" if np.isnan(expected) else f"{expected:.6f}")


def test_several_classes_have_a_column_each(toolkit, tmp_path):
    random = np.random.default_rng(0)
    for index in range(10):
        mask = random.integers(0, 3, (32, 32), dtype=np.uint8)
        for folder, pixels in (("images", 80 * mask), ("masks", mask)):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "data" / folder / f"{index}.png")
    settings = {
        "segmenter.base": 4,
        "data.size": 32,
        "data.source": {"classes": ["background", "a", "b"], "channels": 1},
        "train": {"iterations": 3, "batch_size": 2},
        "device": "cpu",
    }
    experiment = transeg.Experiment(segmenter="unet", source=f"folder:{tmp_path / 'data'}", set=settings)
    run = transeg.train(experiment, tmp_path / "run")
    toolkit("predict", run, tmp_path / "data" / "images", "-o", tmp_path / "out", "--estimate", 0.5)
    found = lines(tmp_path / "out")
    assert len(found) == 10
    for line in found:
        of_classes = [line[f"estimated_dice_{name}"] for name in "ab"]
        defined = [float(value) for value in of_classes if value]
        assert float(line["estimated_dice"]) == pytest.approx(np.mean(defined), abs=2e-6)


@pytest.mark.parametrize("lost", ["moved", "never"])
def test_a_run_without_held_out_images_is_told_of(toolkit, images, tmp_path, lost):
    """They were moved away, or there have never been any."""
    for index in range(10):
        for folder in ("images", "masks"):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            pixels = np.zeros((32, 32, 3)[: 3 if folder == "images" else 2], np.uint8)
            pixels[: 2 * index + 3] = 255
            Image.fromarray(pixels).save(tmp_path / "data" / folder / f"{index}.png")
    own = [each for each in SUPERVISED[1] if "data.source" not in each]
    ratio = ["data.source.ratio=[1.0, 0.0, 0.0]"] if lost == "never" else []
    options = [*SUPERVISED[0], "--source", f"folder:{tmp_path / 'data'}", "--test", "phantom"]
    toolkit(*command((options, [*own, *ratio]), "--run-dir", tmp_path / "run"))
    if lost == "moved":
        (tmp_path / "data").rename(tmp_path / "elsewhere")
    result = toolkit("predict", tmp_path / "run", images, "-o", tmp_path / "out", "--estimate", 0.5, code=2)
    sentence = {"moved": "they cannot be read: ", "never": "has held out none; say which with --val when you train."}
    assert sentence[lost] in said(result)
    assert "--estimate needs" in said(result)
    assert not (tmp_path / "out").exists()


def test_what_is_too_large_to_be_held_is_said_before_anything_is_done(run, toolkit, images, tmp_path, monkeypatch):
    monkeypatch.setattr("transeg.core.inference.large_image.LARGE", 50 * 30)
    result = toolkit("predict", run, images, "-o", tmp_path / "out", "--window", 16, "--estimate", 0.5, code=2)
    assert f"--estimate: {images / 'b.jpg'} is too large" in said(result).replace("- ", "-")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["scope.mp4", "scan.nii.gz"])
@pytest.mark.parametrize("bound", [0, 0.7])
def test_other_files_than_images_are_refused(toolkit, run, tmp_path, name, bound):
    (tmp_path / name).touch()
    result = toolkit("predict", run, tmp_path / name, "-o", tmp_path / "out", "--estimate", bound, code=2)
    assert "--estimate is for image files, and" in said(result)
    assert not (tmp_path / "out").exists()
