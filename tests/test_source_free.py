"""Self-training without a source: from the segmenter of a run, on target images alone."""

import json
import shutil

import pytest
import torch
from conftest import TINY_TARGET, TINY_TEST, TINY_TRAINING, command

from transeg.core.training.hooks.checkpoints import CheckpointHook

TARGET = ["--strategy", "self-training", "--target", "phantom:scope", "--test", "phantom:scope"]


@pytest.fixture(scope="module")
def begun(joint_run, tmp_path_factory):
    """A finished run, moved to where it was not trained."""
    return shutil.copytree(joint_run, tmp_path_factory.mktemp("sent") / "run")


def weights(run, prefix="segmenter."):
    model = torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"]
    return {key: value for key, value in model.items() if key.startswith(prefix)}


def test_it_begins_with_the_run_and_learns_from_the_target_alone(toolkit, begun, tmp_path):
    run = tmp_path / "run"
    still = [*TINY_TRAINING, *TINY_TARGET, *TINY_TEST, "train.lr=1e-30"]  # too little to move a float
    toolkit(*command((["--from", str(begun), *TARGET], still), "--run-dir", run))
    best = torch.load(begun / "checkpoints" / "best.pt", weights_only=True)["model"]
    learned = [key for key in weights(run) if key.endswith(("weight", "bias"))]
    assert learned
    assert all(torch.equal(weights(run)[key], best[key]) for key in learned)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = {key for line in lines for key in line if key.startswith("train/") and "lr" not in key}
    assert "train/target" in losses
    assert not losses & {"train/structure", "train/dice", "train/ce"}
    found = json.loads((run / "metrics.json").read_text())
    assert found["tests"]["phantom"]["images"] == 2
    assert found["selection"] == "the last iteration"


def test_it_is_trained_and_goes_on_as_if_nothing_had_happened(toolkit, begun, tmp_path, monkeypatch):
    settings = [*TINY_TRAINING, *TINY_TARGET, *TINY_TEST, "strategy.threshold=0"]
    settings += ["strategy.masking=true", "strategy.masking_block=8"]
    options = ["--from", str(begun), *TARGET], settings
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    toolkit(*command(options, "--run-dir", whole))
    save = CheckpointHook._save

    def save_and_stop(self, runner):
        save(self, runner)
        if runner.iter == 2:
            raise InterruptedError

    with monkeypatch.context() as patched:
        patched.setattr(CheckpointHook, "_save", save_and_stop)
        toolkit(*command(options, "--run-dir", cut), code=1)
    toolkit("run", "--run-dir", cut, "--resume")
    assert all(torch.equal(value, weights(cut)[key]) for key, value in weights(whole).items())
    moved = [key for key, value in weights(whole).items() if key.endswith("weight")]
    best = torch.load(begun / "checkpoints" / "best.pt", weights_only=True)["model"]
    assert any(not torch.equal(weights(whole)[key], best[key]) for key in moved)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--generator", "cut"], "A generator translates source images"),
        (["--set", "strategy.labels=epoch"], "strategy.labels=epoch shares the loss with source images"),
        (["--baseline", "source-only"], "baseline learns from source images"),
        (["--folds", "2"], "Folds are of source images"),
        (["--strategy", "supervised"], "strategy supervised has no use for a target"),
    ],
)
def test_what_needs_a_source_says_so(toolkit, begun, more, said):
    assert said in toolkit("run", "--from", begun, *TARGET, *more, "--dry-run", code=2).stderr


def test_without_a_run_to_begin_with_there_is_a_sentence(toolkit, tmp_path):
    alone = ["run", "--segmenter", "unet", *TARGET, "--dry-run"]
    assert "say --from RUN" in toolkit(*alone, code=2).stderr
    refused = toolkit("run", "--from", tmp_path, *TARGET, "--dry-run", code=2)
    assert "is no run folder" in refused.stderr
