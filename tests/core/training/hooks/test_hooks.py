"""What a training says of target images while it goes on."""

import pytest
import torch
from torch import nn

from transeg.core.evaluation.evaluation_items import EvaluationItem
from transeg.core.interfaces import Segmenter
from transeg.core.models.ema import EMA
from transeg.core.training.hooks.average_agreement import AgreementHook
from transeg.core.training.hooks.checkpoints import CheckpointHook
from transeg.core.training.hooks.ema import EMAHook
from transeg.core.training.hooks.watch import WatchHook
from transeg.core.training.tasks.segmentation_task import SegmentationTask

IMAGE = torch.zeros(3, 8, 8, dtype=torch.uint8)
IMAGE[:, :4], IMAGE[:, 4:6] = 255, 115  # white, grey (-0.098), black
MASK = torch.zeros(8, 8, dtype=torch.long)
MASK[:4] = 1


class Grey(Segmenter):
    """Takes for an object what is brighter than a threshold: 128 of 255, less what it has learned."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, image):
        return [100 * (image.mean(1, keepdim=True) + self.shift)]


def trained(shift=0.2, **options):
    """A network that takes the grey stripe for an object, too, and its average, which does not."""
    task = SegmentationTask(Grey(), None, None)
    average = EMA(task, {"segmenter": 0.9})
    average.update()
    task.segmenter.shift.data.fill_(shift)
    average.update()
    items = [EvaluationItem("a", "a", IMAGE, MASK)]
    return task, average, WatchHook(task, average, items, 1, 2, **{"validates_average": False, **options})


def measure(hook):
    metrics = {"val/dice": 1.0}
    hook.after_val_epoch(None, metrics)
    assert metrics.pop("val/dice") == 1.0
    return metrics


def test_a_network_that_is_right_and_sure():
    _, _, hook = trained(shift=0.0)
    expected = {"watch/dice": 1, "watch/dice_average": 1, "watch/agreement": 1, "watch/entropy": 0}
    assert measure(hook) == pytest.approx(expected, abs=1e-3)


def test_what_a_network_and_its_average_disagree_about():
    task, average, hook = trained()
    found = measure(hook)
    assert found["watch/dice_average"] == 1
    assert found["watch/dice"] == found["watch/agreement"] == pytest.approx(2 * 4 / (4 + 6))
    assert task.segmenter.shift.item() == pytest.approx(0.2)  # and the network is left as it was
    agreement = AgreementHook(task, average, [IMAGE, IMAGE], 2)
    assert measure(agreement) == {"val/agreement": pytest.approx(0.8)}


def test_where_validations_see_the_average_it_is_what_is_watched():
    _, _, hook = trained(validates_average=True)
    assert measure(hook)["watch/dice"] == 1


def test_where_nothing_is_found_there_is_no_agreement():
    task, average, _ = trained()
    assert measure(AgreementHook(task, average, [torch.zeros_like(IMAGE)], 2)) == {"val/agreement": 0}


def test_entropy_is_one_where_a_network_knows_nothing():
    task, _, hook = trained()
    task.segmenter.forward = lambda image: [0 * image[:, :1]]
    assert measure(hook)["watch/entropy"] == pytest.approx(1)


def test_an_average_that_validations_do_not_see_survives_a_checkpoint_all_the_same():
    task, average, hook = trained()
    state = {}
    EMAHook(average, "own", validated=False).before_save_checkpoint(None, state)
    resumed_task, resumed, watch = trained(shift=5.0)
    keeper = EMAHook(resumed, "own", validated=False)
    keeper.after_load_checkpoint(None, state)
    resumed_task.segmenter.load_state_dict(task.segmenter.state_dict())
    assert measure(watch) == measure(hook)
    keeper.before_val_epoch(None)
    assert resumed_task.segmenter.shift.item() == pytest.approx(0.2)


def test_checkpoints_by_minutes_as_well_as_by_iterations(monkeypatch):
    class Runner:
        iter = 0

        def save_last(self):
            kept.append(self.iter)

    kept, clock, runner = [], [0.0], Runner()
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    hook = CheckpointHook(100, minutes=2)
    for runner.iter in range(250):
        clock[0] = 3.0 * runner.iter
        hook.before_train_iter(runner, runner.iter)
    assert kept == [40, 80, 100, 140, 180, 200, 240]  # 40 steps of 3 seconds are two minutes


def test_the_best_checkpoint_is_that_of_its_rule():
    class Saved:
        iter = 0

        def save_best(self):
            kept.append(self.iter)

    for metric, expected in (("val/dice", [1]), ("val/agreement", [1, 2])):
        kept, hook, runner = [], CheckpointHook(5, metric), Saved()
        for runner.iter, values in enumerate(((0.9, 0.1), (0.5, 0.7), (0.8, 0.6)), 1):
            hook.after_val_epoch(runner, dict(zip(("val/dice", "val/agreement"), values, strict=True)))
        assert kept == expected
