"""Runs from the command line to the folder that they leave."""

import csv
import json
import multiprocessing
import tomllib

import numpy as np
import pytest
import tifffile
import torch
from conftest import BOTH, SUPERVISED, TINY_CUT, TINY_TRAINING, TRANSLATION, command
from PIL import Image

from transeg.core.data.images import read_image
from transeg.core.inference.sliding_window import Inference
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.core.training import precision
from transeg.plugins.strategies.supervised import Supervised

FOLDER = {"experiment.toml", "environment.json", "checkpoints", "metrics.jsonl", "metrics.json", "previews"}


def weights(folder, name="last"):
    return torch.load(folder / "checkpoints" / f"{name}.pt", weights_only=True)["model"]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_validations_see_so_many_images(toolkit, tmp_path):
    run, settings = tmp_path / "run", ["--set", "data.val_limit=1", "--set", "data.source.count=20"]
    toolkit(*command(SUPERVISED, "--run-dir", run, *settings))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {line["val/images"] for line in lines if "val/images" in line} == {1}
    assert "(1 of 2 images)" in " ".join(toolkit(*command(SUPERVISED, "--dry-run", *settings)).stdout.split())


def test_joint(joint_run):
    assert {path.name for path in joint_run.iterdir()} >= FOLDER
    metrics = json.loads((joint_run / "metrics.json").read_text())
    assert set(metrics["tests"]["phantom"]) >= {"dice", "iou", "images", "precision", "recall", "mae", "dice_pooled"}
    assert metrics["tests"]["phantom"]["images"] == 2
    assert set(metrics["baseline"]) == {"phantom"}  # the phantom's preset asks for it
    assert "source, translated" in metrics["selection"]
    lines = [json.loads(line) for line in (joint_run / "metrics.jsonl").read_text().splitlines()]
    assert {"train/D_fake", "train/G_GAN", "train/NCE", "train/structure"} <= set(lines[-2])
    assert {"val/dice", "val/shift"} <= set(lines[-1])
    assert {key.partition(".")[0] for key in weights(joint_run)} == {"generator", "segmenter"}
    assert Image.open(joint_run / "previews" / "final.png").size[0] > 1000
    assert (joint_run / "previews" / "000003.png").exists()
    environment = json.loads((joint_run / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__
    assert (joint_run / "evaluation" / "phantom.csv").read_text().count("\n") == 3
    assert list((joint_run / "tensorboard").iterdir())


def test_the_experiment_file_runs_again_to_the_same_bytes(joint_run, toolkit, tmp_path):
    toolkit("run", "--config", joint_run / "experiment.toml", "--run-dir", tmp_path / "again")
    assert same(weights(joint_run), weights(tmp_path / "again"))
    first, again = (tomllib.loads((f / "experiment.toml").read_text()) for f in (joint_run, tmp_path / "again"))
    assert first == again


def test_supervised(toolkit, tmp_path):
    result = toolkit(*command(SUPERVISED, "--run-dir", tmp_path / "run"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["baseline"] is None
    assert f"{metrics['tests']['phantom']['dice']:.3f}" in result.stdout


def test_translation(toolkit, tmp_path):
    toolkit(*command(TRANSLATION, "--run-dir", tmp_path / "run"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["tests"] == {}
    assert metrics["selection"] == "the last iteration"
    assert (tmp_path / "run" / "checkpoints" / "best.pt").exists()
    assert (tmp_path / "run" / "previews" / "final.png").exists()


def test_sequential(toolkit, tmp_path):
    run = tmp_path / "run"
    toolkit(*command(BOTH, "--strategy", "sequential", "--run-dir", run, "--set", "baseline=none"))
    assert {path.name for path in run.iterdir()} >= {*FOLDER, "translation", "translated"}
    images = sorted((run / "translated" / "train" / "images").iterdir())
    masks = sorted((run / "translated" / "train" / "masks").iterdir())
    assert [i.name for i in images] == [m.name for m in masks]
    assert len(images) == 10
    assert Image.open(images[0]).size == Image.open(masks[0]).size == (32, 32)
    assert set(np.unique(np.asarray(Image.open(masks[0])))) <= {0, 1}
    manifest = json.loads((run / "translated" / "manifest.json").read_text())
    assert manifest[images[0].stem]["name"] == "000000-clean-train-0000"
    assert manifest[images[0].stem]["group"] == "clean-train-0000"
    assert {key.partition(".")[0] for key in weights(run)} == {"segmenter"}
    assert {key.partition(".")[0] for key in weights(run / "translation")} == {"generator"}
    with (run / "translated" / "labels.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["split"] == "train"]
    assert [line["name"].partition("-")[2] for line in lines] == [manifest[image.stem]["name"][7:] for image in images]
    assert not any(line["dice"] for line in lines)


def test_images_whose_labels_fit_worst_are_left_out(toolkit, tmp_path, monkeypatch):
    learned = []
    supervised = Supervised.task
    monkeypatch.setattr(Supervised, "task", lambda *given: (learned.append(given[2].source), supervised(*given))[1])
    parts = command(BOTH, "--strategy", "sequential", "--set", "baseline=none", "--set", "strategy.quarantine=0.25")
    toolkit(*parts, "--run-dir", tmp_path / "run")
    with (tmp_path / "run" / "translated" / "labels.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["split"] == "train"]
    shifts = {line["name"]: np.hypot(float(line["shift_rows"]), float(line["shift_columns"])) for line in lines}
    (source,) = learned
    names = {source[index].name for index in range(len(source))}
    assert len(names) == 8
    assert {name for name in shifts if name not in names} == set(sorted(shifts, key=shifts.get)[-2:])


def test_the_baseline_starts_from_the_same_weights(toolkit, tmp_path):
    """With a learning rate that moves nothing, both segmenters are what they began as."""
    run = tmp_path / "run"
    toolkit(*command(BOTH, "--run-dir", run, "--set", "train.lr=1e-30", "--baseline", "source-only"))
    joint = {key: value for key, value in weights(run).items() if key.startswith("segmenter.") and "running" not in key}
    plain = weights(run / "baseline")
    assert all(
        torch.allclose(value.float(), plain[key].float(), atol=1e-6)
        for key, value in joint.items()
        if "num_batches" not in key
    )


def test_a_labelled_validation_set_selects(toolkit, tmp_path):
    run = tmp_path / "run"
    val = ["--val", "phantom:scope", "--set", "data.val.count=10", "--set", "data.val.side=32"]
    toolkit(*command(BOTH, "--run-dir", run, "--baseline", "none", *val))
    assert "labelled validation images of phantom" in json.loads((run / "metrics.json").read_text())["selection"]


def test_one_target_image_is_enough(toolkit, tmp_path):
    result = toolkit(
        *command(BOTH, "--run-dir", tmp_path / "run", "--set", "data.target_limit=1", "--baseline", "none")
    )
    assert "1 of 10 images" in result.stdout


def test_a_norm_of_a_single_value_is_said_in_a_sentence(toolkit, tmp_path):
    """Sixteen pixels are halved four times."""
    settings = ["--set", "data.size=16", "--set", "train.batch_size=1"]
    said = toolkit(*command(SUPERVISED, "--run-dir", tmp_path / "run", *settings), code=1).stderr
    words = "At 16x16 pixels and train.batch_size=1, a norm of a network has a single value to normalise; raise"
    assert words in " ".join(said.split())


def test_sums_of_losses(toolkit, tmp_path):
    """And steps at several scales of each batch."""
    more = ["--loss", "dice+0.5*bce", "--set", "train.scales=[0.5,1]"]
    toolkit(*command(SUPERVISED, "--run-dir", tmp_path / "run", *more))
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-2])
    assert {"train/dice", "train/bce", "train/dice_0.5", "train/bce_0.5"} <= set(line)


def test_transforms_from_the_experiment_file(toolkit, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[[augmentation.transforms]]\nname = "VerticalFlip"\np = 1.0\n')
    toolkit(*command(SUPERVISED, "--run-dir", tmp_path / "run", "--config", file))
    stored = tomllib.loads((tmp_path / "run" / "experiment.toml").read_text())
    assert stored["augmentation"] == {"transforms": [{"name": "VerticalFlip", "p": 1.0}]}


@pytest.mark.parametrize("seed", [1, 2])
def test_the_seed_decides(toolkit, tmp_path, seed):
    for name in "ab":
        toolkit(*command(SUPERVISED, "--run-dir", tmp_path / name, "--seed", seed))
    toolkit(*command(SUPERVISED, "--run-dir", tmp_path / "c", "--seed", seed + 10))
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_workers_do_not_matter_and_end_with_their_training(toolkit, tmp_path):
    others = multiprocessing.active_children()
    for workers in (0, 2):
        toolkit(*command(SUPERVISED, "--run-dir", tmp_path / str(workers), "--set", f"data.workers={workers}"))
    assert same(weights(tmp_path / "0"), weights(tmp_path / "2"))
    assert set(multiprocessing.active_children()) <= set(others)  # else PyTorch waits ten seconds for each, some time


def test_weights_of_one_run_begin_another(joint_run, toolkit, tmp_path):
    checkpoint = joint_run / "checkpoints" / "best.pt"
    settings = [f"segmenter.weights={checkpoint}", "train.lr=1e-30"]
    toolkit(*command(SUPERVISED, "--run-dir", tmp_path / "run", *(t for s in settings for t in ("--set", s))))
    begun, best = weights(tmp_path / "run"), weights(joint_run, "best")
    assert torch.allclose(begun["segmenter.seg_head.weight"], best["segmenter.seg_head.weight"])


class TestUse:
    def test_evaluate(self, joint_run, toolkit, tmp_path):
        own = json.loads(toolkit("evaluate", joint_run, "--json", "--out", tmp_path).stdout)
        assert own["tests"] == json.loads((joint_run / "metrics.json").read_text())["tests"]
        assert (tmp_path / "phantom.csv").exists()
        table = toolkit("evaluate", joint_run, "--test", "phantom", "--test", "phantom:clean", "--out", tmp_path).stdout
        assert "phantom-clean" in table

    def test_a_named_test_on_the_sources_own_data_takes_its_options(self, joint_run, toolkit, tmp_path):
        """The source has 10 images; the phantom's own number is 200."""
        result = toolkit("evaluate", joint_run, "--test", "phantom", "--out", tmp_path, "--json")
        assert json.loads(result.stdout)["tests"]["phantom"]["images"] == 2

    def test_evaluate_with_windows_and_flips(self, joint_run, toolkit, tmp_path):
        own = {path: path.read_bytes() for path in (joint_run / "evaluation").rglob("*.*")}
        before = set((joint_run / "evaluations").glob("*"))
        toolkit("evaluate", joint_run, "--window", 24, "--flips", "--split", "val")
        (new,) = set((joint_run / "evaluations").glob("*")) - before
        assert new.name.startswith("phantom-20")
        assert (new / "phantom.csv").exists()
        assert {path: path.read_bytes() for path in (joint_run / "evaluation").rglob("*.*")} == own

    def test_predict(self, joint_run, toolkit, tmp_path):
        images = tmp_path / "images"
        images.mkdir()
        for name, size in (("a.png", (50, 30)), ("b.jpg", (31, 77))):
            Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(
                images / name
            )
        toolkit("predict", joint_run, images, "-o", tmp_path / "out", "--probabilities", "--flips")
        mask = np.asarray(Image.open(tmp_path / "out" / "masks" / "a.png"))
        assert mask.shape == (30, 50)
        assert set(np.unique(mask)) <= {0, 255}
        likely = np.asarray(Image.open(tmp_path / "out" / "probabilities" / "a.png"))
        assert ((likely > 65535 / 2) == (mask > 0)).mean() > 0.999
        assert Image.open(tmp_path / "out" / "overlays" / "a.jpg").size == (50, 30)
        assert Image.open(tmp_path / "out" / "overlays" / "b.jpg").size == (31, 77)

    def test_predict_without_overlays_and_by_images_of_one_size(self, joint_run, toolkit, tmp_path, monkeypatch):
        images = tmp_path / "images"
        images.mkdir()
        random = np.random.default_rng(0)
        for number, side in enumerate((40, 40, 40, 56, 40)):
            pixels = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(images / f"{number}.png")
        (images / "1b.png").write_text("nothing")
        said = toolkit("predict", joint_run, images, "-o", tmp_path / "alone", "--no-overlays", "--window", 0, code=1)
        assert "outlines" not in said.stdout
        assert "1b.png" in said.stderr
        assert not (tmp_path / "alone" / "overlays").exists()
        monkeypatch.setattr(Inference, "fits", lambda self, image, others, device: image.shape == others[0].shape)
        toolkit("predict", joint_run, images, "-o", tmp_path / "together", "--window", 0, code=1)
        for number in range(5):
            alone, together = (
                np.asarray(Image.open(tmp_path / kind / "masks" / f"{number}.png")) for kind in ("alone", "together")
            )
            assert (alone == together).mean() > 0.999  # a batch may be rounded in another way

    def test_predict_one_file_without_the_data(self, joint_run, toolkit, tmp_path):
        Image.new("L", (40, 40)).save(tmp_path / "grey.png")
        result = toolkit("predict", joint_run, tmp_path / "grey.png", "-o", tmp_path / "out", "--window", 16)
        assert "1 masks" in result.stdout

    def test_translate(self, joint_run, toolkit, tmp_path):
        Image.new("RGB", (45, 33), (200, 100, 80)).save(tmp_path / "a.png")
        toolkit("translate", joint_run, tmp_path / "a.png", "-o", tmp_path / "out")
        assert Image.open(tmp_path / "out" / "a.png").size == (45, 33)

    def test_what_a_run_has_not_learned_it_cannot_do(self, toolkit, tmp_path):
        Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
        toolkit(*command(SUPERVISED, "--run-dir", tmp_path / "s"))
        toolkit(*command(TRANSLATION, "--run-dir", tmp_path / "t"))
        assert "cannot translate" in toolkit("translate", tmp_path / "s", tmp_path, "-o", tmp_path / "o", code=2).stderr
        assert "cannot segment" in toolkit("predict", tmp_path / "t", tmp_path, "-o", tmp_path / "o", code=2).stderr

    def test_sequential_runs_translate_too(self, toolkit, tmp_path):
        run = tmp_path / "run"
        toolkit(*command(BOTH, "--strategy", "sequential", "--run-dir", run, "--set", "baseline=none"))
        Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
        toolkit("translate", run, tmp_path / "a.png", "-o", tmp_path / "o")
        toolkit("predict", run, tmp_path / "a.png", "-o", tmp_path / "o")


def labelled_folder(root, channels, classes):
    rng = np.random.default_rng(0)
    for index in range(10):
        image = rng.integers(0, 256, (40, 36, channels), dtype=np.uint8).squeeze()
        mask = rng.integers(0, classes, (40, 36), dtype=np.uint8) * (255 if classes == 2 else 1)
        for name, pixels in (("images", image), ("masks", mask)):
            (root / name).mkdir(parents=True, exist_ok=True)
            if pixels.ndim == 3 and pixels.shape[2] > 4:
                tifffile.imwrite(root / name / f"{index}.tif", pixels, photometric="minisblack", planarconfig="contig")
            else:
                Image.fromarray(pixels).save(root / name / f"{index}.png")


@pytest.mark.parametrize("strategy", ["joint", "sequential"])
@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (5, 2), (3, 4)])
def test_grey_many_channels_and_many_classes(toolkit, tmp_path, strategy, channels, classes):
    labelled_folder(tmp_path / "set", channels, classes)
    data = f"folder:{tmp_path / 'set'}"
    names = [f"c{i}" for i in range(classes)]
    settings = [
        *TINY_TRAINING,
        *TINY_CUT,
        "data.size=32",
        "segmenter.base=4",
        *(f"data.{role}.channels={channels}" for role in ("source", "target", "test.folder")),
        *(f"data.{role}.classes={names}" for role in ("source", "target", "test.folder")),
    ]
    options = ["--generator", "cut", "--segmenter", "unet", "--source", data, "--target", data, "--test", data]
    run = tmp_path / "run"
    toolkit(*command((options, settings), "--strategy", strategy, "--run-dir", run, "--loss", "dice+bce"))
    metrics = json.loads((run / "metrics.json").read_text())["tests"]["set"]
    assert metrics["images"] == 2
    if classes > 2:
        assert {f"dice_{name}" for name in names[1:]} <= set(metrics)
    picture = min((tmp_path / "set" / "images").iterdir())
    toolkit("predict", run, picture, "-o", tmp_path / "out", "--probabilities")
    mask = np.asarray(Image.open(tmp_path / "out" / "masks" / "0.png"))
    assert mask.shape == (40, 36)
    assert mask.max() <= (255 if classes == 2 else classes - 1)
    toolkit("translate", run, picture, "-o", tmp_path / "translated")
    (translated,) = (tmp_path / "translated").glob("[!.]*")
    assert read_image(translated, channels).shape == (40, 36, channels)


def test_the_plan_says_how_a_training_computes_where_that_is_unusual(toolkit):
    line = command(SUPERVISED, "--dry-run")
    plain = " ".join(toolkit(*line).stdout.split())
    assert "precision" not in plain
    assert "compile" not in plain
    more = ["--precision", "bf16", "--compile", "--set", "train.accumulation=4", "--set", "train.clip=1"]
    more += ["--set", "train.clip_value=0.5", "--set", "train.scales=[0.75,1]", "--set", "train.betas=[0.5,0.999]"]
    text = " ".join(toolkit(*line, *more).stdout.split())
    scaled = "scales (0.75, 1.0), betas (0.5, 0.999)"
    assert f"precision bf16, accumulation 4, {scaled}, clip 1.0, clip_value 0.5, compile True" in text
    assert "precision" not in " ".join(toolkit(*line, *more, "--precision", "fp32").stdout.split())


def test_averages_of_a_segmenter_are_what_a_run_is_used_with(toolkit, tmp_path):
    """In two stages, the first of which has no segmenter; each step leaves a half of the average."""
    settings = [*BOTH[1], "train.ema=0.5", "train.accumulation=2", "train.batch_size=1", "baseline=none"]
    toolkit(*command((BOTH[0], settings), "--strategy", "sequential", "--run-dir", tmp_path))
    state = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)
    weights = [key for key, tensor in state["model"].items() if key in state["averages"]]
    assert weights
    assert any(not torch.equal(state["averages"][key], state["model"][key]) for key in weights)
    used = TrainedModel.load(RunFolder(tmp_path), Registry(), "cpu", layers=True).segmenter.state_dict()
    best = torch.load(tmp_path / "checkpoints" / "best.pt", weights_only=True)["averages"]
    assert all(torch.equal(used[key.removeprefix("segmenter.")], best[key]) for key in weights)


def test_averages_need_a_segmenter(toolkit):
    result = toolkit(*command(TRANSLATION, "--dry-run", "--set", "train.ema=0.9"), code=2)
    assert "train.ema averages the weights of a segmenter, and there is none" in " ".join(result.stderr.split())


def test_an_emulated_precision_is_warned_of(toolkit, tmp_path, monkeypatch):
    described = tmp_path / "cpuinfo"
    described.write_text("flags : avx2")
    monkeypatch.setattr(precision, "DESCRIPTION", described)
    result = toolkit(*command(SUPERVISED, "--precision", "bf16", "--run-dir", tmp_path / "run"))
    assert "cannot compute in bf16 and emulates it" in " ".join(result.stderr.split())
