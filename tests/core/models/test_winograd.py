import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from transeg.core.experiment.schema import TrainOptions
from transeg.core.inference.conditioning import Conditioning
from transeg.core.models import winograd
from transeg.core.models.forward import segment
from transeg.core.models.fusion import fuse_for_inference
from transeg.core.models.winograd import WinogradConv2d, use_winograd
from transeg.core.registry import Registry
from transeg.core.training.tasks.translation_task import TranslationTask
from transeg.core.training.train import _apply_options

REGISTRY = Registry()
SEGMENTERS, GENERATORS = (
    [component for component in REGISTRY.components(kind) if component.status != "missing"]
    for kind in ("segmenter", "generator")
)

pytestmark = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="not used here")


@pytest.fixture
def everywhere(monkeypatch):
    """Small networks and images, too."""
    monkeypatch.setattr(winograd, "CHANNELS", 1)
    monkeypatch.setattr(winograd, "TILES", 1)


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def fast(conv):
    conv = copy.deepcopy(conv)
    use_winograd(conv)
    assert type(conv) is WinogradConv2d
    return conv


def gradients(conv, image):
    """The result, and the gradients of the image and of the weights."""
    image = image.clone(memory_format=torch.preserve_format).requires_grad_()
    out = conv(image)
    out.backward(drawn(*out.shape, seed=1).to(out.dtype))
    return [out.detach(), image.grad, *(weight.grad for weight in conv.parameters())]


@pytest.mark.parametrize("at_once", [1, 7, 256])
@pytest.mark.parametrize("shape", [(3, 5, 8, 12), (1, 2, 17, 6), (2, 4, 4, 4)])
@pytest.mark.parametrize("options", [{"padding": 1}, {}, {"padding": (2, 1), "bias": False}], ids=str)
@pytest.mark.parametrize("side", [3, 4])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last], ids=["usual", "innermost"])
def test_it_is_the_convolution(everywhere, monkeypatch, at_once, shape, options, side, order):
    monkeypatch.setattr(winograd, "AT_ONCE", at_once)
    torch.manual_seed(0)
    conv = nn.Conv2d(shape[1], 6, side, **options)
    image = drawn(*shape).contiguous(memory_format=order)
    wanted = gradients(copy.deepcopy(conv).double(), image.double())
    found = gradients(fast(conv), image)
    for a, b in zip(found, wanted, strict=True):
        assert (a.double() - b).norm() <= 1e-5 * b.norm()
    assert found[0].is_contiguous(memory_format=order)


@pytest.mark.parametrize("side", [3, 4])
def test_full_widths_keep_their_digits(side):
    """As far from double precision as docs/decisions/winograd.md says."""
    torch.manual_seed(0)
    conv = nn.Conv2d(256, 256, side, padding=1)
    image = drawn(2, 256, 32, 32) + 1
    wanted = gradients(copy.deepcopy(conv).double(), image.double())
    for a, b in zip(gradients(fast(conv), image), wanted, strict=True):
        assert (a.double() - b).norm() <= 5e-6 * b.norm()


def test_only_what_is_needed_is_differentiated(everywhere):
    conv, image = fast(nn.Conv2d(3, 4, 3)), drawn(2, 3, 8, 8)
    (of_weight,) = torch.autograd.grad(conv(image).square().sum(), [conv.weight])
    (of_image,) = torch.autograd.grad(conv(image.requires_grad_()).square().sum(), [image])
    both = torch.autograd.grad(conv(image).square().sum(), [conv.weight, image])
    assert torch.equal(of_weight, both[0])
    assert torch.equal(of_image, both[1])
    conv.requires_grad_(False)
    assert not conv(image.detach()).requires_grad


def test_it_can_be_differentiated_twice(everywhere):
    """As R1 needs, which trains discriminators by the gradient of an image."""

    def twice(conv, image):
        image = image.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(conv(image).pow(3).sum(), image, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), [image, conv.weight, conv.bias])

    conv, image = nn.Conv2d(3, 4, 3, padding=1), drawn(2, 3, 8, 8)
    exact = twice(copy.deepcopy(conv).double(), image.double())
    for a, b in zip(twice(fast(conv), image), exact, strict=True):
        assert torch.allclose(a.double(), b, rtol=1e-4, atol=1e-4 * b.abs().max().item())


