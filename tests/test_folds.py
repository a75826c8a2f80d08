"""Cross-validation inside one run, from the command line to the files."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import TINY_CUT, TINY_TRAINING, command
from PIL import Image
from torch import nn

from transeg.cli import main
from transeg.core.experiment.validation import read_experiment
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.interfaces import Segmenter
from transeg.core.models.ensemble import Ensemble
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.core.training.parts import build_parts
from transeg.core.training.train import InterruptedRunError


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six subjects with two images each in train and val, and two more images to test on."""
    root, rng = tmp_path_factory.mktemp("six-subjects"), np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4), ("test", 2)):
        for index in range(count):
            mask = np.zeros((32, 32), np.uint8)
            mask[rng.integers(4, 12) :, : rng.integers(16, 28)] = 255
            image = np.clip(mask[:, :, None] * 0.5 + rng.integers(0, 120, (32, 32, 3)), 0, 255).astype(np.uint8)
            for folder, pixels in (("images", image), ("masks", mask)):
                (root / split / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / split / folder / f"{split}{index // 2}_{index}.png")
    return root


def line(data, run, *more, folds=3, generator=False, segmenter=True):
    where = f"folder:{data}"
    parts = ["--source", where, "--test", where, "--folds", str(folds)]
    settings = [*TINY_TRAINING, "data.size=32", "segmenter.base=4", "data.source.group='[a-z]+[0-9]+'"]
    if segmenter:
        parts += ["--segmenter", "unet", "--loss", "dice+bce"]
    if generator:
        parts += ["--generator", "cut", "--target", where, "--strategy", "sequential"]
        settings += TINY_CUT
    return command((parts, settings), "--run-dir", run, *more)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "folds"
    result = CliRunner().invoke(main, line(data, folder))
    assert result.exit_code == 0, result.output
    (folder / "stdout.txt").write_text(result.stdout)
    return folder


def names(folder, label):
    return {row.split(",")[0] for row in (folder / "evaluation" / f"{label}.csv").read_text().splitlines()[1:]}


def weights(folder):
    return torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["model"]


def same(a, b):
    return all(torch.equal(value, b[key]) for key, value in a.items())


def test_every_image_is_held_out_once_and_no_group_is_cut(run):
    held = [names(run / f"fold-{number}", "held-out") for number in (1, 2, 3)]
    assert sum(map(len, held)) == len(set.union(*held)) == 12
    groups = [{name.partition("_")[0] for name in each} for each in held]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 6
    assert {"train0", "val0"} <= set.union(*groups)
    metrics = json.loads((run / "metrics.json").read_text())
    assert [fold["images"] for fold in metrics["folds"]["each"].values()] == [8, 8, 8]


def test_folds_are_tested_side_by_side_with_their_mean_and_ensemble(run):
    metrics = json.loads((run / "metrics.json").read_text())
    each, mean = metrics["folds"]["each"], metrics["folds"]["mean"]
    assert list(each) == ["fold-1", "fold-2", "fold-3"]
    dice = [fold["tests"]["six-subjects0"]["dice"] for fold in each.values()]
    assert mean["six-subjects0"]["dice"] == pytest.approx(np.mean(dice))
    assert set(mean) == {"six-subjects0", "held-out"}
    assert metrics["tests"]["six-subjects0"]["images"] == 2
    assert metrics["selection"] == "highest Dice on the images that each fold holds out"
    table = (run / "stdout.txt").read_text()
    for word in (
        "fold-3",
        "mean",
        "ensemble",
        "held-out",
        "in each of 3 folds",
        f"{metrics['tests']['six-subjects0']['dice']:.3f}",
    ):
        assert word in table
    assert not same(weights(run / "fold-1"), weights(run / "fold-2"))


