import parity
import pytest
import torch
import torch.nn.functional as F

from transeg.core.models.weights import map_keys
from transeg.plugins.segmenters.revisit_unet import Raise, RevisitUNet


@pytest.mark.parametrize("base", [32, 64])
def test_it_gives_the_reference_numbers(base):
    network = parity.fill(RevisitUNet(3, 1, base=base)).eval()
    image = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = parity.read("segmenters")["models"][f"revisit_unet_dim{base}"][0]
        assert parity.deviation(network(image), expected) < 1e-4


def test_published_checkpoints_fit():
    published = {f"module.{k}": torch.zeros(shape) for k, shape in parity.read("keys_revisit_unet_dim64").items()}
    assert len(published) == 136
    RevisitUNet(3, 1).load_state_dict(map_keys(published, RevisitUNet.key_map), strict=True)


def test_base_sets_the_size():
    with torch.device("meta"):
        counts = {base: sum(p.numel() for p in RevisitUNet(3, 1, base=base).parameters()) for base in (32, 64)}
    assert counts == {32: 7_765_985, 64: 31_043_521}
    with pytest.raises(ValueError, match="base must be at least 1, not -1"):
        RevisitUNet(3, 1, base=-1)


@pytest.mark.parametrize("size", [(1, 1), (15, 40), (33, 47), (31, 16), (50, 63)])
def test_it_takes_any_size_as_it_is(size):
    network = RevisitUNet(3, 2, base=4).eval()
    with torch.inference_mode():
        assert network(torch.rand(1, 3, *size)).shape == (1, 2, *size)


def test_zeros_make_up_for_odd_sizes_inside():
    raising = Raise(4, 2)
    with torch.inference_mode():
        x = torch.rand(1, 4, 3, 5)
        raised = raising(x, torch.empty(1, 2, 7, 12))
        assert torch.equal(raised[:, :, :6, 1:11], raising.up_scale(x))
        assert torch.equal(raised, F.pad(raised[:, :, :6, 1:11], (1, 1, 0, 1)))


def test_auxiliary_heads_speak_in_training_alone_and_everything_learns():
    torch.manual_seed(0)
    network = RevisitUNet(3, 2, base=4, aux=True).train()
    heads = network(torch.rand(2, 3, 49, 35) * 2 - 1)
    assert [tuple(head.shape) for head in heads] == [(2, 2, 49 >> i, 35 >> i) for i in range(4)]
    assert network.heads == 4
    sum(head.square().mean() for head in heads).backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    with torch.inference_mode():
        assert network.eval()(torch.rand(1, 3, 49, 35)).shape == (1, 2, 49, 35)
