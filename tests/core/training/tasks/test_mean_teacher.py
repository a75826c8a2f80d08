import math
from dataclasses import replace

import pytest
import torch
from core.training.tasks.test_tasks import Recorder, Scale, batch, joint, wrappers
from torch import nn

from transeg.core.interfaces import Optimization
from transeg.core.models.ema import EMA
from transeg.core.training.appearance_changes import AppearanceChanges
from transeg.core.training.losses import LossSum
from transeg.core.training.masking import Masking
from transeg.core.training.tasks.mean_teacher import MeanTeacher
from transeg.core.training.tasks.segmentation_task import SegmentationTask
from transeg.plugins.losses.pixelwise import BCELoss


def taught(segmenter=None, **options):
    segmenter = segmenter or Scale()
    optimization = Optimization(torch.optim.SGD(segmenter.parameters(), lr=1.0))
    on_target = MeanTeacher(**{"threshold": 0.9, "weighting": "share", "weight": 1.0, **options})
    task = SegmentationTask(segmenter, LossSum({"bce": (1.0, BCELoss())}), optimization, on_target=on_target)
    task.averages = EMA(task, {"segmenter": 0.5})
    return task


def loss_on_target(task, target):
    (phase,) = task.phases(batch(target=target))
    return phase.losses["target"].item()


def test_the_teacher_is_the_average_and_the_student_learns_from_it():
    task = taught()
    with torch.no_grad():
        task.averages.update()
        task.segmenter.scale.fill_(-1.0)
    softplus = math.log1p(math.exp(3.0))
    assert loss_on_target(task, 3.0) == pytest.approx(softplus)  # the teacher says 3, the student -3
    assert task.segmenter.scale.item() == -1.0


def test_until_the_first_step_the_teacher_is_what_training_began_with():
    assert loss_on_target(taught(), 3.0) == pytest.approx(math.log1p(math.exp(-3.0)))


def test_where_the_teacher_is_nowhere_sure_the_step_is_that_of_labelled_images():
    task, plain = taught(threshold=0.99), taught()
    plain.on_target = None
    values = [each.train_step(batch(target=0.5), wrappers(each)) for each in (task, plain)]
    assert values[0] == {**values[1], "target": 0}
    assert task.segmenter.scale.item() == plain.segmenter.scale.item()


def test_what_shows_nothing_teaches_nothing():
    given = batch(target=3.0)
    valid = (torch.arange(4) < 2).expand(2, 4, 4)
    cut = replace(given, target=torch.where(valid[:, None], given.target, -100.0), target_valid=valid)
    losses = [next(taught().phases(each)).losses["target"].item() for each in (given, cut)]
    assert losses[1] == pytest.approx(losses[0])
    nothing = replace(cut, target_valid=valid & False)
    assert next(taught().phases(nothing)).losses["target"] == 0


def test_the_weight_is_that_of_target_images():
    assert loss_on_target(taught(weight=0.25), 3.0) == pytest.approx(0.25 * loss_on_target(taught(), 3.0))


def test_the_teacher_neither_drops_nor_counts_what_it_sees():
    class Norm(Scale):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(1)
            self.modes = []

        def forward(self, image):
            self.modes.append((self.training, torch.is_grad_enabled()))
            return self.norm(super().forward(image))

    task = taught(Norm())
    loss_on_target(task, 3.0)
    assert task.segmenter.modes == [(True, True), (False, False), (True, True)]
    assert task.segmenter.training
    assert task.segmenter.norm.num_batches_tracked.item() == 2


def test_the_teacher_normalises_target_images_by_their_own_statistics():
    class Norm(Scale):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(1, momentum=0.0)  # running statistics stay as they are put below
            self.seen = []

        def forward(self, image):
            logits = self.norm(super().forward(image))
            if not self.training:
                self.seen.append(logits)
            return logits

    task = taught(Norm())
    task.segmenter.norm.running_mean.fill_(100.0)
    images = batch(target=3.0)
    images.target[..., 0] = 1.0
    list(task.phases(images))
    (logits,) = task.segmenter.seen
    assert logits.mean().item() == pytest.approx(0, abs=1e-5)
    assert logits.std(correction=0).item() == pytest.approx(1, abs=1e-3)
    assert task.segmenter.norm.running_mean.item() == 100.0
    assert task.segmenter.norm.track_running_stats


def test_every_head_learns_by_its_weight():
    class TwoHeads(Scale):
        def forward(self, image):
            logits = super().forward(image)
            return [logits, 2 * logits] if self.training else logits

    task = taught(TwoHeads())
    task.loss.head_weights = (1.0, 0.5)
    expected = math.log1p(math.exp(-3.0)) + 0.5 * math.log1p(math.exp(-6.0))
    assert loss_on_target(task, 3.0) == pytest.approx(expected)


def test_beside_a_generator_the_target_teaches_the_segmenter_alone():
    tasks = [joint(weight=1.0), joint(weight=1.0)]
    tasks[1].on_target = MeanTeacher(threshold=0.9, weighting="share", weight=1.0)
    for task in tasks:
        task.train_step(batch(target=3.0), wrappers(task))
    assert tasks[0].generator.shift.item() == tasks[1].generator.shift.item() != 0
    assert tasks[0].segmenter.scale.item() != tasks[1].segmenter.scale.item()


def left_half(mask, classes, noise):
    assert classes == 2
    pasted = torch.zeros_like(mask, dtype=torch.bool)
    pasted[..., :2] = True
    return pasted


def test_pasted_pixels_have_their_own_image_and_label_and_count_fully():
    task = taught(Recorder(), mix=left_half)
    values = torch.full((2, 1, 4, 4), 0.0)
    values[..., 3] = 3.0  # of the teacher's pixels, a quarter is sure
    given = batch(value=0.5)
    given.target = values
    (phase,) = task.phases(given)
    assert task.segmenter.seen[0, 0, 0].tolist() == [0.5, 0.5, 0.0, 3.0]
    pixel = [math.log1p(math.exp(-0.5))] * 2 + [0.25 * math.log(2), 0.25 * math.log1p(math.exp(-3.0))]
    assert phase.losses["target"].item() == pytest.approx(sum(pixel) / 4)


def test_the_student_sees_a_strong_view_and_the_teacher_does_not():
    task = taught(Recorder(), appearance=AppearanceChanges([{"name": "InvertImg", "p": 1.0}], seed=0), threshold=0.6)
    assert loss_on_target(task, 0.5) == pytest.approx(math.log1p(math.exp(0.5)), abs=0.01)  # the teacher says 0.5
    assert task.segmenter.seen.mean().item() == pytest.approx(-0.5, abs=0.01)


def test_hidden_parts_are_learned_from_what_surrounds_them():
    """Where an image is hidden, the student sees what it subtracts: here, zero."""
    seen = []

    class Watching(Recorder):
        mean = (0.5,)

        def forward(self, image):
            seen.append(image.detach())
            return super().forward(image)

    task = taught(Watching(), masking=Masking(0.5, 2))
    (phase,) = task.phases(batch(target=3.0))
    _, teacher, target, masked = seen
    assert torch.equal(target, teacher)
    assert set(masked.unique().tolist()) == {0.0, 3.0}
    share = (masked == 3.0).float().mean().item()
    expected = share * math.log1p(math.exp(-3.0)) + (1 - share) * math.log(2)
    assert phase.losses["masked"].item() == pytest.approx(expected)
