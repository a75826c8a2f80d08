"""Graphs are simplified where their values stay as they are, and nowhere else."""

import pytest
import torch
from torch import nn

from transeg.tools.export.draws import Draws
from transeg.tools.export.formats import GraphWriter, open_graph


class Seen(nn.Module):
    """A convolution whose result is clamped in place, as it is or as a view, and seen once more afterwards."""

    inputs, output, channels, by_mask, draws = ("image",), "mask", 3, False, Draws(())

    def __init__(self, view):
        super().__init__()
        self.convolution = nn.Conv2d(3, 1, 1)
        nn.init.constant_(self.convolution.weight, 10.0)
        self.relu = nn.ReLU6(inplace=True)
        self.view = view

    def forward(self, image):
        before = self.convolution(image)
        self.relu(before.transpose(2, 3) if self.view else before)
        return before * 2


@pytest.mark.parametrize("view", [True, False])
def test_relu6_becomes_a_clamp_where_nothing_else_sees_its_input(view, tmp_path):
    graph = Seen(view).eval()
    GraphWriter(graph).write("torch-export", tmp_path / "model.pt2")
    names = [str(node.target) for node in torch.export.load(tmp_path / "model.pt2").graph.nodes]
    assert ("aten.clamp.default" in names) is not view
    image = torch.rand(2, 3, 40, 30)
    with torch.no_grad():
        expected = graph(image)
    assert expected.max() == 12
    assert torch.equal(open_graph("torch-export", tmp_path / "model.pt2", graph.inputs)([image]), expected)
