"""Auxiliary heads: their resolution, their weights."""

import pytest
import torch
from conftest import SUPERVISED, command
from torch import nn

from transeg.core.interfaces import Segmenter
from transeg.core.models.forward import segment
from transeg.core.training.losses import LossSum


class Heads(Segmenter):
    """A final head, and one at half the resolution."""

    size_multiple = 4
    heads = 2

    def forward(self, image):
        coarse = nn.functional.avg_pool2d(image, 2)
        return [image, coarse] if self.training else image


class Mean(nn.Module):
    def forward(self, logits, target):
        return logits.mean()


def test_coarse_heads_come_at_the_images_size():
    image = torch.linspace(-1, 1, 9).expand(2, 1, 6, 9)
    final, coarse = segment(Heads().train(), image)
    assert final.shape == coarse.shape == image.shape
    assert torch.allclose(coarse, image, atol=0.13)  # half a step of the ramp, where the border is extended
    (only,) = segment(Heads().eval(), image)
    assert only.shape == image.shape


@pytest.mark.parametrize(("weights", "expected"), [((), 3.0), ((1.0, 0.5), 2.0), ((2.0, 0.0), 2.0)])
def test_heads_have_weights(weights, expected):
    loss = LossSum({"mean": (1.0, Mean())}, weights)
    heads = [torch.full((1, 1, 2, 2), 1.0), torch.full((1, 1, 2, 2), 2.0)]
    assert loss(heads, torch.zeros(1, 2, 2))["mean"].item() == expected


def test_one_head_alone_has_no_weight():
    """Evaluation mode and the labels of target images see one head only."""
    loss = LossSum({"mean": (1.0, Mean())}, (1.0, 0.5))
    assert loss([torch.ones(1, 1, 2, 2)], torch.zeros(1, 2, 2))["mean"].item() == 1


def test_auxiliary_heads_train(toolkit, tmp_path):
    settings = ["segmenter.aux=true", "train.head_weights=[1, 0.5, 0.25, 0.125]"]
    options = (word for setting in settings for word in ("--set", setting))
    toolkit(*command(SUPERVISED, "--run-dir", tmp_path / "run", *options))
    state = torch.load(tmp_path / "run" / "checkpoints" / "best.pt", weights_only=True)["model"]
    assert sum("aux_heads" in key for key in state) == 3


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["train.head_weights=[1, 0.5]"], "has 2 numbers, but this segmenter has 1 head"),
        (["segmenter.aux=true", "train.head_weights=[1]"], "has 1 numbers, but this segmenter has 4 heads"),
        (
            ["segmenter.aux=true", "train.head_weights=[0, 1, 1, 1]"],
            "gives the final head, which comes first, no weight",
        ),
        (["train.head_weights=[-1]"], "greater than or equal to 0"),
    ],
)
def test_weights_that_do_not_fit_are_said(toolkit, tmp_path, settings, sentence):
    options = (word for setting in settings for word in ("--set", setting))
    result = toolkit(*command(SUPERVISED, "--run-dir", tmp_path / "run", *options), code=2)
    assert sentence in " ".join(result.output.split())