def test_the_run_is_the_ensemble_of_its_folds(run, data, toolkit, tmp_path):
    whole = TrainedModel.load(RunFolder(run), Registry(), "cpu")
    members = [TrainedModel.load(RunFolder(run / f"fold-{number}"), Registry(), "cpu") for number in (1, 2, 3)]
    image = torch.rand(1, 3, 40, 36, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        mean = torch.stack([member.segment(image).sigmoid() for member in members]).mean(0)
        assert torch.allclose(whole.segment(image).sigmoid(), mean, atol=1e-6)
    own = json.loads(toolkit("evaluate", run, "--json", "-o", tmp_path).stdout)["tests"]
    assert own == json.loads((run / "metrics.json").read_text())["tests"]
    toolkit("predict", run, data / "test" / "images", "-o", tmp_path / "p", "--probabilities")
    toolkit("predict", run / "fold-2", data / "test" / "images", "-o", tmp_path / "q")
    toolkit("compare", run / "fold-1", run)
    toolkit(
        *command(
            (
                ["--segmenter", "unet", "--source", f"folder:{data}", "--teacher", str(run)],
                [*TINY_TRAINING, "data.size=32", "segmenter.base=4"],
            ),
            "--run-dir",
            tmp_path / "student",
        )
    )


def test_a_killed_run_goes_on_in_its_fold(run, data, toolkit, tmp_path, monkeypatch):
    import transeg.core.pipeline.stage

    original, calls = transeg.core.pipeline.stage.train, []

    def interrupted(*arguments, **options):
        calls.append(arguments[0].title)
        if len(calls) == 2:
            raise InterruptedRunError("Stopped.")
        original(*arguments, **options)

    monkeypatch.setattr("transeg.core.pipeline.stage.train", interrupted)
    again = f"toolkit run --run-dir {tmp_path / 'run'} --resume"
    said = toolkit(*line(data, tmp_path / "run"), code=1).stderr
    assert again in said.replace("\n", " ")
    said = toolkit("predict", tmp_path / "run", data / "test" / "images", "-o", tmp_path / "o", code=2).stderr
    assert f"{tmp_path / 'run' / 'fold-2'} has no checkpoint yet; train it with: {again}" in said.replace("\n", " ")
    monkeypatch.undo()
    toolkit(*line(data, tmp_path / "run", "--resume"))
    assert calls == ["supervised, fold-1 of 3", "supervised, fold-2 of 3"]
    for number in (1, 2, 3):
        assert same(weights(run / f"fold-{number}"), weights(tmp_path / "run" / f"fold-{number}"))
    assert (
        json.loads((run / "metrics.json").read_text())["tests"]
        == (json.loads((tmp_path / "run" / "metrics.json").read_text())["tests"])
    )


def test_sequential_translates_once_for_all_folds(data, toolkit, tmp_path):
    run = tmp_path / "run"
    toolkit(*line(data, run, "--baseline", "source-only", folds=2, generator=True))
    metrics = json.loads((run / "metrics.json").read_text())
    assert len(list((run / "translated" / "train" / "images").iterdir())) == 8
    assert len(list((run / "translated" / "val" / "images").iterdir())) == 4
    held = [names(run / f"fold-{number}", "held-out") for number in (1, 2)]
    plain = [names(run / "baseline" / f"fold-{number}", "held-out") for number in (1, 2)]
    assert [{name.partition("-")[2] for name in each} for each in held] == plain  # translated, but the same images
    assert set(metrics["baseline"]) == {"six-subjects0"}
    assert (run / "translation" / "checkpoints" / "best.pt").exists()
    toolkit("translate", run, data / "test" / "images", "-o", tmp_path / "t")
    toolkit("evaluate", run / "baseline", "-o", tmp_path / "b")


def test_one_fold_alone_is_what_it_is_among_all(run, data, toolkit, tmp_path):
    said = toolkit(*line(data, tmp_path, "--set", "fold=2")).stdout
    assert "on the images that fold 2 of 3 holds out" in " ".join(said.split())
    assert same(weights(tmp_path), weights(run / "fold-2"))
    metrics, all_folds = (json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path, run))
    assert metrics["tests"] == all_folds["folds"]["each"]["fold-2"]["tests"]
    assert metrics["folds"] is None
    toolkit("predict", tmp_path, data / "test" / "images", "-o", tmp_path / "p")


