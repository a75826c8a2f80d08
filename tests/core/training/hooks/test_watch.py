"""What a training says of test images while it goes on."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from transeg.core.evaluation.evaluation_items import EvaluationItem
from transeg.core.interfaces import Segmenter
from transeg.core.models.ema import EMA
from transeg.core.training.hooks.watch import WatchHook
from transeg.core.training.tasks.segmentation_task import SegmentationTask


class Grey(Segmenter):
    """Takes for an object what is brighter than a threshold: 128 of 255, less what it has learned."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, image):
        return [100 * (image.mean(1, keepdim=True) + self.shift)]


def watched(decay=0.5):
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    image[:, :4], image[:, 4:6] = 255, 115  # grey: -0.098
    mask = torch.zeros(8, 8, dtype=torch.long)
    mask[:4] = 1
    task = SegmentationTask(Grey(), None, None)
    loader = DataLoader([EvaluationItem("a", "a", image, mask)], batch_size=1, collate_fn=list)
    return task, WatchHook(task, EMA(task, {}), loader, EMA(task, {"segmenter": decay}), classes=2)


def measure(hook):
    metrics = {"val/dice": 1.0}
    hook.after_val_epoch(None, metrics)
    assert metrics.pop("val/dice") == 1.0
    return metrics


def test_a_network_that_is_right_and_sure():
    _, hook = watched()
    hook.after_train_iter(None, 0)
    found = measure(hook)
    assert found == pytest.approx(
        {"watch/dice": 1, "watch/dice_average": 1, "watch/agreement": 1, "watch/entropy": 0}, abs=1e-3
    )


def test_what_a_network_and_its_average_disagree_about():
    task, hook = watched(decay=0.9)
    hook.after_train_iter(None, 0)
    task.segmenter.shift.data.fill_(0.2)  # the network now takes the grey stripe for an object; its average does not
    hook.after_train_iter(None, 1)
    found = measure(hook)
    assert found["watch/dice_average"] == 1
    assert found["watch/dice"] == found["watch/agreement"] == pytest.approx(2 * 4 / (4 + 6))
    assert task.segmenter.shift.item() == pytest.approx(0.2)  # and the network is left as it was


def test_entropy_is_one_where_a_network_knows_nothing():
    task, hook = watched()
    task.segmenter.forward = lambda image: [0 * image[:, :1]]
    hook.after_train_iter(None, 0)
    assert measure(hook)["watch/entropy"] == pytest.approx(1)


def test_the_average_survives_a_checkpoint():
    task, hook = watched(decay=0.9)
    hook.after_train_iter(None, 0)
    task.segmenter.shift.data.fill_(0.2)
    hook.after_train_iter(None, 1)
    state = {}
    hook.before_save_checkpoint(None, state)
    resumed_task, resumed = watched(decay=0.9)
    resumed_task.segmenter.load_state_dict(task.segmenter.state_dict())
    resumed.after_load_checkpoint(None, state)
    assert measure(resumed) == measure(hook)
