import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from transeg.core.models.compilation import load_optimizer_state
from transeg.core.models.memory_layout import put_channels_last, put_segmenter_channels_last


def is_last(tensor):
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


def test_weights_and_what_passes_between_layers_have_their_channels_innermost():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3))
    put_channels_last(network)
    assert is_last(network[1].weight)
    assert is_last(network[0](torch.rand(2, 3, 16, 16)))


@pytest.mark.parametrize("channels", [1, 3, 8, 15])
def test_strided_convolutions_of_few_channels_learn(channels):
    """Where PyTorch gets such images and weights with their channels innermost, the process ends, or the gradient is
    wrong."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(channels, 32, 1, stride=2))
    image = torch.rand(2, channels, 128, 128)
    exact = torch.autograd.functional.jacobian(
        lambda weight: F.conv2d(image.double(), weight, stride=2).square().mean(), network[0].weight.detach().double()
    )
    put_channels_last(network)
    network[0].bias.data.zero_()
    network(image.contiguous(memory_format=torch.channels_last)).square().mean().backward()
    assert torch.allclose(network[0].weight.grad.double(), exact, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("back", [False, True], ids=["put innermost", "put back"])
def test_an_optimizer_goes_on_where_the_order_of_weights_is_another(fused, back):
    """A run that was stopped may be resumed with train.channels_last changed."""
    image = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    def learned(innermost):
        torch.manual_seed(0)
        network, optimizer, state = None, None, {}
        for last in innermost:
            before = {} if network is None else copy.deepcopy(network.state_dict())
            network = nn.Sequential(nn.Conv2d(3, 8, 3))
            if last:
                put_channels_last(network)
            network.load_state_dict(before or network.state_dict())
            optimizer = torch.optim.Adam(network.parameters(), lr=0.01, fused=fused)
            if state:
                load_optimizer_state(optimizer, state)
            for _ in range(3):
                network(image).square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()
            state = copy.deepcopy(optimizer.state_dict())
        return network[0].weight.detach()

    assert torch.allclose(learned([back, not back]), learned([back, back]), atol=1e-6)


def test_a_segmenter_with_plain_batch_norms_is_laid_out_and_no_other():
    for norm, last in ((nn.BatchNorm2d, True), (nn.InstanceNorm2d, False), (nn.SyncBatchNorm, False)):
        network = nn.Sequential(nn.Conv2d(3, 8, 3), norm(8), nn.Conv2d(8, 8, 3))
        put_segmenter_channels_last(network)
        assert is_last(network[2].weight) is last
    assert type(network[1]) is nn.SyncBatchNorm


def test_a_segmenter_learns_the_same_up_to_rounding():
    torch.manual_seed(0)
    parts = [(nn.Conv2d(width, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)) for width in (3, 8)]
    network = nn.Sequential(*(part for each in parts for part in each), nn.Conv2d(8, 1, 1))
    image = torch.rand(4, 3, 96, 96)
    mask = (image.mean(1, keepdim=True) > 0.5).float()

    def learned(network, dtype):
        optimizer = torch.optim.Adam(network.to(dtype).parameters(), lr=0.01, fused=True)
        for _ in range(5):
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(network(image.to(dtype)), mask.to(dtype)).backward()
            optimizer.step()
        return torch.cat([value.double().flatten() for value in network.state_dict().values()])

    laid_out = copy.deepcopy(network)
    put_segmenter_channels_last(laid_out)
    assert is_last(laid_out[3].weight)
    exact = learned(copy.deepcopy(network), torch.float64)
    plain, last = (learned(each, torch.float32) for each in (network, laid_out))
    assert (last - exact).norm() <= 2 * (plain - exact).norm() + 1e-5
