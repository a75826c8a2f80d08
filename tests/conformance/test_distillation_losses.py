"""What every distillation loss in the registry must do."""

import inspect

import pytest
import torch

from transeg.core.component_options import options
from transeg.core.interfaces import DistillationLoss
from transeg.core.registry import Registry

REGISTRY = Registry()
COMPONENTS = [c for c in REGISTRY.components("loss") if getattr(c.entry, "role", "") == "distillation"]
NAMED = [c for c in COMPONENTS if "layer" in options(REGISTRY.load(c))]


def build(component, **named):
    """At defaults; a layer that must be named is called `deep`."""
    cls = REGISTRY.load(component)
    required = {name: "deep" for name, option in options(cls).items() if option.default is inspect.Parameter.empty}
    torch.manual_seed(0)
    return cls(**required, **named)


def outputs(seed, channels=1, width=6, size=(12, 10), requires_grad=False, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    maps = {
        "logits": torch.randn(2, channels, 24, 20, generator=generator),
        "deep": torch.randn(2, width, *size, generator=generator),
        "mid.0": torch.randn(2, width, *size, generator=generator),
    }
    return {name: map_.to(dtype).requires_grad_(requires_grad) for name, map_ in maps.items()}


@pytest.fixture(params=COMPONENTS, ids=str)
def component(request):
    return request.param


@pytest.fixture
def loss(component):
    return build(component)


def test_there_are_some():
    assert {c.name for c in COMPONENTS} >= {"kl", "mse", "cwd", "at", "fitnet"}


def test_it_is_described(component, loss):
    assert isinstance(loss, DistillationLoss)
    assert component.entry.summary
    assert component.entry.paper
    assert all(option.help for option in options(type(loss)).values())


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_the_student_learns_and_the_teacher_does_not(loss, channels):
    student, teacher = outputs(0, channels, requires_grad=True), outputs(1, channels, requires_grad=True)
    loss.prepare(student, teacher)
    value = loss(student, teacher)
    assert value.shape == ()
    assert value.isfinite()
    assert value > 0
    (gradient,) = torch.autograd.grad(value, student[loss.layer], retain_graph=True)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


def test_it_falls_as_the_student_comes_nearer(loss):
    student, teacher = outputs(0), outputs(1)
    loss.prepare(student, teacher)
    learned = student[loss.layer].requires_grad_()
    first = loss(student, teacher).item()
    optimizer = torch.optim.Adam([learned, *loss.parameters()], lr=0.1)
    for _ in range(30):
        optimizer.zero_grad()
        loss(student, teacher).backward()
        optimizer.step()
    assert loss(student, teacher).item() < 0.5 * first


@pytest.mark.parametrize("component", [c for c in COMPONENTS if c.name != "fitnet"], ids=str)
def test_nothing_is_lost_on_a_student_that_has_learned_everything(component):
    loss, teacher = build(component), outputs(1)
    loss.prepare(teacher, teacher)
    assert loss(teacher, teacher).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_stable(loss, dtype):
    student, teacher = outputs(0, dtype=dtype), outputs(1, dtype=dtype)
    big = {name: (100 * map_).requires_grad_() for name, map_ in student.items()}
    loss.prepare(big, teacher)
    value = loss(big, teacher)
    value.backward()
    assert value.isfinite()
    assert value.dtype == torch.float32
    assert big[loss.layer].grad.isfinite().all()
    exact = loss({name: map_.float() for name, map_ in big.items()}, {n: m.float() for n, m in teacher.items()})
    assert value.item() == pytest.approx(exact.item(), rel=1e-3)


def test_constant_maps_are_finite(loss):
    student = {name: torch.zeros_like(map_, requires_grad=True) for name, map_ in outputs(0).items()}
    teacher = {name: torch.zeros_like(map_) for name, map_ in outputs(1).items()}
    loss.prepare(student, teacher)
    value = loss(student, teacher)
    value.backward()
    assert value.isfinite()
    assert student[loss.layer].grad.isfinite().all()


@pytest.mark.parametrize("component", NAMED, ids=str)
def test_layers_may_have_other_names_and_sizes(component):
    loss = build(component) if component.name in ("at", "fitnet") else build(component, layer="deep")
    assert (loss.layer, loss.teacher_layer) == ("deep", "deep")
    loss = REGISTRY.load(component)(layer="deep", teacher_layer="mid.0")
    student, teacher = outputs(0, requires_grad=True), outputs(1, size=(5, 7))
    loss.prepare(student, teacher)
    loss(student, teacher).backward()
    assert student["deep"].grad.abs().sum() > 0
    assert student["logits"].grad is None


@pytest.mark.parametrize("component", NAMED, ids=str)
def test_layers_of_other_widths_are_projected_or_refused(component):
    loss = REGISTRY.load(component)(layer="deep")
    student, teacher = outputs(0, requires_grad=True), outputs(1, width=9)
    if component.name == "mse":
        with pytest.raises(ValueError, match="6 channels and the teacher's deep 9"):
            loss.prepare(student, teacher)
        return
    loss.prepare(student, teacher)
    loss(student, teacher).backward()
    assert all(parameter.grad is not None for parameter in loss.parameters())
    assert len(list(loss.parameters())) == (0 if component.name == "at" else 2)
