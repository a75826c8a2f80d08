"""What every distillation loss must do."""

from __future__ import annotations

from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor

from transeg.core.component_options import EMPTY, options
from transeg.core.interfaces import DistillationLoss
from transeg.testing.subject import Subject


def _built(subject: Subject, **named: Any) -> DistillationLoss:
    """At defaults; a layer that must be named is called `deep`."""
    required = {name: "deep" for name, option in options(subject.load()).items() if option.default is EMPTY}
    loss: DistillationLoss = subject.build(**{**required, **named})
    return loss


def _outputs(
    seed: int,
    *,
    channels: int = 1,
    width: int = 6,
    size: tuple[int, int] = (12, 10),
    learned: bool = False,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """Random logits and outputs of two layers, `deep` and `mid.0`."""
    draw = torch.Generator().manual_seed(seed)
    maps = {
        "logits": torch.randn(2, channels, 24, 20, generator=draw),
        "deep": torch.randn(2, width, *size, generator=draw),
        "mid.0": torch.randn(2, width, *size, generator=draw),
    }
    return {name: each.to(dtype).requires_grad_(learned) for name, each in maps.items()}


def distillation_teaches_the_student_alone(subject: Subject) -> None:
    """It is a finite positive scalar whose gradient reaches the student's output."""
    for channels in (1, 2, 4):
        loss = _built(subject)
        student, teacher = (_outputs(seed, channels=channels, learned=True) for seed in (0, 1))
        loss.prepare(student, teacher)
        value = loss(student, teacher)
        subject.expect(
            value.shape == () and value.isfinite() and value > 0,
            f"a finite positive scalar for {channels} channels of logits",
            f"shape {tuple(value.shape)}: {value.flatten()[0].item()}",
            "Average over pixels, and keep divisions and logarithms from zero.",
        )
        (gradient,) = torch.autograd.grad(value, student[loss.layer], retain_graph=True)
        subject.expect(
            gradient.isfinite().all() and gradient.abs().sum() > 0,
            f"a finite gradient in the student's {loss.layer}",
            gradient.abs().sum().item(),
            "Set `layer` to the output that it compares, and detach the teacher's alone.",
        )


def distillation_falls_as_the_student_learns(subject: Subject) -> None:
    """Thirty steps on the student's output halve it."""
    loss = _built(subject)
    student, teacher = _outputs(0), _outputs(1)
    loss.prepare(student, teacher)
    learned = student[loss.layer].requires_grad_()
    first = loss(student, teacher).item()
    optimizer = torch.optim.Adam([learned, *loss.parameters()], lr=0.1)
    for _ in range(30):
        optimizer.zero_grad()
        loss(student, teacher).backward()
        optimizer.step()
    last = loss(student, teacher).item()
    subject.expect(last < 0.5 * first, f"less than half of {first:.4g}", f"{last:.4g}", "Look at its sign and scale.")


def distillation_ends_where_the_student_equals_the_teacher(subject: Subject) -> None:
    """It is 0 where both give the same, unless it has a projection of its own to learn."""
    loss, teacher = _built(subject), _outputs(1)
    loss.prepare(teacher, teacher)
    if list(loss.parameters()):
        raise SkipTest("it learns a projection, which need not begin as the identity")
    value = loss(teacher, teacher).item()
    subject.expect(
        abs(value) < 1e-6, "0 where student and teacher are equal", f"{value:.4g}", "Subtract the teacher's own share."
    )


def distillation_is_stable_in_half_precision(subject: Subject) -> None:
    """Large outputs in float16 and bfloat16 give the value of float32, and a finite gradient."""
    for dtype in (torch.float16, torch.bfloat16):
        loss = _built(subject)
        student, teacher = _outputs(0, dtype=dtype), _outputs(1, dtype=dtype)
        large = {name: (100 * each).requires_grad_() for name, each in student.items()}
        loss.prepare(large, teacher)
        value = loss(large, teacher)
        value.backward()
        exact = loss(*({name: each.float() for name, each in maps.items()} for maps in (large, teacher))).item()
        gradient = large[loss.layer].grad
        subject.expect(
            value.dtype == torch.float32
            and abs(value.item() - exact) <= 1e-3 * abs(exact)
            and gradient is not None
            and gradient.isfinite().all(),
            f"{exact:.5g} in float32 for outputs in {dtype}".replace("torch.", ""),
            f"{value.item():.5g} in {value.dtype}".replace("torch.", ""),
            "Begin with `.float()` on both outputs.",
        )


def distillation_bears_constant_maps(subject: Subject) -> None:
    """Outputs of zeros give a finite value and a finite gradient."""
    loss = _built(subject)
    student = {name: torch.zeros_like(each, requires_grad=True) for name, each in _outputs(0).items()}
    teacher = {name: torch.zeros_like(each) for name, each in _outputs(1).items()}
    loss.prepare(student, teacher)
    value = loss(student, teacher)
    value.backward()
    gradient = student[loss.layer].grad
    subject.expect(
        value.isfinite() and gradient is not None and gradient.isfinite().all(),
        "finite numbers for outputs of zeros",
        value.item(),
        "Keep norms and deviations that it divides by from zero.",
    )


def _of_layers(subject: Subject) -> None:
    if "layer" not in options(subject.load()):
        raise SkipTest("it compares logits alone: it has no option layer")


def distillation_compares_layers_of_other_names(subject: Subject) -> None:
    """Student's and teacher's layers may have different names and sizes, and no other output is touched."""
    _of_layers(subject)
    loss = _built(subject, layer="deep")
    subject.expect(
        (loss.layer, loss.teacher_layer) == ("deep", "deep"),
        "the teacher's layer to be called as the student's where no teacher_layer is named",
        loss.teacher_layer,
        "Set self.teacher_layer = teacher_layer or layer.",
    )
    loss = _built(subject, layer="deep", teacher_layer="mid.0")
    student, teacher = _outputs(0, learned=True), _outputs(1, size=(5, 7))
    loss.prepare(student, teacher)
    loss(student, teacher).backward()
    gradient = student["deep"].grad
    subject.expect(
        gradient is not None and gradient.abs().sum() > 0 and student["logits"].grad is None,
        "a gradient in the layer `deep` alone",
        {name: each.grad is not None for name, each in student.items()},
        "Resize the teacher's map to the student's, and look at the outputs of `layer` and `teacher_layer` alone.",
    )


def distillation_projects_or_refuses_other_widths(subject: Subject) -> None:
    """Layers of other widths are projected, with parameters that learn, or refused by prepare() with a sentence."""
    _of_layers(subject)
    loss = _built(subject, layer="deep")
    student, teacher = _outputs(0, learned=True), _outputs(1, width=9)
    try:
        loss.prepare(student, teacher)
    except ValueError as error:
        subject.expect("6" in str(error) and "9" in str(error), "both widths in the reason", str(error), "Name them.")
        return
    loss(student, teacher).backward()
    subject.expect(
        all(parameter.grad is not None for parameter in loss.parameters()),
        "a gradient in every parameter of its projection",
        "none in some",
        "Use them in forward.",
    )


CHECKS = (
    distillation_teaches_the_student_alone,
    distillation_falls_as_the_student_learns,
    distillation_ends_where_the_student_equals_the_teacher,
    distillation_is_stable_in_half_precision,
    distillation_bears_constant_maps,
    distillation_compares_layers_of_other_names,
    distillation_projects_or_refuses_other_widths,
)
