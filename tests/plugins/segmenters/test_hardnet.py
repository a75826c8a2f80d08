import parity
import pytest
import torch

from transeg.core.models.forward import segment
from transeg.core.models.weights import map_keys
from transeg.plugins.segmenters.hardnet import HarDNetMSEG
from transeg.plugins.segmenters.hardnet.trunk import HarDNet, layer_channels, links

REFERENCE = parity.read("segmenters")["models"]


def image():
    return torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))


def test_links_and_channels_are_the_published_ones():
    assert links(6) == [5, 4]
    assert links(12) == [11, 10, 8]
    assert links(16) == [15, 14, 12, 8, 0]
    assert [layer_channels(i, 14, 1.7) for i in range(1, 9)] == [14, 24, 14, 40, 14, 24, 14, 68]
    assert [layer_channels(i, 160, 1.7) for i in range(1, 5)] == [160, 272, 160, 462]


@pytest.mark.parametrize(
    ("layout", "count", "channels"),
    [
        ("68", 16_540_348, [128, 320, 640, 1024]),
        ("85", 36_670_212 - 1281 * 1000, [192, 320, 720, 1280]),
        ("68ds", 4_180_602 - 1025 * 1000, [128, 320, 640, 1024]),
        ("39ds", 3_488_228 - 1025 * 1000, [96, 320, 640, 1024]),
    ],
)
def test_trunks_have_the_published_sizes(layout, count, channels):
    with torch.device("meta"):
        trunk = HarDNet(3, layout)
        maps = trunk(torch.empty(1, 3, 352, 352))
    assert sum(p.numel() for p in trunk.parameters()) == count
    assert [(m.shape[1], m.shape[2]) for m in maps] == list(zip(channels, (88, 44, 22, 11), strict=True))


def test_trunk_gives_the_reference_numbers():
    trunk = parity.fill(HarDNet(3, "68")).eval()
    with torch.inference_mode():
        maps = trunk(image())
    for found, expected in zip(maps, REFERENCE["hardnet68"], strict=True):
        assert parity.deviation(found, expected) < 1e-4


@pytest.mark.parametrize("layout", ["68", "85", "68ds", "39ds"])
def test_classifiers_on_the_trunks_give_the_reference_numbers(layout):
    """The published ImageNet networks, by a head that is built for this test alone."""
    trunk = HarDNet(3, layout)
    place = {"68": 16, "85": 19, "68ds": 16, "39ds": 14}[layout]
    head = torch.nn.Linear(trunk.out_channels[-1], 1000)
    state = {**trunk.state_dict(), **{f"base.{place}.3.{key}": value for key, value in head.state_dict().items()}}
    parity.fill_state(state)
    trunk.load_state_dict({key: value for key, value in state.items() if f"base.{place}." not in key})
    head.load_state_dict({key.rpartition(".")[2]: value for key, value in state.items() if f"base.{place}." in key})
    trunk.eval()
    with torch.inference_mode():
        logits = head(trunk(image())[-1].mean((2, 3)))
    assert parity.deviation(logits, REFERENCE[f"hardnet{layout}_imagenet_cls"][0]) < 1e-4


def test_network_gives_the_reference_numbers():
    network = parity.fill(HarDNetMSEG(3, 1)).eval()
    with torch.inference_mode():
        assert parity.deviation(network(image()), REFERENCE["hardnet_mseg"][0]) < 1e-4


def test_published_checkpoints_fit():
    """All 828 keys, of which the 722 live ones fill the network."""
    published = {f"module.{k}": torch.zeros(shape) for k, shape in parity.read("keys_hardnet_mseg").items()}
    assert len(published) == 828
    network = HarDNetMSEG(3, 1)
    network.load_state_dict(map_keys(published, HarDNetMSEG.key_map), strict=True)


@pytest.mark.parametrize("name", ["keys_hardnet68", "keys_hardnet68_imagenet_cls"])
@pytest.mark.parametrize("prefix", ["", "module.", "hardnet.", "encoder."])
def test_published_backbones_fit(name, prefix):
    published = {f"{prefix}{k}": torch.zeros(shape) for k, shape in parity.read(name).items()}
    network = HarDNetMSEG(3, 1)
    missing, unexpected = network.load_state_dict(map_keys(published, HarDNetMSEG.key_map), strict=False)
    assert not unexpected
    assert not [key for key in missing if key.startswith("hardnet.")]


@pytest.mark.parametrize("aux", [False, True])
@pytest.mark.parametrize("backbone", ["68", "85", "68ds", "39ds"])
def test_every_backbone_learns_at_odd_sizes(backbone, aux):
    torch.manual_seed(0)
    network = HarDNetMSEG(3, 2, backbone=backbone, aux=aux).train()
    heads = segment(network, torch.rand(2, 3, 65, 47) * 2 - 1)
    assert network.heads == len(heads) == (4 if aux else 1)
    assert all(head.shape == (2, 2, 65, 47) for head in heads)
    sum(head.square().mean() for head in heads).backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    with torch.inference_mode():
        assert len(segment(network.eval(), torch.rand(1, 3, 65, 47))) == 1


def test_auxiliary_heads_see_the_three_maps_that_are_joined():
    network = HarDNetMSEG(3, 1, backbone="39ds", aux=True).train()
    heads = network(torch.rand(2, 3, 64, 96))
    assert [tuple(head.shape) for head in heads] == [(2, 1, 64, 96), (2, 1, 8, 12), (2, 1, 4, 6), (2, 1, 2, 3)]
