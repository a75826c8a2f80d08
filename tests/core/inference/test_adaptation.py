import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from transeg.core.errors import UsageError
from transeg.core.inference.adaptation import BatchNormAdaptation, entropy
from transeg.core.inference.sliding_window import Inference
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.interfaces import Segmenter
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder


class Normed(Segmenter):
    mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # images reach it in [-1, 1]

    def __init__(self, norm=None):
        super().__init__()
        self.norm = nn.BatchNorm2d(3) if norm is None else norm
        self.head = nn.Conv2d(3, 1, 1)

    def forward(self, image):
        return self.head(self.norm(image))


@pytest.fixture(scope="module")
def joint(joint_run):
    return TrainedModel.load(RunFolder(joint_run), Registry(), "cpu", layers=True)


def model(joint, segmenter):
    return replace(joint, segmenter=segmenter.eval().requires_grad_(True))


def images(count, level, spread, size=16):
    noise = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(count))
    return list(level + spread * noise)


def states(segmenter):
    return {name: value.clone() for name, value in segmenter.state_dict().items()}


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_statistics_are_those_of_the_images(joint):
    network = Normed()
    found = images(8, 0.3, 0.1)
    BatchNormAdaptation(model(joint, network), "bn", Inference(None))(found)
    pixels = torch.stack(found).transpose(0, 1).flatten(1)
    torch.testing.assert_close(network.norm.running_mean, pixels.mean(1))
    torch.testing.assert_close(network.norm.running_var, pixels.var(1))
    assert not network.norm.training
    assert network.norm.momentum == nn.BatchNorm2d(1).momentum


@pytest.mark.parametrize("method", ["bn", "tent"])
def test_each_group_begins_from_the_trained_network(joint, method):
    network = Normed()
    before = states(network)
    adapt = BatchNormAdaptation(model(joint, network), method, Inference(None))
    adapt(images(3, 0.3, 0.1))
    alone = states(network)
    adapt(images(4, -0.5, 0.2))
    assert not same(alone, states(network))
    adapt(images(3, 0.3, 0.1))
    assert same(alone, states(network))
    adapt.restore()
    assert same(before, states(network))
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())


def test_tent_lowers_the_entropy_by_scales_and_shifts_alone(joint):
    network = Normed()
    seen = images(8, 0.3, 0.1)
    trained = model(joint, network)
    before = states(network)
    BatchNormAdaptation(trained, "bn", Inference(None))(seen)
    by_statistics = entropy(trained.segment(torch.stack(seen)))
    adapt = BatchNormAdaptation(trained, "tent", Inference(None))
    adapt(seen * 8)
    assert entropy(trained.segment(torch.stack(seen))) < by_statistics
    changed = {name for name, value in states(network).items() if not torch.equal(value, before[name])}
    assert {"norm.weight", "norm.bias"} < changed
    assert all(name.startswith("norm.") for name in changed)


def test_entropy_of_one_channel_is_that_of_two_classes():
    logits = torch.tensor([[-3.0, 0.0, 2.0]]).view(1, 1, 1, 3)
    two = torch.cat([torch.zeros_like(logits), logits], 1)
    torch.testing.assert_close(entropy(logits), entropy(two))
    torch.testing.assert_close(entropy(torch.zeros(1, 1, 4, 4)), torch.tensor(2.0).log())


def test_large_images_are_seen_in_windows(joint):
    class Looking(Normed):
        def forward(self, image):
            sizes.add(tuple(image.shape[2:]))
            return super().forward(image)

    sizes = set()
    BatchNormAdaptation(model(joint, Looking()), "bn", Inference(None, window=8))(images(2, 0, 1, size=40))
    assert sizes == {(8, 8)}


def test_without_an_image_the_network_is_as_it_was_trained(joint):
    network = Normed()
    before = states(network)
    BatchNormAdaptation(model(joint, network), "bn", Inference(None))([])
    assert same(before, states(network))


def test_without_batch_norms_there_is_a_sentence(joint):
    for norm in (nn.InstanceNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False)):
        with pytest.raises(UsageError, match="changes batch norms, and this segmenter has none"):
            BatchNormAdaptation(model(joint, Normed(norm)), "bn", Inference(None))


def test_predict_and_evaluate_adapt_when_told(toolkit, joint_run, tmp_path):
    rng = np.random.default_rng(0)
    images_, masks = tmp_path / "set" / "images", tmp_path / "set" / "masks"
    for folder in (images_, masks):
        folder.mkdir(parents=True)
    for name in ("a", "b", "c"):
        Image.fromarray(rng.integers(0, 60, (32, 32, 3), dtype=np.uint8)).save(images_ / f"{name}.png")
        Image.fromarray(np.uint8(rng.integers(0, 2, (32, 32)) * 255)).save(masks / f"{name}.png")

    def probabilities(*options):
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        toolkit("predict", joint_run, images_, "-o", out, "--probabilities", *options)
        return np.stack([np.asarray(Image.open(file)) for file in sorted((out / "probabilities").iterdir())])

    plain, by_bn, by_tent = probabilities(), probabilities("--adapt", "bn"), probabilities("--adapt", "tent")
    assert (plain != by_bn).any()
    assert (by_bn != by_tent).any()
    assert np.array_equal(by_tent, probabilities("--adapt", "tent"))
    test = ["evaluate", joint_run, "--test", f"folder:{tmp_path / 'set'}", "--json"]
    ways = [json.loads(toolkit(*test, *more).stdout)["tests"] for more in ([], ["--adapt", "bn"])]
    assert ways[0] != ways[1]


def test_an_image_that_cannot_be_read_stops_no_other_group(toolkit, joint_run, tmp_path):
    """Each image is a group of its own here; the order in which groups come changes nothing."""
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        for part, pixels in (("images", rng.integers(0, 60, (32, 32, 3))), ("masks", np.eye(32) * 255)):
            (tmp_path / "set" / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "set" / part / f"{name}.png")
    test = ["evaluate", joint_run, "--test", f"folder:{tmp_path / 'set'}", "--adapt", "bn"]

    def dice(out):
        with (tmp_path / out / "set.csv").open() as file:
            return {row["name"]: row["dice"] for row in csv.DictReader(file)}

    toolkit(*test, "--out", tmp_path / "whole")
    (tmp_path / "set" / "images" / "b.png").write_bytes(b"no image")
    said = toolkit(*test, "--out", tmp_path / "damaged", code=1).stderr
    assert "1 image could not be measured" in said
    whole, damaged = dice("whole"), dice("damaged")
    assert set(damaged) == {"a", "c"}
    assert damaged == {name: whole[name] for name in damaged}


def test_a_run_says_before_training_that_nothing_can_be_adapted(toolkit, tmp_path):
    refused = toolkit(
        "run", "--segmenter", "unet", "--set", "segmenter.variant=paper", "--set", "test_adaptation=bn",
        "--run-dir", tmp_path / "run", "--dry-run", code=2,
    )  # fmt: skip
    assert "test_adaptation=bn changes batch norms, and this segmenter has none" in refused.stderr
    assert not (tmp_path / "run").exists()