def test_single_folds_hold_out_what_they_do_together(run):
    experiment = read_experiment(run / "experiment.toml", Registry())
    held = []
    for number in (1, 2, 3):
        parts, _ = build_parts(experiment.model_copy(update={"fold": number}), Registry())
        assert parts.held is None
        held.append({parts.val[index].name for index in range(len(parts.val))})
        learned = {parts.source[index].name for index in range(len(parts.source))}
        assert len(learned) == 8
        assert not learned & held[-1]
    assert held == [names(run / f"fold-{number}", "held-out") for number in (1, 2, 3)]


@pytest.mark.parametrize("strategy", ["sequential", "joint"])
def test_a_generator_of_one_fold_never_sees_what_that_holds_out(data, toolkit, tmp_path, strategy):
    more = ["--set", "fold=2", "--strategy", strategy]
    toolkit(*line(data, tmp_path, *more, "--baseline", "source-only", folds=3, generator=True))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics["baseline"]) == {"six-subjects0"}
    assert set(metrics["tests"]) == ({"six-subjects0", "held-out"} if strategy == "sequential" else {"six-subjects0"})
    if strategy == "sequential":
        learned, held = (list((tmp_path / "translated" / split / "images").iterdir()) for split in ("train", "val"))
        assert (len(learned), len(held)) == (8, 4)
        assert not {path.stem.partition("-")[2] for path in learned} & {path.stem.partition("-")[2] for path in held}
    toolkit("predict", tmp_path, data / "test" / "images", "-o", tmp_path / "p")


@pytest.mark.parametrize(
    ("more", "changes", "said"),
    [
        (
            [],
            {"folds": 7},
            "The source's 12 images make 6 groups (subjects, slides, sequences)",
        ),
        (
            ["--val", "folder:{data}"],
            {},
            "each of the folds holds out images to select its best checkpoint",
        ),
        (["--strategy", "joint"], {"generator": True}, "The strategy joint has no use for folds"),
        (["--set", "folds=1"], {}, "folds cannot be 1"),
        (["--set", "fold=4"], {}, "There is no fold 4; folds=4 or more would make one"),
    ],
)
def test_what_cannot_be_folded(data, toolkit, tmp_path, more, changes, said):
    arguments = line(data, tmp_path / "run", *(text.format(data=data) for text in more), **changes)
    assert said.lower() in " ".join(toolkit(*arguments, code=2).stderr.split()).lower()
    assert not (tmp_path / "run").exists()


def test_label_maps_and_folds_do_not_go_together(data, toolkit, tmp_path):
    settings = [*TINY_TRAINING, "data.size=32", "generator.width=4", "generator.depth=4", "segmenter.base=4"]
    options = ["--generator", "pix2pix", "--segmenter", "unet", "--strategy", "sequential", "--folds", "2"]
    arguments = command(([*options, "--source", f"folder:{data}"], settings), "--run-dir", tmp_path / "run")
    said = " ".join(toolkit(*arguments, code=2).stderr.split())
    assert "made from the label maps that the folds hold out" in said


@pytest.mark.parametrize("channels", [1, 3])
def test_an_ensemble_averages_probabilities(channels):
    class Constant(Segmenter):
        mean, std, size_multiple = (0.3,), (0.2,), 8

        def __init__(self, logits):
            super().__init__()
            self.logits = nn.Parameter(logits)

        def forward(self, image):
            return self.logits.view(1, -1, 1, 1).expand(len(image), -1, *image.shape[2:])

    logits = torch.tensor([[60.0, -3.0, 0.5], [-70.0, 2.0, 0.1]])[:, :channels]
    ensemble = Ensemble([Constant(row) for row in logits])
    assert (ensemble.mean, ensemble.std, ensemble.size_multiple) == ((0.3,), (0.2,), 8)
    found = ensemble(torch.zeros(1, 3, 2, 2))[0, :, 0, 0]
    if channels == 1:
        assert found.sigmoid().item() == pytest.approx(0.5)
        assert torch.isfinite(found).all()
    else:
        assert torch.allclose(found.softmax(0), logits.softmax(1).mean(0), atol=1e-6)
