"""The strategy self-training: its teacher is validated and used, and a run goes on as if nothing had happened."""

import json

import pytest
import torch
from conftest import BOTH, TINY_DATA, TINY_TARGET, TINY_TEST, TINY_TRAINING, command

WAYS = {
    "alone": (
        ["--strategy", "self-training", "--segmenter", "unet"],
        [*TINY_DATA, *TINY_TRAINING, *TINY_TARGET, *TINY_TEST, "segmenter.base=4", "baseline=none"],
    ),
    "with hidden parts": (
        ["--strategy", "self-training", "--segmenter", "unet"],
        [
            *[*TINY_DATA, *TINY_TRAINING, *TINY_TARGET, *TINY_TEST, "segmenter.base=4", "baseline=none"],
            *["strategy.masking=true", "strategy.masking_block=8", "strategy.mixing=cutmix"],
        ],
    ),
    "with labels of the epoch": (
        [*BOTH[0], "--strategy", "self-training"],
        [*BOTH[1], "baseline=none", "strategy.labels=epoch", "strategy.schedule=linear", "data.samples_per_epoch=2"],
    ),
    "with a generator": ([*BOTH[0], "--strategy", "self-training"], [*BOTH[1], "baseline=none"]),
}


def last(run):
    return torch.load(run / "checkpoints" / "last.pt", weights_only=True)


@pytest.mark.parametrize("way", [way for way in WAYS if "epoch" not in way])
def test_the_teacher_is_validated_and_predicts(toolkit, tmp_path, way):
    """With the best checkpoint's averages as weights, and no averages, the tests say the same; without, another."""
    run = tmp_path / "run"
    toolkit(*command(WAYS[way], "--run-dir", run, "--set", "train.lr=0.05"))
    tested = json.loads((run / "metrics.json").read_text())["tests"]
    path = run / "checkpoints" / "best.pt"
    state = torch.load(path, weights_only=True)
    averages = state.pop("averages")
    assert {key.partition(".")[0] for key in averages} == {"segmenter"}
    assert any(not torch.equal(average, state["model"][key]) for key, average in averages.items())

    def evaluated(model):
        torch.save({**state, "model": model}, path)
        return json.loads(toolkit("evaluate", run, "--json", "--out", tmp_path / "out").stdout)["tests"]

    assert evaluated({**state["model"], **averages}) == tested
    assert evaluated(state["model"]) != tested


@pytest.mark.parametrize("way", WAYS)
def test_a_resumed_run_ends_as_an_unbroken_one(toolkit, tmp_path, way, monkeypatch):
    from transeg.core.training.hooks.checkpoints import CheckpointHook

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    toolkit(*command(WAYS[way], "--run-dir", whole))
    save = CheckpointHook._save

    def save_and_stop(self, runner):
        save(self, runner)
        if runner.iter == 2:
            raise InterruptedError

    with monkeypatch.context() as patched:
        patched.setattr(CheckpointHook, "_save", save_and_stop)
        toolkit(*command(WAYS[way], "--run-dir", cut), code=1)
    toolkit("run", "--run-dir", cut, "--resume")
    one, other = last(whole), last(cut)
    assert one["iteration"] == other["iteration"] == 3
    for part in ("model", "averages"):
        assert one[part].keys() == other[part].keys()
        assert all(torch.equal(value, other[part][key]) for key, value in one[part].items())


def test_labels_of_the_epoch_have_a_labeller_and_no_average(toolkit, tmp_path):
    toolkit(*command(WAYS["with labels of the epoch"], "--run-dir", tmp_path / "run"))
    state = last(tmp_path / "run")
    assert not state["averages"]
    assert any(key.startswith("on_target.labeller.") for key in state["model"])


def test_how_far_the_teacher_reaches_back_is_shortened_unless_it_is_said(toolkit, tmp_path):
    shortened, said = tmp_path / "shortened", tmp_path / "said"
    toolkit(*command(WAYS["alone"], "--run-dir", shortened))
    toolkit(*command(WAYS["alone"], "--run-dir", said, "--set", "train.ema=0.5"))
    one, other = last(shortened)["averages"], last(said)["averages"]
    assert all(torch.equal(average, other[key]) for key, average in one.items())  # three iterations: 0.5


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--source", "phantom"], "needs images of the target domain; say --target"),
        (["--generator", "pix2pix"], "the generator pix2pix learns from pairs alone; name another generator"),
        (["--set", "strategy.weight=1"], "strategy.weight counts for nothing without --generator NAME"),
        (
            ["--set", "strategy.masking_block=8"],
            "strategy.masking_block counts for nothing without strategy.masking=tr",
        ),
        (["--set", "strategy.labels=epoch", "--set", "strategy.mixing=off"], "nothing without strategy.labels=teacher"),
        (["--set", "strategy.share=step"], "strategy.share counts for nothing without strategy.labels=epoch"),
        (["--set", "strategy.threshold=1"], "strategy.threshold cannot be 1"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(toolkit, more, words):
    line = ["--strategy", "self-training", "--segmenter", "unet", "--loss", "bce"]
    assert words in " ".join(toolkit("run", *line, *more, "--dry-run", code=2).stderr.split())


def test_a_segmenter_cannot_see_images_of_different_channels(toolkit, tmp_path):
    toolkit("data", "convert", "phantom:scope", f"folder:{tmp_path / 'grey'}", "--set", "count=8", "--set", "side=32")
    line = ["--strategy", "self-training", "--segmenter", "unet", "--source", "phantom"]
    grey = ["--target", f"folder:{tmp_path / 'grey'}", "--set", "data.target.channels=1"]
    said = toolkit("run", *line, *grey, "--dry-run", code=2).stderr
    assert "Source images have 3 channels and target images 1" in " ".join(said.split())


def test_agreement_about_target_images_selects(toolkit, tmp_path):
    settings = ["train.selection=agreement", "train.iterations=6", "train.val_interval=2", "train.watch_tests=2"]
    toolkit(*command(WAYS["alone"], "--run-dir", tmp_path / "run", "--set", *settings))
    table = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert table["selection"] == "highest agreement of the segmenter and its moving average about target images"
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    agreed = {line["iteration"]: line["val/agreement"] for line in lines if "val/agreement" in line}
    assert list(agreed) == [2, 4, 6]
    assert table["best_iteration"] == max(agreed, key=agreed.get)
    assert {"watch/entropy", "watch/agreement"} <= set().union(*lines)


def test_agreement_needs_target_images(toolkit):
    said = toolkit("run", "--segmenter", "unet", "--dry-run", "--set", "train.selection=agreement", code=2).output
    assert "train.selection=agreement needs target images; say --target NAME:FOLDER" in " ".join(said.split())
