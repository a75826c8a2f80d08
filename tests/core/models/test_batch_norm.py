import copy

import pytest
import torch
from torch import nn

from transeg.core.models.batch_norm import ChannelsLastBatchNorm, keep_batch_norms_exact


def innermost(shape, seed=0, offset=0.0):
    image = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + offset
    return image.contiguous(memory_format=torch.channels_last)


def trained(norm, image, gradient):
    """Output, running statistics, and the gradients of the image, the scales and the shifts."""
    image = image.clone(memory_format=torch.preserve_format).requires_grad_()
    out = norm(image)
    out.backward(gradient)
    return [out.detach(), norm.running_mean, norm.running_var, image.grad, norm.weight.grad, norm.bias.grad]


@pytest.mark.parametrize("shape", [(2, 5, 7, 9), (3, 8, 1, 4), (2, 5, 23, 29), (1, 3, 1, 2039), (4, 17, 90, 110)])
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_it_is_as_exact_as_double_precision_lets_it_be(shape, offset):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(shape[1], momentum=0.3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    image, gradient = innermost(shape, 0, offset), innermost(shape, 1)
    exact = trained(copy.deepcopy(norm).double(), image.double(), gradient.double())
    keep_batch_norms_exact(norm)
    assert type(norm) is ChannelsLastBatchNorm
    for found, wanted in zip(trained(norm, image, gradient), exact, strict=True):
        assert (found.double() - wanted).norm() <= 5e-6 * wanted.norm()
    assert norm.num_batches_tracked == 1


def test_gradients_in_another_order_are_taken():
    norm = ChannelsLastBatchNorm(3)
    image, gradient = innermost((2, 3, 30, 30)), innermost((2, 3, 30, 30), 1)
    one, other = (trained(copy.deepcopy(norm), image, each) for each in (gradient, gradient.contiguous()))
    for a, b in zip(one, other, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    assert one[0].is_contiguous(memory_format=torch.channels_last)
    assert one[3].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("case", ["few values", "eval", "usual order", "double", "cumulative", "plain"])
def test_everything_else_is_pytorchs(case):
    options = {"cumulative": {"momentum": None}, "plain": {"affine": False}}.get(case, {})
    norm = nn.BatchNorm2d(3, **options)
    ours = copy.deepcopy(norm)
    keep_batch_norms_exact(ours)
    image = innermost((2, 3, 8, 8) if case == "few values" else (2, 3, 30, 30))
    if case == "double":
        norm, ours, image = norm.double(), ours.double(), image.double()
    if case == "usual order":
        image = image.contiguous()
    for each in (norm, ours):
        each.train(case != "eval")
    assert torch.equal(norm(image), ours(image))
    assert torch.equal(norm.running_var, ours.running_var)


def test_a_second_derivative_is_refused_rather_than_wrong():
    norm, image = ChannelsLastBatchNorm(3), innermost((2, 3, 30, 30)).requires_grad_()
    (gradient,) = torch.autograd.grad(norm(image).square().sum(), image, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_norms_of_other_classes_stay():
    class Own(nn.BatchNorm2d):
        pass

    network = nn.Sequential(Own(3), nn.BatchNorm1d(3), nn.SyncBatchNorm(3), nn.BatchNorm2d(3))
    keep_batch_norms_exact(network)
    assert [type(each) for each in network] == [Own, nn.BatchNorm1d, nn.SyncBatchNorm, ChannelsLastBatchNorm]
    assert network.state_dict().keys() == nn.Sequential(Own(3), nn.BatchNorm1d(3), *network[2:]).state_dict().keys()
