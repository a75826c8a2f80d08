import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from transeg.core.inference.trained_model import TrainedModel
from transeg.core.interfaces import Segmenter
from transeg.core.models.fusion import fold_batch_norms, fuse_for_inference
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder

CPU = torch.device("cpu")


class Net(Segmenter):
    """Convolution, batch norm, and a head."""

    def __init__(self, conv=None, norm=None):
        super().__init__()
        self.conv = conv or nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = norm or nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, image):
        return self.head(self.norm(self.conv(image)))


class SharedConv(Net):
    def forward(self, image):
        return self.head(self.norm(self.conv(image))) + self.head(self.conv(image.flip(3)))


class SharedNorm(Net):
    def forward(self, image):
        return self.head(self.norm(self.norm(self.conv(image))))


class TwoReaders(Net):
    def forward(self, image):
        x = self.conv(image)
        return self.head(self.norm(x) + x)


class ViewReader(Net):
    def forward(self, image):
        x = self.conv(image)
        return self.head(self.norm(x)) + x[:, :1]


class WeightReader(Net):
    def forward(self, image):
        return self.head(self.norm(self.conv(image)) + F.conv2d(image, self.conv.weight, padding=1))


class TwoHeads(Net):
    def forward(self, image):
        x = self.conv(image)
        return [self.head(self.norm(x)), x]


class Standardised(nn.Conv2d):
    """Whatever its weights are, it uses them at unit variance."""

    def forward(self, x):
        return F.conv2d(x, self.weight / self.weight.std((1, 2, 3), keepdim=True), self.bias, padding=1)


class Strided(Net):
    """Uses the weights of a module that it does not call."""

    def forward(self, image):
        return self.head(self.norm(F.conv2d(image, self.conv.weight, self.conv.bias, stride=2)))


class NoBias(Net):
    """As above, except for the bias."""

    def forward(self, image):
        return self.head(self.norm(F.conv2d(image, self.conv.weight)))


class NormAct(nn.BatchNorm2d):
    """Batch norm with its activation, as timm has it."""

    def __init__(self, channels):
        super().__init__(channels)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(super().forward(x))


class Doubled(nn.BatchNorm2d):
    def forward(self, x):
        return 2 * super().forward(x)


class Large(Net):
    """Takes no small image."""

    def forward(self, image):
        if image.shape[2] < 100:
            raise RuntimeError("too small")
        return super().forward(image)


class TwoNames(Net):
    """Its batch norm has two names, and is called by the second."""

    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(self.conv, self.norm)

    def forward(self, image):
        return self.head(self.block(image))


def trained(network):
    """The network with statistics as after a training, in eval mode."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, -2, 2)
                nn.init.normal_(module.bias)
    return network.eval()


def norms(network):
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def images(side=104):
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


@torch.no_grad()
def same(network, other):
    one, two = network(images()), other(images())
    pairs = zip(one, two, strict=True) if isinstance(one, list) else [(one, two)]
    return all(torch.allclose(a, b, atol=1e-5, rtol=1e-4) for a, b in pairs)


@pytest.mark.parametrize(
    "network",
    [
        Net(),
        Net(conv=nn.Conv2d(3, 4, 3)),
        Net(conv=nn.ConvTranspose2d(3, 4, 2, 2)),
        Net(norm=nn.BatchNorm2d(4, affine=False)),
        Net(norm=nn.BatchNorm2d(4, eps=0.1)),
        Net(norm=NormAct(4)),
        TwoNames(),
        Strided(),
    ],
    ids=["plain", "bias", "transposed", "not affine", "eps", "activation", "two names", "weights alone"],
)
def test_what_is_folded(network):
    network = trained(network)
    ready = fold_batch_norms(network, 3)
    assert (norms(network), norms(ready)) == (1, 0)
    assert same(network, ready)


@pytest.mark.parametrize(
    "network",
    [
        SharedConv(),
        SharedNorm(),
        TwoReaders(),
        ViewReader(),
        WeightReader(),
        NoBias(),
        TwoHeads(),
        Net(conv=Standardised(3, 4, 3)),
        Net(conv=nn.Sequential(nn.Conv2d(3, 6, 1), nn.ConvTranspose2d(6, 4, 1, groups=2))),
        Net(norm=nn.BatchNorm2d(4, track_running_stats=False)),
        Net(norm=Doubled(4)),
        Large(),
    ],
    ids=lambda network: type(network).__name__,
)
def test_what_is_left_as_it_is(network):
    network = trained(network)
    ready = fold_batch_norms(network, 3)
    assert norms(ready) == 1
    assert same(network, ready)


def test_a_norm_that_trains_is_left_as_it_is():
    network = trained(Net())
    network.norm.train()
    assert norms(fold_batch_norms(network, 3)) == 1


def test_the_network_that_is_deployed_stays_as_it_was():
    network = trained(Net())
    before = copy.deepcopy(network.state_dict())
    fuse_for_inference(network, 3, CPU)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
    assert norms(network) == 1


def test_what_is_deployed_on_a_cpu_has_channels_last():
    network = trained(Net())
    ready = fuse_for_inference(network, 3, CPU)
    assert ready.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert ready(images()).is_contiguous(memory_format=torch.channels_last)
    assert same(network, ready)


def test_but_not_with_instance_norms_which_would_copy_back_and_forth():
    network = trained(Net(norm=nn.InstanceNorm2d(4)))
    ready = fuse_for_inference(network, 3, CPU)
    assert ready.conv.weight.is_contiguous()
    assert same(network, ready)


def test_weights_with_five_dimensions_need_no_layout():
    network = trained(Net())
    network.relative = nn.Parameter(torch.zeros(1, 1, 1, 1, 1))
    assert same(network, fuse_for_inference(network, 3, CPU))


def test_the_random_state_is_left_alone():
    network = trained(Net())
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    fuse_for_inference(network, 3, CPU)
    assert torch.equal(torch.rand(3), expected)


def test_a_trained_network_is_deployed_unless_its_layers_matter(joint_run):
    ready = TrainedModel.load(RunFolder(joint_run), Registry(), "cpu")
    whole = TrainedModel.load(RunFolder(joint_run), Registry(), "cpu", layers=True)
    assert norms(ready.segmenter) == 0 < norms(whole.segmenter)
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.inference_mode():
        expected = whole.segment(image)
        assert torch.allclose(ready.segment(image), expected, atol=float(expected.abs().max()) * 1e-4)
