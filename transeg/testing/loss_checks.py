"""What every segmentation loss must do."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from transeg.core.interfaces import IGNORE, Loss
from transeg.testing.subject import Subject

CHANNELS = (1, 2, 4)
"""One is a sigmoid, more are a softmax."""


def _case(channels: int, size: tuple[int, int] = (33, 40), ignored: float = 0.0) -> tuple[Tensor, Tensor]:
    """Random logits, and random labels of which a share is to be ignored."""
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(2, channels, *size, generator=draw)
    target = torch.randint(max(2, channels), (2, *size), generator=draw)
    target[torch.rand(target.shape, generator=draw) < ignored] = IGNORE
    return logits, target


def _sure(target: Tensor, channels: int, *, right: bool = True) -> Tensor:
    """Logits that are sure of the truth, or of the opposite."""
    truth = target.unsqueeze(1) if channels == 1 else F.one_hot(target, channels).movedim(-1, 1)
    return (60.0 * truth - 30) * (1 if right else -1)


def _disks(classes: int) -> Tensor:
    """Two images of 16x16 pixels with one disk of every class but background."""
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    target = torch.zeros(2, 16, 16, dtype=torch.long)
    for index, label in enumerate(range(1, classes)):
        for image, (row, column) in enumerate([(4, 4 + 4 * index), (11, 12 - 4 * index)]):
            target[image, (y - row) ** 2 + (x - column) ** 2 < 9] = label
    return target


def _one_class(channels: int, label: str) -> Tensor:
    return torch.full((2, 16, 16), 0 if label == "background" else max(1, channels - 1))


def _value_and_gradient(loss: Loss, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, target)
    value.backward()
    assert logits.grad is not None
    return value.detach(), logits.grad


def _near(found: Tensor | float, wanted: Tensor | float, *, rel: float = 0.0, absolute: float = 0.0) -> bool:
    one, other = (each.item() if isinstance(each, Tensor) else each for each in (found, wanted))
    return abs(one - other) <= max(rel * abs(other), absolute)


def loss_is_a_scalar_with_a_gradient(subject: Subject) -> None:
    """It is a finite float32 scalar with a finite gradient, for images of any size."""
    loss: Loss = subject.build()
    for channels in CHANNELS:
        for size in ((33, 40), (1, 1), (1, 7), (5, 1), (2, 2), (31, 17)):
            logits, target = _case(channels, size)
            whole = tuple(loss(logits, target).shape)
            subject.expect(whole == (), "a scalar", f"a tensor of shape {whole}", "Average over pixels and images.")
            value, gradient = _value_and_gradient(loss, logits, target)
            subject.expect(
                value.dtype == torch.float32 and value.isfinite() and gradient.isfinite().all(),
                f"a finite float32 scalar with a finite gradient for {channels} channels of {size} pixels",
                f"{value.item()} in {value.dtype}".replace("torch.", ""),
                "Compute in float32 (`logits.float()`), and keep divisions from zero.",
            )
            subject.expect(
                size != (33, 40) or gradient.abs().sum() > 0,
                f"a gradient for {channels} channels",
                "zeros",
                "Compute from logits without detach, argmax or comparisons alone.",
            )


def loss_gradient_is_that_of_its_value(subject: Subject) -> None:
    """Small steps along random directions change its value as its gradient says."""
    # a loss that looks at the prediction cut at one half jumps where a probability passes it, and its gradient is the
    # slope between two jumps: here no probability passes one half
    loss: Loss = subject.build()
    for channels in CHANNELS:
        logits, target = _case(channels, size=(9, 8))
        logits = logits + 0.05 * logits.sign()
        _, gradient = _value_and_gradient(loss, logits, target)
        draw, step = torch.Generator().manual_seed(1), 0.01
        for _ in range(3):
            direction = torch.randn(logits.shape, generator=draw) / logits.numel() ** 0.5
            with torch.no_grad():
                slope = (loss(logits + step * direction, target) - loss(logits - step * direction, target)) / (2 * step)
            wanted = (gradient * direction).sum()
            subject.expect(
                _near(slope, wanted, rel=0.02, absolute=5e-5),
                f"a slope of {wanted.item():.5g} along a direction, as its gradient says ({channels} channels)",
                f"{slope.item():.5g}",
                "Detach nothing that its value depends on, or mend its own backward.",
            )


def loss_prefers_the_truth(subject: Subject) -> None:
    """A sure and right prediction costs nothing, and its opposite much."""
    loss: Loss = subject.build()
    for channels in CHANNELS:
        _, target = _case(channels)
        right, wrong = (loss(_sure(target, channels, right=sure), target).item() for sure in (True, False))
        subject.expect(
            _near(right, 0, absolute=1e-3) and wrong > right + 0.1,
            f"0 for the truth and more than 0.1 for its opposite ({channels} channels)",
            f"{right:.4g} and {wrong:.4g}",
            "Look at its sign, and at which channel means which class: one is a sigmoid, more are a softmax.",
        )


def loss_leaves_out_what_is_unknown(subject: Subject) -> None:
    """Pixels of IGNORE change neither its value nor its gradient, which is zero there."""
    loss: Loss = subject.build()
    mend = "Take pixels where target == IGNORE (255) out of every sum and every mean."
    for channels in CHANNELS:
        for share in (0.3, 0.97):
            logits, target = _case(channels, ignored=share)
            target[1, :, :20] = IGNORE
            ignored = (target == IGNORE).unsqueeze(1).expand_as(logits)
            value, gradient = _value_and_gradient(loss, logits, target)
            finite = value.isfinite() and gradient.isfinite().all()
            subject.expect(finite, "finite numbers where pixels are ignored", value.item(), mend)
            subject.expect(
                (gradient[ignored] == 0).all() and gradient[~ignored].abs().sum() > 0,
                f"no gradient at ignored pixels, and one elsewhere ({channels} channels)",
                f"{gradient[ignored].abs().sum().item():.3g} and {gradient[~ignored].abs().sum().item():.3g}",
                mend,
            )
            noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))
            other, other_gradient = _value_and_gradient(loss, torch.where(ignored, 50 * noise, logits), target)
            subject.expect(
                other.equal(value) and other_gradient.equal(gradient),
                f"the same value whatever is predicted at ignored pixels ({channels} channels)",
                f"{value.item():.6g} and {other.item():.6g}",
                mend,
            )


def loss_of_nothing_is_zero(subject: Subject) -> None:
    """Where nothing is known of a batch it is 0, and an image of which nothing is known gets no gradient."""
    loss: Loss = subject.build()
    for channels in CHANNELS:
        logits, target = _case(channels)
        value, gradient = _value_and_gradient(loss, logits, torch.full_like(target, IGNORE))
        subject.expect(
            value.item() == 0 and (gradient == 0).all(),
            f"0 without a gradient where every pixel is ignored ({channels} channels)",
            value.item(),
            "Divide by the number of known pixels, at least 1: `.clamp(min=1)`.",
        )
        target[0] = IGNORE
        value, gradient = _value_and_gradient(loss, logits, target)
        subject.expect(
            value.isfinite() and (gradient[0] == 0).all() and gradient[1].isfinite().all() and gradient[1].any(),
            f"a gradient for the image of which something is known alone ({channels} channels)",
            f"{gradient[0].abs().sum().item():.3g} and {gradient[1].abs().sum().item():.3g}",
            "Leave the ignored image out of means over images, too.",
        )


def loss_bears_masks_of_one_class(subject: Subject) -> None:
    """Empty and full masks give a finite loss of at least 0, whatever is predicted, and one of 0 for the truth."""
    loss: Loss = subject.build()
    for channels in CHANNELS:
        for label in ("background", "last"):
            target = _one_class(channels, label)
            for logit in (-40.0, 0.0, 40.0):
                logits = torch.zeros(2, channels, 16, 16)
                logits[:, -1] = logit  # as sure of the last class as the logit says
                value, gradient = _value_and_gradient(loss, logits, target)
                subject.expect(
                    value.isfinite() and value >= 0 and gradient.isfinite().all(),
                    f"a finite value of at least 0 on masks of {label} alone, with logits of {logit:g}",
                    value.item(),
                    "Keep divisions and logarithms from zero, with an epsilon that is larger than rounding.",
                )
            met = loss(_sure(target, channels), target).item()
            subject.expect(
                _near(met, 0, absolute=1e-3),
                f"0 for the truth on masks of {label} alone ({channels} channels)",
                f"{met:.4g}",
                "Leave classes that are in neither mask out, or smooth numerator and denominator alike.",
            )


def loss_is_stable_in_half_precision(subject: Subject) -> None:
    """Logits in float16 and bfloat16, also large ones and under autocast, give the value of float32."""
    loss: Loss = subject.build()
    for channels in CHANNELS:
        for dtype in (torch.float16, torch.bfloat16):
            for scale in (1.0, 1000.0):
                logits, target = _case(channels, ignored=0.1)
                half = (scale * logits).to(dtype)
                value, gradient = _value_and_gradient(loss, half, target)
                exact = loss(half.float(), target).item()
                with torch.autocast("cpu", torch.bfloat16):
                    cast = loss(half, target).item()
                kept = _near(value, exact, rel=1e-6) and _near(cast, value, rel=1e-6)
                subject.expect(
                    kept and value.isfinite() and gradient.isfinite().all(),
                    f"{exact:.6g}, the value of float32, for logits in {dtype}".replace("torch.", ""),
                    f"{value.item():.6g}, and {cast:.6g} under autocast",
                    "Begin with `logits = logits.float()`, and use log_softmax and logsigmoid in place of logarithms.",
                )


def loss_leaves_its_inputs_alone(subject: Subject) -> None:
    """It gives the same value twice, and changes neither logits nor target."""
    loss: Loss = subject.build()
    for channels in CHANNELS:
        logits, target = _case(channels, ignored=0.1)
        kept_logits, kept_target = logits.clone(), target.clone()
        value, gradient = _value_and_gradient(loss, logits, target)
        again, other = _value_and_gradient(loss, logits, target)
        subject.expect(
            again.equal(value) and other.equal(gradient) and logits.equal(kept_logits) and target.equal(kept_target),
            "the same value twice and unchanged inputs",
            f"{value.item():.6g} and {again.item():.6g}",
            "Draw nothing at random, keep no state, and use no operation that ends in _ on an argument.",
        )


def loss_takes_any_memory_layout(subject: Subject) -> None:
    """Logits in channels-last order and cut out of larger ones, as the core hands them over, give the same value."""
    loss: Loss = subject.build()
    for channels in CHANNELS:
        logits, target = _case(channels, ignored=0.1)
        value, gradient = _value_and_gradient(loss, logits, target)
        larger = F.pad(logits, (0, 3, 0, 5)).contiguous(memory_format=torch.channels_last)
        cut = larger[:, :, :-5, :-3].requires_grad_()
        other = loss(cut, target)
        other.backward()
        assert cut.grad is not None
        subject.expect(
            _near(other, value, rel=1e-5) and torch.allclose(cut.grad, gradient, rtol=1e-4, atol=1e-6),
            f"{value.item():.6g} in any memory layout",
            f"{other.item():.6g}",
            "Use reshape in place of view.",
        )


def loss_can_be_trained_on_alone(subject: Subject) -> None:
    """Free logits that minimise it reach the truth in 50 steps."""
    loss: Loss = subject.build()
    for channels in CHANNELS:
        classes = max(2, channels)
        target = _disks(classes)
        logits = torch.zeros(2, channels, 16, 16, requires_grad=True)
        optimizer = torch.optim.Adam([logits], lr=0.3)
        for _ in range(50):
            optimizer.zero_grad()
            loss(logits, target).backward()
            optimizer.step()
        predicted = (logits[:, 0] > 0).long() if channels == 1 else logits.argmax(1)
        for label in range(1, classes):
            found, true = predicted == label, target == label
            dice = (2 * (found & true).sum() / (found.sum() + true.sum())).item()
            subject.expect(
                dice > 0.9,
                f"a Dice above 0.9 of class {label} with {channels} channels",
                f"{dice:.3f}",
                "Look at its sign and at its weights of classes: its minimum is not the truth.",
            )


CHECKS = (
    loss_is_a_scalar_with_a_gradient,
    loss_gradient_is_that_of_its_value,
    loss_prefers_the_truth,
    loss_leaves_out_what_is_unknown,
    loss_of_nothing_is_zero,
    loss_bears_masks_of_one_class,
    loss_is_stable_in_half_precision,
    loss_leaves_its_inputs_alone,
    loss_takes_any_memory_layout,
    loss_can_be_trained_on_alone,
)
