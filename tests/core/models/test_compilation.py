import copy
from functools import partialmethod

import pytest
import torch
from torch import nn

from transeg.core.errors import TransegError
from transeg.core.models.compilation import compilable_networks, compile_networks, fuse_optimizers, load_optimizer_state
from transeg.core.registry import Registry
from transeg.core.training.tasks.updates import Updates
from transeg.plugins.generators.cut import CUT
from transeg.plugins.generators.pix2pix import Pix2pix
from transeg.plugins.generators.syndiff import SynDiff


def adam(**options):
    torch.manual_seed(0)
    return torch.optim.Adam([nn.Parameter(torch.rand(3))], lr=0.1, **options)


def step(optimizer):
    (parameter,) = optimizer.param_groups[0]["params"]
    parameter.grad = torch.ones(3)
    optimizer.step()
    return parameter.detach().clone()


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("as_built", [True, None])
def test_optimizers_are_fused_as_wanted(wanted, as_built):
    optimizer = adam(fused=as_built)
    fuse_optimizers([optimizer], wanted)
    assert optimizer.param_groups[0]["fused"] is optimizer.defaults["fused"] is wanted


def test_a_fused_optimizer_takes_the_same_steps():
    plain, fused = adam(), adam()
    fuse_optimizers([fused], True)
    for _ in range(3):
        assert torch.allclose(step(plain), step(fused))


def test_optimizers_that_cannot_be_fused_are_left_alone():
    optimizer = torch.optim.Rprop([nn.Parameter(torch.zeros(1))])
    fuse_optimizers([optimizer], True)
    assert "fused" not in optimizer.param_groups[0]


@pytest.mark.parametrize("fused", [True, False])
def test_a_resumed_optimizer_goes_on_in_its_own_way(fused):
    """Whichever way the one went that was saved."""
    saved, other = adam(), adam()
    fuse_optimizers([saved], not fused)
    fuse_optimizers([other], fused)
    step(saved)
    state = copy.deepcopy(saved.state_dict())
    (parameter,) = other.param_groups[0]["params"]
    parameter.data.copy_(saved.param_groups[0]["params"][0])
    load_optimizer_state(other, state)
    assert other.param_groups[0]["fused"] is fused
    assert state["param_groups"][0]["fused"] is not fused
    assert torch.allclose(step(saved), step(other))


def test_what_a_generator_differentiates_twice_is_not_compiled():
    small = SynDiff(1, 1, preset="small", width=4, discriminator_width=4, translator_width=4)
    names = set(compilable_networks(small, None))
    assert {"gen_diffusive_1", "gen_non_diffusive_2to1", "disc_non_diffusive_cycle1"} <= names
    assert not {"disc_diffusive_1", "disc_diffusive_2", "diffusion"} & names


@pytest.fixture
def traced(monkeypatch):
    """All of torch.compile but the compiler, which takes minutes."""
    torch.compiler.reset()
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))
    yield
    torch.compiler.reset()


SMALL = {
    "unet": lambda: Registry().load(Registry().find("segmenter", "unet"))(3, 1, base=4),
    "cut": lambda: CUT(3, 3, width=4, blocks=5, patches=8),
    "pix2pix": lambda: Pix2pix(3, 3, width=4, depth=4),
}


def built(name):
    torch.manual_seed(0)
    return SMALL[name]()


@pytest.mark.parametrize("name", ["unet", "cut"])
def test_compiled_networks_keep_their_names_and_their_results(name, traced):
    """They are used compiled while training computes, and plain otherwise."""
    from torch._dynamo.utils import counters

    counters.clear()
    plain, network = built(name), built(name)
    image = torch.rand(2, 3, 32, 32)
    part = network.G if name == "cut" else network
    other = plain.G if name == "cut" else plain
    updates = Updates(compiled=True)
    with compile_networks({name: part}):
        with updates.forward():
            found = part.with_features(image, CUT.layers)[0] if name == "cut" else part(image)
        assert counters["stats"]["unique_graphs"] == 1
        assert torch.allclose(found, other(image), atol=1e-5)
        part(image[:1])
        assert counters["stats"]["unique_graphs"] == 1
        assert list(network.state_dict()) == list(plain.state_dict())
        found.sum().backward()
    other(image).sum().backward()
    for one, two in zip(part.parameters(), other.parameters(), strict=True):
        assert torch.allclose(one.grad, two.grad, atol=1e-3)
    copy.deepcopy(network)(image) if name == "unet" else None


def test_what_cannot_be_compiled_is_said(traced):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3)

        def forward(self, image):
            return self.conv(image).sigmoid()

    network, image = Twice(), torch.rand(1, 1, 8, 8, requires_grad=True)

    def penalise():
        with Updates(compiled=True).forward():
            (gradient,) = torch.autograd.grad(network(image).sum(), image, create_graph=True)
        gradient.square().sum().backward()

    with (
        pytest.raises(TransegError, match=r"cannot be compiled: .*double backward.*--no-compile"),
        compile_networks({"": network}),
    ):
        penalise()


def test_other_failures_pass_through(traced):
    with pytest.raises(RuntimeError, match="out of luck"), compile_networks({}):
        raise RuntimeError("out of luck")
