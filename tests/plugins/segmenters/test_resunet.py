import parity
import pytest
import torch

from transeg.core.models.weights import map_keys
from transeg.plugins.segmenters.resunet import ResUNet

VARIANTS = ["zh320", "paper"]


def test_it_gives_the_reference_numbers():
    network = parity.fill(ResUNet(3, 2)).eval()
    image = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert parity.deviation(network(image), parity.read("segmenters")["models"]["resunet32"][0]) < 1e-4


def test_published_checkpoints_fit():
    published = {f"module.{k}": torch.zeros(shape) for k, shape in parity.read("keys_resunet32").items()}
    ResUNet(3, 2).load_state_dict(map_keys(published, ResUNet.key_map), strict=True)


def test_it_has_the_published_size():
    with torch.device("meta"):
        counts = [sum(p.numel() for p in ResUNet(3, 2, base=base).parameters()) for base in (32, 64)]
    assert counts == [2_055_936, 8_216_064]


def test_the_papers_network_has_the_convolutions_of_the_paper():
    """Its table I: level by level, the 3x3 convolutions' output channels and strides."""
    with torch.device("meta"):
        network = ResUNet(3, 1, variant="paper")
        maps = {}
        for name, unit in network.named_children():
            unit.register_forward_hook(lambda _unit, _inputs, out, name=name: maps.update({name: tuple(out.shape[1:])}))
        network(torch.empty(1, 3, 224, 224))
    assert maps == {
        "encoding1": (64, 224, 224),
        "encoding2": (128, 112, 112),
        "encoding3": (256, 56, 56),
        "bridge": (512, 28, 28),
        "decoding3": (256, 56, 56),
        "decoding2": (128, 112, 112),
        "decoding1": (64, 224, 224),
        "seg_head": (1, 224, 224),
    }
    weights = [p for p in network.parameters() if p.ndim == 4 and p.shape[2] == 3]
    assert sum(p.numel() for p in weights) == 7_780_032  # the paper says 7.8 million


def test_the_papers_unit_adds_its_input_untouched():
    unit = ResUNet(3, 1, base=4, variant="paper").decoding1
    torch.nn.init.zeros_(unit.conv[-1].weight)
    x = torch.randn(1, 12, 8, 8)
    assert torch.equal(unit(x), unit.conv_skip(x))
    assert (unit(x) < 0).any()  # no activation after the sum


def test_a_unit_that_keeps_the_shape_has_no_convolution_around_it():
    assert "encoding1.conv_skip.weight" not in ResUNet(8, 1, base=8).state_dict()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", [(64, 64), (65, 47), (1, 40), (33, 1)])
def test_the_network_itself_takes_any_size(variant, size):
    network = ResUNet(3, 2, base=4, variant=variant).eval()
    with torch.inference_mode():
        assert network(torch.randn(1, 3, *size)).shape == (1, 2, *size)


@pytest.mark.parametrize("variant", VARIANTS)
def test_auxiliary_heads_train_every_parameter(variant):
    torch.manual_seed(0)
    network = ResUNet(3, 2, base=8, variant=variant, aux=True)
    outputs = network(torch.randn(2, 3, 33, 47))
    assert network.heads == len(outputs) == 3
    assert [tuple(logits.shape[2:]) for logits in outputs] == [(33, 47), (17, 24), (9, 12)]
    sum(logits.square().mean() for logits in outputs).backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    assert torch.is_tensor(network.eval()(torch.randn(1, 3, 32, 32)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_auxiliary_heads_there_is_one_output(variant):
    network = ResUNet(3, 2, base=4, variant=variant)
    assert network.heads == 1
    assert torch.is_tensor(network(torch.randn(2, 3, 32, 32)))


def test_a_base_is_positive():
    with pytest.raises(ValueError, match="base must be at least 1, not 0"):
        ResUNet(3, 1, base=0)
