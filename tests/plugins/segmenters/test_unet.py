import parity
import torch

from transeg.core.weights import map_keys
from transeg.plugins.segmenters.unet import UNet


def test_unet_gives_the_reference_numbers():
    network = parity.fill(UNet(3, 2, width=32)).eval()
    image = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert parity.deviation(network(image), parity.read("segmenters")["models"]["unet32"][0]) < 1e-4


def test_published_checkpoints_fit():
    published = {f"module.{k}": torch.zeros(shape) for k, shape in parity.read("keys_unet32").items()}
    UNet(3, 2).load_state_dict(map_keys(published, UNet.key_map), strict=True)


def test_width_sets_the_size():
    with torch.device("meta"):
        counts = {width: sum(p.numel() for p in UNet(3, 2, width=width).parameters()) for width in (32, 64)}
    assert counts == {32: 8_634_432, 64: 34_521_216}
