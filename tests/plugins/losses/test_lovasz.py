import pytest
import torch

from transeg.core.interfaces import IGNORE

pytest.importorskip("segmentation_models_pytorch")
from transeg.plugins.losses.lovasz import LovaszLoss


def case(channels, ignored=0.2):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, channels, 12, 14, generator=generator)
    target = torch.randint(max(2, channels), (2, 12, 14), generator=generator)
    target[torch.rand(target.shape, generator=generator) < ignored] = IGNORE
    return logits, target


def extension(errors, truth):
    """The Lovász extension of the Jaccard loss in double precision, from its definition over growing sets."""
    order = errors.argsort(descending=True)
    errors, truth = errors[order].double(), truth[order]
    value, before = 0.0, 0.0
    for count in range(1, len(errors) + 1):
        wrong = torch.zeros(len(errors), dtype=torch.bool)
        wrong[:count] = True
        kept = (truth & ~wrong).sum().item()
        after = 1 - kept / (truth | wrong).sum().item()
        value += errors[count - 1].item() * (after - before)
        before = after
    return value


def test_one_channel_is_the_hinge():
    logits, target = case(1)
    known = target != IGNORE
    scores, truth = logits[:, 0][known], target[known] == 1
    errors = (1 - scores * (2.0 * truth - 1)).relu()
    assert float(LovaszLoss()(logits, target)) == pytest.approx(extension(errors, truth), rel=1e-5)


@pytest.mark.parametrize("channels", [2, 4])
def test_several_are_the_softmax(channels):
    logits, target = case(channels)
    known = target != IGNORE
    values = []
    for label in range(channels):
        truth = target[known] == label
        values.append(extension((truth.float() - logits.softmax(1)[:, label][known]).abs(), truth))
    assert float(LovaszLoss()(logits, target)) == pytest.approx(sum(values) / channels, rel=1e-5)


def test_classes_that_are_nowhere_do_not_count():
    logits, target = case(4)
    target[target == 3] = 0
    known = target != IGNORE
    values = []
    for label in range(3):
        truth = target[known] == label
        values.append(extension((truth.float() - logits.softmax(1)[:, label][known]).abs(), truth))
    assert float(LovaszLoss()(logits, target)) == pytest.approx(sum(values) / 3, rel=1e-5)


def test_an_empty_mask_costs_the_worst_pixel():
    logits, target = case(1, ignored=0)
    value = LovaszLoss()(logits, torch.zeros_like(target))
    assert value.item() == pytest.approx(1 + logits.max().item())


@pytest.mark.parametrize("channels", [1, 4])
def test_hardened_predictions_give_the_jaccard_loss(channels):
    """Of the classes' masks: that is what it extends. For one channel, with the hinge of a margin of one."""
    logits, target = case(channels, ignored=0)
    predicted = (logits[:, 0] > 0).long() if channels == 1 else logits.argmax(1)
    if channels == 1:
        hard = 2.0 * predicted.unsqueeze(1) - 1
        labels, scale = [1], 2.0
    else:
        hard = 100.0 * torch.nn.functional.one_hot(predicted, channels).movedim(-1, 1)
        labels, scale = range(channels), 1.0
    ious = [
        ((predicted == c) & (target == c)).sum().item() / ((predicted == c) | (target == c)).sum().item()
        for c in labels
    ]
    expected = scale * (1 - sum(ious) / len(ious))
    assert float(LovaszLoss()(hard, target)) == pytest.approx(expected, rel=1e-4)
