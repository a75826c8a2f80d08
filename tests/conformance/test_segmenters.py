"""Every built-in segmenter keeps the contract that is checked for those of others."""

import pytest
import torch
from torch import nn

from transeg.core.models.fusion import fuse_for_inference
from transeg.core.registry import Registry
from transeg.testing import parametrize_with_checks

REGISTRY = Registry()
COMPONENTS = [component for component in REGISTRY.components("segmenter") if component.status != "missing"]


@parametrize_with_checks("transeg", kind="segmenter", where=lambda check: not check.name.startswith("exports_"))
def test_contract(check):
    check()


@pytest.mark.parametrize("component", COMPONENTS, ids=str)
def test_it_cites_its_paper_and_counts_its_parameters(component):
    assert component.entry.paper
    assert component.entry.params is not None


@pytest.mark.parametrize("component", COMPONENTS, ids=str)
def test_every_batch_norm_after_a_convolution_of_its_own_is_folded(component):
    torch.manual_seed(0)
    network = REGISTRY.load(component)(3, 1).eval()
    side = max(64, network.size_multiple)
    nodes = torch.export.export(network, (torch.rand(1, 3, side, side),)).graph.nodes
    norms = [node for node in nodes if "batch_norm" in str(node.target)]
    assert len(norms) == _batch_norms(network)
    foldable = [norm for norm in norms if "conv" in str(norm.args[0].target) and len(norm.args[0].users) == 1]
    assert _batch_norms(fuse_for_inference(network, 3, torch.device("cpu"))) == len(norms) - len(foldable)


def _batch_norms(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
