"""What every segmentation loss in the registry must do."""

import pytest
import torch

from transeg.core.interfaces import Loss
from transeg.core.options import options
from transeg.core.registry import Registry

REGISTRY = Registry()
COMPONENTS = [c for c in REGISTRY.components("loss") if c.entry.role == "segmentation"]


@pytest.fixture(params=COMPONENTS, ids=str)
def component(request):
    return request.param


@pytest.fixture
def loss(component):
    return REGISTRY.load(component)()


def case(classes, size=(33, 40), dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1 if classes == 2 else classes, *size, generator=generator, dtype=torch.float64)
    target = torch.randint(classes, (2, *size), generator=generator)
    return logits.to(dtype).requires_grad_(), target


def confident(target, classes, right=True):
    """Logits that are sure of the truth, or of the opposite."""
    sign = 1 if right else -1
    if classes == 2:
        return sign * (target.unsqueeze(1) * 60.0 - 30)
    return sign * (torch.nn.functional.one_hot(target, classes).movedim(-1, 1) * 60.0 - 30)


def test_it_is_described(component, loss):
    assert isinstance(loss, Loss)
    assert component.entry.summary
    assert all(option.help for option in options(type(loss)).values())


@pytest.mark.parametrize("classes", [2, 4])
def test_it_is_a_finite_scalar_with_a_gradient(loss, classes):
    logits, target = case(classes)
    value = loss(logits, target)
    assert value.shape == ()
    value.backward()
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize("classes", [2, 4])
def test_its_gradient_is_that_of_its_value(loss, classes):
    """Along a random direction; the losses compute in float32."""
    logits, target = case(classes, size=(9, 8))
    loss(logits, target).backward()
    direction = torch.randn_like(logits) / logits.numel() ** 0.5
    with torch.no_grad():
        step = 0.02
        slope = (loss(logits + step * direction, target) - loss(logits - step * direction, target)) / (2 * step)
    assert slope.item() == pytest.approx((logits.grad * direction).sum().item(), rel=0.02, abs=2e-5)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_truth_is_better_than_its_opposite(loss, classes):
    _, target = case(classes)
    right, wrong = (loss(confident(target, classes, sure), target) for sure in (True, False))
    assert right.item() == pytest.approx(0, abs=1e-3)
    assert wrong > right + 0.1


@pytest.mark.parametrize("fill", [0, 1])
@pytest.mark.parametrize("logit", [-40.0, 0.0, 40.0])
def test_empty_and_full_masks_are_finite(loss, fill, logit):
    logits = torch.full((2, 1, 16, 16), logit, requires_grad=True)
    value = loss(logits, torch.full((2, 16, 16), fill))
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_half_precision_is_stable(loss, dtype, scale):
    logits, target = case(2)
    half = (scale * logits.detach()).to(dtype).requires_grad_()
    value = loss(half, target)
    value.backward()
    assert value.isfinite()
    assert half.grad.isfinite().all()
    exact = loss((scale * logits.detach()).to(dtype).float(), target)
    assert value.item() == pytest.approx(exact.item(), rel=1e-3)


def test_it_repeats_itself(loss):
    logits, target = case(2)
    assert loss(logits, target).item() == loss(logits, target).item()
