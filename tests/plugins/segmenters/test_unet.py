import parity
import pytest
import torch

from transeg.core.interfaces import Segmenter
from transeg.core.models.forward import segment
from transeg.core.models.weights import map_keys
from transeg.plugins.segmenters.unet import UNet

VARIANTS = ("zh320", "paper")


def test_unet_gives_the_reference_numbers():
    network = parity.fill(UNet(3, 2, base=32)).eval()
    image = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert parity.deviation(network(image), parity.read("segmenters")["models"]["unet32"][0]) < 1e-4


def test_published_checkpoints_fit():
    published = {f"module.{k}": torch.zeros(shape) for k, shape in parity.read("keys_unet32").items()}
    UNet(3, 2).load_state_dict(map_keys(published, UNet.key_map), strict=True)


@pytest.mark.parametrize(
    ("channels", "options", "count"),
    [
        (3, {}, 8_634_432),
        (3, {"base": 64}, 34_521_216),
        # counted from the paper's figure, for grey images and two classes
        (1, {"variant": "paper"}, 31_030_658),
    ],
)
def test_base_and_variant_set_the_size(channels, options, count):
    with torch.device("meta"):
        network = UNet(channels, 2, **options)
    assert sum(p.numel() for p in network.parameters()) == count


def test_base_must_be_positive():
    with pytest.raises(ValueError, match="base must be at least 1, not 0"):
        UNet(3, 1, base=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_auxiliary_heads_speak_in_training_alone_and_everything_learns(variant):
    torch.manual_seed(0)
    network = UNet(3, 2, base=4, variant=variant, aux=True).train()
    image = torch.rand(2, 3, 49, 35) * 2 - 1
    padded = torch.rand(2, 3, 64, 48)
    assert [tuple(head.shape) for head in network(padded)] == [(2, 2, 64 >> i, 48 >> i) for i in range(4)]
    heads = segment(network, image)
    assert network.heads == len(heads) == 4
    assert all(head.shape == (2, 2, 49, 35) for head in heads)
    sum(head.square().mean() for head in heads).backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    with torch.inference_mode():
        assert network.eval()(padded).shape == (2, 2, 64, 48)


def test_auxiliary_heads_change_nothing_else():
    plain, supervised = parity.fill(UNet(3, 1, base=4)), parity.fill(UNet(3, 1, base=4, aux=True))
    image = torch.rand(1, 3, 32, 32)
    assert (plain.heads, supervised.heads) == (1, 4)
    assert torch.equal(plain.eval()(image), supervised.eval()(image))


class TestPaper:
    """The network of arXiv:1505.04597, except for its valid convolutions."""

    def test_its_layers_are_the_published_ones(self):
        network = UNet(1, 2, variant="paper")
        kinds = [type(module).__name__ for module in network.modules() if not list(module.children())]
        assert kinds.count("Conv2d") == 19  # with the four up-convolutions the 23 of the paper
        assert kinds.count("ConvTranspose2d") == 4
        assert kinds.count("MaxPool2d") == 4
        assert kinds.count("Dropout") == 2
        assert "BatchNorm2d" not in kinds
        assert (network.mean, network.std) == (Segmenter.mean, Segmenter.std)

    def test_weights_are_drawn_by_the_number_of_inputs(self):
        torch.manual_seed(0)
        network = UNet(1, 2, variant="paper")
        convolution, raising = network.down_stage3.conv[2], network.up_stage4.up
        assert convolution.weight.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.01)
        assert raising.weight.std().item() == pytest.approx((2 / 1024) ** 0.5, rel=0.01)
        assert not convolution.bias.any()

    def test_it_keeps_the_spread_of_what_it_sees(self):
        """That is what these weights are for: neither vanishing nor growing through twenty layers."""
        torch.manual_seed(0)
        network = UNet(1, 2, base=32, variant="paper").eval()
        with torch.inference_mode():
            logits = network(torch.randn(1, 1, 64, 64))
        assert 0.1 < logits.std() < 10

    def test_dropout_ends_the_contracting_path(self):
        torch.manual_seed(0)
        network = UNet(1, 1, base=4, variant="paper").train()
        random = {
            name: not torch.equal(stage(torch.ones(1, channels, 16, 16)), stage(torch.ones(1, channels, 16, 16)))
            for name, channels, stage in (
                ("third", 8, network.down_stage3.conv),
                ("fourth", 16, network.down_stage4.conv),
                ("middle", 32, network.mid_stage),
                ("up", 64, network.up_stage4.conv),
            )
        }
        assert random == {"third": False, "fourth": True, "middle": True, "up": False}
