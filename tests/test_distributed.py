"""Two processes train as one with the joint batch."""

import subprocess
import sys

import pytest
import torch
from conftest import TINY_CUT, TINY_DATA, TINY_SYNDIFF, TINY_TARGET, command

NETWORK = '''
import torch
from torch import nn
from transeg.core.interfaces import Segmenter

class Plain(Segmenter):
    """Without batch norm, whose statistics are those of a rank alone."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, num_classes, 1)
        )

    def forward(self, image):
        return self.body(image)
'''
ALONE = '''
from transeg.plugins.generators.syndiff import SynDiff, discriminators

discriminators.GROUP = 1

class Alone(SynDiff):
    """Without looks at the other images of a batch, which are those of a rank alone."""
'''
MANIFEST = """
[plugin]
contract = 1
[segmenter.plain]
entry = "plain.py:Plain"
[generator.alone]
entry = "alone.py:Alone"
"""
OPTIONS = ["train.iterations=4", "train.val_interval=2", "train.checkpoint_interval=2", "baseline=none"]


def line(tmp_path, parts, folder, batch_size):
    settings = [*TINY_DATA, *OPTIONS, f"train.batch_size={batch_size}", "data.workers=0"]
    if "cut" in parts:
        settings += [*TINY_CUT, *TINY_TARGET]
    if "alone" in parts:
        settings += [*TINY_SYNDIFF, *TINY_TARGET, "generator.r1_interval=2"]
    if "pix2pix" in parts:  # deep enough for dropout; batch norm would know but half of the batch
        settings += ["data.size=64", "generator.width=4", "generator.depth=6", "generator.norm=instance"]
    if {"--generator", "--segmenter"} <= set(parts):
        settings.append("joint.weight=0.5")
    loss = ["--loss", "bce"] if "--segmenter" in parts else []
    return command(([*parts, *loss], settings), "--registry", tmp_path / "plain.toml", "--run-dir", folder)


def everything(folder):
    """All weights of a run, and their averages where there are any."""
    state = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
    return state["model"] | {f"average of {key}": average for key, average in state["averages"].items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "parts",
    [
        ["--segmenter", "plain"],
        ["--generator", "cut"],
        ["--generator", "cut", "--segmenter", "plain"],
        ["--generator", "cut", "--segmenter", "plain", "--set", "generator.variant=fastcut"],
        ["--generator", "pix2pix", "--segmenter", "plain"],
        ["--generator", "alone"],
        ["--generator", "alone", "--segmenter", "plain"],
    ],
    ids=[
        "supervised",
        "translation",
        "joint",
        "joint-fastcut",
        "joint-pix2pix",
        "translation-syndiff",
        "joint-syndiff",
    ],
)
def test_two_ranks_are_one_with_the_joint_batch(tmp_path, process, parts):
    (tmp_path / "plain.py").write_text(NETWORK)
    (tmp_path / "alone.py").write_text(ALONE)
    (tmp_path / "plain.toml").write_text(MANIFEST)
    one = process(*line(tmp_path, parts, tmp_path / "one", 4))
    assert one.returncode == 0, one.stderr
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    two = subprocess.run(
        [*launcher, "-m", "transeg", *line(tmp_path, parts, tmp_path / "two", 2)], capture_output=True, text=True
    )
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("strategy") == 1  # only one rank speaks
    a, b = (everything(tmp_path / name) for name in ("one", "two"))
    begun = process(*line(tmp_path, parts, tmp_path / "begun", 4), "--set", "train.iterations=1")
    assert begun.returncode == 0, begun.stderr
    start = everything(tmp_path / "begun")
    # A bias in front of a norm has no gradient but rounding, which Adam makes as large as any other: weights alone.
    names = [key for key in a if a[key].ndim >= 2]
    moved, apart = (
        torch.cat([(a[key] - other[key]).abs().flatten() for key in names]).mean().item() for other in (start, b)
    )
    assert moved > 1e-5
    assert apart < 0.01 * moved, (apart, moved)


def test_gradients_are_averaged_in_buckets(monkeypatch):
    """Without a second process: a sum over two equal ranks doubles what it is given."""
    from transeg.core import distributed

    parameters = [torch.nn.Parameter(torch.zeros(n)) for n in (3, 5, 7)]
    for index, parameter in enumerate(parameters):
        parameter.grad = torch.full_like(parameter, float(index + 1))
    parameters.append(torch.nn.Parameter(torch.zeros(2)))  # without a gradient
    sizes = []

    def all_reduce(tensor):
        sizes.append(len(tensor))
        tensor *= 3

    monkeypatch.setattr(distributed, "world", lambda: (0, 2))
    monkeypatch.setattr(distributed, "BUCKET_BYTES", 4 * 8)
    monkeypatch.setattr(distributed.dist, "all_reduce", all_reduce)
    distributed.average_gradients(parameters)
    assert sizes == [8, 7]
    assert [p.grad[0].item() for p in parameters[:3]] == [1.5, 3.0, 4.5]
