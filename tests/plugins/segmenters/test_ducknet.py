import parity
import pytest
import torch

from transeg.core.models.forward import segment
from transeg.core.models.weights import map_keys
from transeg.plugins.segmenters.ducknet import DUCKNet

REFERENCE = parity.read("segmenters")["models"]


@pytest.mark.parametrize("filters", [17, 34])
def test_it_gives_the_reference_numbers(filters):
    network = parity.fill(DUCKNet(3, 2, filters=filters)).eval()
    image = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert parity.deviation(network(image), REFERENCE[f"ducknet{filters}"][0]) < 1e-4


def test_published_checkpoints_fit():
    with torch.device("meta"):
        published = {f"module.{k}": torch.empty(shape) for k, shape in parity.read("keys_ducknet17").items()}
        network = DUCKNet(3, 2)
    network.load_state_dict(map_keys(published, DUCKNet.key_map), strict=True)


@pytest.mark.parametrize(("filters", "count"), [(17, 40_101_544), (34, 160_284_404)])
def test_zh320s_network_has_the_published_size(filters, count):
    with torch.device("meta"):
        network = DUCKNet(3, 2, filters=filters)
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize(
    ("filters", "trainable", "total"), [(17, 38_867_668, 38_921_088), (34, 155_303_507, 155_410_341)]
)
def test_the_papers_network_has_the_published_size(filters, trainable, total):
    """What Keras counts, the norms' running statistics in the total."""
    with torch.device("meta"):
        network = DUCKNet(3, 1, filters=filters, variant="paper")
    count = sum(p.numel() for p in network.parameters())
    statistics = sum(buffer.numel() for name, buffer in network.named_buffers() if "running" in name)
    assert (count, count + statistics) == (trainable, total)


def test_the_papers_even_kernels_look_one_pixel_further_on_the_far_side():
    """TensorFlow's `same` padding of a kernel of 6: two before, three after."""
    row, column = (unit[0][:2] for unit in DUCKNet(1, 1, filters=1, variant="paper").down_stage1.duck.branch6)
    image = torch.zeros(1, 1, 32, 32)
    image[..., 16, 16] = 1
    with torch.no_grad():
        assert row(image)[0, 0].nonzero().tolist() == [[16, place] for place in range(13, 19)]
        assert column(image)[0, 0].nonzero().tolist() == [[place, 16] for place in range(13, 19)]


def test_the_papers_network_begins_with_its_weights():
    torch.manual_seed(0)
    network = DUCKNet(3, 1, variant="paper")
    he = network.mid_stage[0].lower_branch[0][0][0].weight
    glorot = network.down_stage4.conv1.weight
    assert he.detach().abs().max() == pytest.approx((6 / (544 * 9)) ** 0.5, rel=1e-3)
    assert glorot.detach().abs().max() == pytest.approx((6 / ((136 + 272) * 4)) ** 0.5, rel=1e-3)
    assert not any(p.any() for name, p in network.named_parameters() if name.endswith("bias"))
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


def test_each_network_has_its_statistics():
    assert DUCKNet(3, 1, filters=1).mean == (0.485, 0.456, 0.406)
    paper = DUCKNet(3, 1, filters=1, variant="paper")
    assert (paper.mean, paper.std) == ((0.0,), (1.0,))


@pytest.mark.parametrize("variant", ["zh320", "paper"])
@pytest.mark.parametrize("size", [(64, 96), (65, 47), (1, 40)])
def test_any_size(variant, size):
    network = DUCKNet(3, 2, filters=2, variant=variant, aux=True).eval()
    with torch.inference_mode():
        (logits,) = segment(network, torch.rand(1, 3, *size) * 2 - 1)
    assert logits.shape == (1, 2, *size)


@pytest.mark.parametrize("variant", ["zh320", "paper"])
def test_auxiliary_heads_train_every_parameter(variant):
    torch.manual_seed(0)
    network = DUCKNet(3, 2, filters=4, variant=variant, aux=True)
    outputs = network(torch.rand(2, 3, 64, 64))
    assert network.heads == len(outputs) == 5
    assert [tuple(logits.shape) for logits in outputs] == [(2, 2, side, side) for side in (64, 32, 16, 8, 4)]
    sum(logits.square().mean() for logits in outputs).backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_auxiliary_heads_are_there_when_asked_for():
    with torch.device("meta"):
        plain, deep = DUCKNet(3, 2), DUCKNet(3, 2, aux=True)
    added = set(deep.state_dict()) - set(plain.state_dict())
    assert plain.heads == 1
    assert added == {f"aux_heads.{index}.weight" for index in range(4)}


def test_filters_are_positive():
    with pytest.raises(ValueError, match="filters must be at least 1, not 0"):
        DUCKNet(3, 1, filters=0)