@pytest.mark.parametrize("case", ["few tiles", "unbatched", "float64", "bfloat16", "autocast"])
def test_everything_else_is_pytorchs(monkeypatch, case):
    monkeypatch.setattr(winograd, "CHANNELS", 1)
    conv, image = nn.Conv2d(4, 4, 3), drawn(1, 4, 34, 34)
    if case != "few tiles":
        monkeypatch.setattr(winograd, "TILES", 1)
    if case in ("float64", "bfloat16"):
        conv, image = conv.to(getattr(torch, case)), image.to(getattr(torch, case))
    if case == "unbatched":
        image = image[0]
    with torch.autocast("cpu", enabled=case == "autocast"):
        assert torch.equal(conv(image), fast(conv)(image))


def test_convolutions_of_other_kinds_stay(everywhere):
    class Own(nn.Conv2d):
        pass

    others = [
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, 5),
        nn.Conv2d(4, 4, (3, 4)),
        nn.Conv2d(4, 4, 3, stride=2),
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.ConvTranspose2d(4, 4, 3),
        Own(4, 4, 3),
    ]
    network = nn.Sequential(*others, nn.Conv2d(4, 4, 3))
    names = list(network.state_dict())
    use_winograd(network)
    assert [type(each) for each in network] == [*map(type, others), WinogradConv2d]
    assert list(network.state_dict()) == names


def test_few_channels_stay():
    network = nn.Sequential(nn.Conv2d(64, 256, 3), nn.Conv2d(256, 64, 3), nn.Conv2d(256, 128, 3))
    use_winograd(network)
    assert [type(each) for each in network] == [nn.Conv2d, nn.Conv2d, WinogradConv2d]


def test_who_watches_sees_a_convolution(everywhere):
    plain, image = nn.Conv2d(3, 4, 3), drawn(1, 3, 16, 16)
    conv = fast(plain).eval()

    def operations(network):
        with FlopCounterMode(display=False) as counter:
            network(image)
        return counter.get_total_flops()

    assert operations(conv) == operations(plain)
    traced = torch.jit.trace(conv, image)
    assert "_convolution" in str(traced.inlined_graph)
    assert "bmm" not in str(traced.inlined_graph)
    exported = {str(node.target) for node in torch.export.export(conv, (image,)).graph.nodes}
    assert "aten.conv2d.default" in exported
    assert "aten.bmm.default" not in exported


def moved(network, compute):
    """How far results move where all convolutions that can be computed so are, as a share of the largest."""
    with torch.inference_mode():
        before = compute(network)
        use_winograd(network)
        return (compute(network) - before).abs().max() / before.abs().max()


@pytest.mark.parametrize("component", SEGMENTERS, ids=str)
def test_every_segmenter_keeps_its_logits(everywhere, component):
    torch.manual_seed(0)
    network = REGISTRY.load(component)(3, 1).eval()
    image = drawn(1, 3, max(64, network.size_multiple), max(64, network.size_multiple))
    assert moved(network, lambda segmenter: segment(segmenter, image)[0]) <= 1e-4


@pytest.mark.parametrize("component", GENERATORS, ids=str)
def test_every_generator_keeps_its_translations(everywhere, component):
    torch.manual_seed(0)
    network = REGISTRY.load(component)(3, 3).eval()
    image = drawn(1, 3, max(64, network.size_multiple), max(64, network.size_multiple)).clamp(-1, 1)
    assert moved(network, lambda generator: generator.translate(image, generator.directions[0])) <= 1e-4


def test_a_segmenter_that_is_ready_for_inference_computes_so():
    network = nn.Sequential(nn.Conv2d(3, 128, 1), nn.Conv2d(128, 128, 3), nn.Conv2d(128, 1, 1)).eval()
    network.mean, network.std, network.size_multiple = (0.5,), (0.5,), 1
    assert type(fuse_for_inference(network, 3, torch.device("cpu"))[1]) is WinogradConv2d


@pytest.mark.parametrize(
    ("options", "used"), [({}, True), ({"precision": "bf16"}, False), ({"compile": True}, False)], ids=str
)
def test_a_training_in_float32_that_is_not_compiled_computes_so(options, used):
    generator = REGISTRY.load(REGISTRY.find("generator", "cut"))(3, 3)
    task = TranslationTask(generator, Conditioning("image", 2, 3))
    _apply_options(task, TrainOptions(iterations=1, batch_size=1, **options), torch.device("cpu"))
    assert any(type(module) is WinogradConv2d for module in task.modules()) is used
