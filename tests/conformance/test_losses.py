"""What every segmentation loss in the registry must do."""

import pytest
import torch
import torch.nn.functional as F

from transeg.core.component_options import options
from transeg.core.interfaces import IGNORE, Loss
from transeg.core.registry import Registry

REGISTRY = Registry()
COMPONENTS = [c for c in REGISTRY.components("loss") if c.entry.role == "segmentation"]


@pytest.fixture(params=COMPONENTS, ids=str)
def component(request):
    if request.param.status == "missing":
        pytest.skip(f"needs {request.param.reason}")
    return request.param


@pytest.fixture
def loss(component):
    return REGISTRY.load(component)()


@pytest.fixture(params=[1, 2, 4], ids=["sigmoid", "two-channels", "four-classes"])
def channels(request):
    return request.param


def case(channels, size=(33, 40), ignored=0.0):
    """Random logits, and random labels of which a share is to be ignored."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, channels, *size, generator=generator)
    target = torch.randint(max(2, channels), (2, *size), generator=generator)
    target[torch.rand(target.shape, generator=generator) < ignored] = IGNORE
    return logits.requires_grad_(), target


def confident(target, channels, right=True):
    """Logits that are sure of the truth, or of the opposite."""
    truth = target.unsqueeze(1) if channels == 1 else F.one_hot(target, channels).movedim(-1, 1)
    return (60.0 * truth - 30) * (1 if right else -1)


def shapes(classes):
    """Two images of 16x16 pixels with one disk of every class but background."""
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    target = torch.zeros(2, 16, 16, dtype=torch.long)
    for index, label in enumerate(range(1, classes)):
        for image, (row, column) in enumerate([(4, 4 + 4 * index), (11, 12 - 4 * index)]):
            target[image, (y - row) ** 2 + (x - column) ** 2 < 9] = label
    return target


def value_and_gradient(loss, logits, target):
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, target)
    value.backward()
    return value.detach(), logits.grad


def test_it_is_described(component, loss):
    assert isinstance(loss, Loss)
    assert component.entry.summary
    assert all(option.help for option in options(type(loss)).values())


def test_it_is_a_finite_scalar_with_a_gradient(loss, channels):
    value, gradient = value_and_gradient(loss, *case(channels))
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


def test_its_gradient_is_that_of_its_value(loss, channels):
    """Along random directions; the losses compute in float32.

    A loss that looks at the prediction cut at one half (`hausdorff`) jumps where a probability passes it, and its
    gradient is the slope between two jumps: here no probability passes one half.
    """
    logits, target = case(channels, size=(9, 8))
    logits = (logits + 0.05 * logits.sign()).detach()
    _, gradient = value_and_gradient(loss, logits, target)
    generator = torch.Generator().manual_seed(1)
    step = 0.01
    for _ in range(3):
        direction = torch.randn(logits.shape, generator=generator) / logits.numel() ** 0.5
        with torch.no_grad():
            ends = [logits + step * direction, logits - step * direction]
            masks = [(end.sigmoid() if channels == 1 else end.softmax(1)) > 0.5 for end in ends]
            assert masks[0].equal(masks[1])
            slope = (loss(ends[0], target) - loss(ends[1], target)) / (2 * step)
        assert slope.item() == pytest.approx((gradient * direction).sum().item(), rel=0.02, abs=5e-5)


def test_the_truth_is_better_than_its_opposite(loss, channels):
    _, target = case(channels)
    right, wrong = (loss(confident(target, channels, sure), target) for sure in (True, False))
    assert right.item() == pytest.approx(0, abs=1e-3)
    assert wrong > right + 0.1


@pytest.mark.parametrize("share", [0.3, 0.97])
def test_ignored_pixels_change_nothing(loss, channels, share):
    logits, target = case(channels, ignored=share)
    target[1, :, :20] = IGNORE
    ignored = (target == IGNORE).unsqueeze(1).expand_as(logits)
    value, gradient = value_and_gradient(loss, logits, target)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert (gradient[ignored] == 0).all()
    assert gradient[~ignored].abs().sum() > 0
    changed = torch.where(ignored, 50 * torch.randn(logits.shape), logits)
    other_value, other_gradient = value_and_gradient(loss, changed, target)
    assert other_value.equal(value)
    assert other_gradient.equal(gradient)


def test_nothing_known_is_no_loss(loss, channels):
    logits, target = case(channels)
    value, gradient = value_and_gradient(loss, logits, torch.full_like(target, IGNORE))
    assert value.item() == 0
    assert (gradient == 0).all()


def test_an_image_of_which_nothing_is_known_gets_no_gradient(loss, channels):
    logits, target = case(channels)
    target[0] = IGNORE
    value, gradient = value_and_gradient(loss, logits, target)
    assert value.isfinite()
    assert (gradient[0] == 0).all()
    assert gradient[1].isfinite().all()
    assert gradient[1].abs().sum() > 0


@pytest.mark.parametrize("label", ["background", "last"])
@pytest.mark.parametrize("logit", [-40.0, 0.0, 40.0])
def test_masks_of_one_class_are_finite(loss, channels, label, logit):
    """Empty and full masks, whatever is predicted; the last channel is as sure of its class as the logit says."""
    target = torch.full((2, 16, 16), 0 if label == "background" else max(1, channels - 1))
    logits = torch.zeros(2, channels, 16, 16)
    logits[:, -1] = logit
    value, gradient = value_and_gradient(loss, logits, target)
    assert value.isfinite()
    assert value >= 0
    assert gradient.isfinite().all()


@pytest.mark.parametrize("label", ["background", "last"])
def test_masks_of_one_class_can_be_met(loss, channels, label):
    target = torch.full((2, 16, 16), 0 if label == "background" else max(1, channels - 1))
    assert loss(confident(target, channels), target).item() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_half_precision_is_stable(loss, channels, dtype, scale):
    logits, target = case(channels, ignored=0.1)
    half = (scale * logits.detach()).to(dtype)
    value, gradient = value_and_gradient(loss, half, target)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert value.item() == pytest.approx(loss(half.float(), target).item(), rel=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(half, target).item() == pytest.approx(value.item(), rel=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (2, 2), (31, 17)], ids=str)
def test_any_size_will_do(loss, channels, size):
    value, gradient = value_and_gradient(loss, *case(channels, size))
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_it_repeats_itself_and_leaves_its_inputs_alone(loss, channels):
    logits, target = case(channels, ignored=0.1)
    kept_logits, kept_target = logits.detach().clone(), target.clone()
    value, gradient = value_and_gradient(loss, logits, target)
    again, gradient_again = value_and_gradient(loss, logits, target)
    assert again.equal(value)
    assert gradient_again.equal(gradient)
    assert logits.equal(kept_logits)
    assert target.equal(kept_target)


def test_memory_layout_does_not_matter(loss, channels):
    """The core runs networks in channels-last order and crops what it padded."""
    logits, target = case(channels, ignored=0.1)
    value, gradient = value_and_gradient(loss, logits, target)
    padded = F.pad(logits.detach(), (0, 3, 0, 5)).contiguous(memory_format=torch.channels_last)[:, :, :-5, :-3]
    padded.requires_grad_()
    other = loss(padded, target)
    other.backward()
    assert other.item() == pytest.approx(value.item(), rel=1e-5)
    torch.testing.assert_close(padded.grad, gradient, rtol=1e-4, atol=1e-6)


def test_it_can_be_trained_on_alone(loss, channels):
    """Free logits reach the truth."""
    classes = max(2, channels)
    target = shapes(classes)
    logits = torch.zeros(2, channels, 16, 16, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(50):
        optimizer.zero_grad()
        loss(logits, target).backward()
        optimizer.step()
    predicted = (logits[:, 0] > 0).long() if channels == 1 else logits.argmax(1)
    for label in range(1, classes):
        found, true = predicted == label, target == label
        assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.9
