import parity
import pytest
import torch
from torch import nn

from transeg.core.interfaces import Segmenter
from transeg.core.models.forward import segment
from transeg.core.models.weights import map_keys
from transeg.plugins.segmenters.unetpp import UNetPlusPlus

PUBLISHED = parity.read("keys_unetpp_aux")


def image():
    return torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("aux", [False, True])
def test_logits_are_the_reference_numbers(aux):
    network = parity.fill(UNetPlusPlus(3, 2, aux=aux)).eval()
    with torch.inference_mode():
        assert parity.deviation(network(image()), parity.read("segmenters")["models"]["unetpp_aux"][0]) < 1e-4


def test_auxiliary_logits_are_the_reference_numbers():
    network = parity.fill(UNetPlusPlus(3, 2, aux=True)).eval()
    network.training = True  # of the network alone: its batch norms keep their statistics, as in the reference
    with torch.inference_mode():
        heads = network(image())
    for found, expected in zip(heads, parity.read("segmenters")["models"]["unetpp_aux"], strict=True):
        assert parity.deviation(found, expected) < 1e-4


@pytest.mark.parametrize("aux", [False, True])
def test_published_checkpoints_fit(aux):
    published = {
        f"module.{k}": torch.zeros(shape) for k, shape in PUBLISHED.items() if aux or not k.startswith("aux_heads")
    }
    assert len(published) == (254 if aux else 251)
    UNetPlusPlus(3, 2, aux=aux).load_state_dict(map_keys(published, UNetPlusPlus.key_map), strict=True)


@pytest.mark.parametrize(
    ("channels", "classes", "options", "count"),
    [
        (3, 2, {}, 8_534_624),
        (3, 2, {"aux": True}, 8_534_816),
        (1, 1, {"variant": "paper"}, 9_041_601),
        (1, 1, {"variant": "paper", "aux": True}, 9_041_601 + 3 * 33),
    ],
)
def test_the_sizes_are_the_published_ones(channels, classes, options, count):
    with torch.device("meta"):
        network = UNetPlusPlus(channels, classes, **options)
    assert sum(p.numel() for p in network.parameters()) == count


def test_base_must_be_positive():
    with pytest.raises(ValueError, match="base must be at least 1, not 0"):
        UNetPlusPlus(3, 1, base=0)


@pytest.mark.parametrize("variant", ["zh320", "paper"])
@pytest.mark.parametrize("aux", [False, True])
def test_everything_learns_at_odd_sizes(variant, aux):
    torch.manual_seed(0)
    network = UNetPlusPlus(3, 2, base=8, variant=variant, aux=aux).train()
    heads = segment(network, torch.rand(2, 3, 49, 35) * 2 - 1)
    assert network.heads == len(heads) == (4 if aux else 1)
    assert all(head.shape == (2, 2, 49, 35) for head in heads)
    sum(head.square().mean() for head in heads).backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    with torch.inference_mode():
        assert len(segment(network.eval(), torch.rand(1, 3, 49, 35))) == 1


@pytest.mark.parametrize("variant", ["zh320", "paper"])
def test_each_node_below_the_first_row_is_raised_once(variant):
    network = UNetPlusPlus(3, 1, base=2, variant=variant).eval()
    calls = []
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose2d):
            module.register_forward_hook(lambda module, *_: calls.append(module))
    with torch.inference_mode():
        network(torch.rand(1, 3, 32, 32))
    assert len(calls) == len(set(calls)) == 10


def test_the_paper_has_its_own_layers():
    network = UNetPlusPlus(3, 1, variant="paper")
    kinds = [type(module).__name__ for module in network.modules() if not list(module.children())]
    assert "BatchNorm2d" not in kinds
    assert kinds.count("Conv2d") == 2 * 15 + 1
    assert kinds.count("Dropout") == 2 * 15
    assert kinds.count("ConvTranspose2d") == 10
    assert {m.kernel_size for m in network.modules() if isinstance(m, nn.ConvTranspose2d | nn.MaxPool2d)} == {(2, 2), 2}
    assert (network.mean, network.std) == (Segmenter.mean, Segmenter.std)
    last = network.stage13.conv[0].weight  # no row narrows at its end
    assert last.shape == (64, 4 * 64, 3, 3)
    assert last.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.02)
