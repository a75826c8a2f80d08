from dataclasses import replace

import pytest
import torch
from core.training.tasks.test_tasks import Scale, batch, joint, wrappers

from transeg.core.training.tasks.renewed_labels import RenewedLabels
from transeg.plugins.strategies.self_training import SelfTraining


def renewed(share="mean"):
    task = joint(weight=0.0)
    task.on_target = RenewedLabels(Scale(), share=SelfTraining(share=share).share_at, epoch=3)
    return task


@pytest.mark.parametrize(
    ("mode", "shares"), [("mean", [0, 0.5, 0.5]), ("linear", [0, 0.15, 0.45]), ("step", [0, 0, 0.5])]
)
def test_labels_wait_for_a_trained_network_and_then_follow_their_schedule(mode, shares):
    task, losses = renewed(mode), {"bce": torch.tensor(8.0)}
    given = batch(target=-3.0)
    on_target = task.loss([task.segmenter(given.target)], torch.zeros(2, 4, 4, dtype=torch.long))["bce"].item()
    for task.iteration, share in zip((0, 3, 9), shares, strict=True):
        joined = task.on_target.joined(losses, task, given.source, given)
        assert joined["bce"].item() == pytest.approx((1 - share) * 8 + share * on_target)


def test_labels_come_from_the_last_renewal():
    task = renewed()
    for task.iteration in range(3):
        task.before_iteration()
    with torch.no_grad():
        task.segmenter.scale.fill_(5.0)
    assert task.on_target.labeller.scale.item() == 1.0
    task.iteration = 3
    task.before_iteration()
    assert task.on_target.labeller.scale.item() == 5.0
    task.train()
    assert task.segmenter.training
    assert not task.on_target.labeller.training
    assert "on_target.labeller.scale" in task.state_dict()  # a resumed run has the same labels
    assert not task.on_target.labeller.scale.requires_grad


def test_labels_teach_the_target():
    task, plain = renewed(), joint(weight=0.0)
    task.iteration = 4
    for each in (task, plain):
        each.train_step(batch(target=-3.0), wrappers(each))
    assert task.segmenter.scale.item() != plain.segmenter.scale.item()


def test_what_shows_nothing_teaches_nothing():
    task = renewed()
    task.iteration = 3
    given = batch(target=-3.0)
    valid = torch.arange(4) < 2
    cut = replace(given, target=torch.where(valid, given.target, 100.0), target_valid=valid.expand(2, 4, 4))
    losses = {"bce": torch.tensor(8.0)}
    joined = task.on_target.joined(losses, task, given.source, cut)
    assert joined["bce"].item() == pytest.approx(task.on_target.joined(losses, task, given.source, given)["bce"].item())
