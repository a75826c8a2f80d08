"""What every segmenter in the registry must do."""

import copy

import pytest
import torch
from torch import nn

from transeg.core.component_options import options
from transeg.core.interfaces import Segmenter
from transeg.core.models.forward import segment
from transeg.core.models.fusion import fuse_for_inference
from transeg.core.registry import Registry

REGISTRY = Registry()
COMPONENTS = [component for component in REGISTRY.components("segmenter") if component.status != "missing"]


@pytest.fixture(params=COMPONENTS, ids=str)
def component(request):
    return request.param


@pytest.fixture
def build(component):
    def make(channels=3, outputs=1):
        torch.manual_seed(0)
        return REGISTRY.load(component)(channels, outputs)

    return make


def test_it_is_described(component):
    assert component.entry.summary
    assert component.entry.paper
    assert all(option.help for option in options(REGISTRY.load(component)).values())


def test_it_has_the_parameters_that_its_manifest_says(component, build):
    with torch.device("meta"):
        network = build()
    assert isinstance(network, Segmenter)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == component.entry.params


@pytest.mark.parametrize("size", [(64, 64), (65, 47), (1, 40)])
@pytest.mark.parametrize(("channels", "outputs"), [(3, 1), (1, 4), (5, 2)])
def test_any_size_channels_and_classes(build, size, channels, outputs):
    network = build(channels, outputs).eval()
    with torch.inference_mode():
        heads = segment(network, torch.rand(1, channels, *size) * 2 - 1)
    assert [tuple(head.shape) for head in heads] == [(1, outputs, *size)]


def test_every_parameter_gets_a_gradient(build):
    network = build().train()
    heads = segment(network, torch.rand(2, 3, 64, 64) * 2 - 1)
    sum(head.square().mean() for head in heads).backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_it_repeats_itself(build):
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    network = build().eval()
    with torch.inference_mode():
        assert torch.equal(segment(network, image)[0], segment(network, image)[0])
        assert torch.equal(segment(network, image)[0], segment(build().eval(), image)[0])


def test_its_state_is_all_of_it(build):
    network = build().eval()
    other = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    other.load_state_dict(network.state_dict())
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        assert torch.equal(segment(network, image)[0], segment(other, image)[0])


def test_batches_are_images(build):
    network = build().eval()
    images = torch.rand(3, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        together = segment(network, images)[0]
        alone = torch.cat([segment(network, image[None])[0] for image in images])
    assert torch.allclose(together, alone, atol=1e-4, rtol=1e-3)


def test_it_runs_under_autocast(build):
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        logits = segment(build().eval(), torch.rand(1, 3, 64, 64) * 2 - 1)[0]
    assert logits.isfinite().all()


def test_channels_last_changes_nothing(build):
    network = build().eval()
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        plain = segment(network, image)[0]
        network = network.to(memory_format=torch.channels_last)
        last = segment(network, image.contiguous(memory_format=torch.channels_last))[0]
    assert torch.allclose(plain, last, atol=1e-4, rtol=1e-3)


def test_its_forward_has_no_python_that_depends_on_the_data(build):
    network = build().eval()
    side = max(64, network.size_multiple)
    example = (torch.rand(2, 3, side, side),)
    batch = torch.export.Dim("batch", min=1, max=8)
    program = torch.export.export(network, example, dynamic_shapes=({0: batch},))
    image = torch.rand(3, 3, side, side)
    with torch.inference_mode():
        assert torch.allclose(program.module()(image), network(image), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("channels", [3, 1])
def test_it_is_the_same_when_it_is_deployed(build, channels):
    network = build(channels).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    ready = fuse_for_inference(network, channels, torch.device("cpu"))
    image = torch.rand(2, channels, 96, 64) * 2 - 1
    with torch.inference_mode():
        expected, got = segment(network, image)[0], segment(ready, image)[0]
    assert (got - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert type(ready) is type(network)
    for name in ("size_multiple", "mean", "std", "heads"):
        assert getattr(ready, name) == getattr(network, name)


def test_every_batch_norm_after_a_convolution_of_its_own_is_folded(build):
    network = build().eval()
    side = max(64, network.size_multiple)
    nodes = torch.export.export(network, (torch.rand(1, 3, side, side),)).graph.nodes
    norms = [node for node in nodes if "batch_norm" in str(node.target)]
    assert len(norms) == _batch_norms(network)
    foldable = [norm for norm in norms if "conv" in str(norm.args[0].target) and len(norm.args[0].users) == 1]
    assert _batch_norms(fuse_for_inference(network, 3, torch.device("cpu"))) == len(norms) - len(foldable)


def _batch_norms(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
