"""What reaches the main process from a loader's workers, and what it takes to bring it there."""

import multiprocessing
import resource
from itertools import chain
from multiprocessing.reduction import ForkingPickler
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from transeg.core.data.packed_items import PackedItems
from transeg.core.errors import DataError
from transeg.core.evaluation.evaluation_items import (
    EvaluationItem,
    EvaluationSet,
    ReadableItems,
    dismiss_workers,
    evaluation_loader,
)
from transeg.core.evaluation.scores import SegmentationMetric
from transeg.core.inference.sliding_window import Inference
from transeg.core.interfaces import Dataset, Sample
from transeg.core.training.loop import ValidationLoop, ValidationSet

CPU = torch.device("cpu")
FILES = 256
"""That a process may have open, where 1,024 are usual."""


class Squares(Dataset):
    """Many images of the same."""

    classes = ("background", "square")

    def __len__(self):
        return 320

    def __getitem__(self, index):
        mask = np.zeros((32, 32), np.uint8)
        mask[8:24, 8:24] = 1
        return Sample(np.repeat(mask[:, :, None] * 255, 3, 2), mask, str(index), "")


class Knowing(torch.nn.Module):
    """Stands for a task that finds everything."""

    def val_step(self, items):
        return [item.image[:1].float() - 127 for item in items]


def validate_with_few_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    metric = SegmentationMetric(Squares.classes)
    metric.prefix = "val"
    items = EvaluationSet(Squares(), Inference(None))
    loader = evaluation_loader(items, batch_size=64, workers=2, device=CPU, again=True)
    runner = SimpleNamespace(model=Knowing(), call_hook=lambda *_, **__: None, visualizer=None, message_hub=None)
    loop = ValidationLoop(runner, loader, metric, [ValidationSet(loader, metric, "source")])
    for _ in range(2):
        table = loop.run()
        assert (table["val/dice"], table["val/images"]) == (1, 320)


def test_large_batches_need_few_descriptors():
    """In the workers' queues lie up to four batches of 64 images and masks."""
    process = multiprocessing.get_context("fork").Process(target=validate_with_few_descriptors)
    process.start()
    process.join(60)
    stuck = process.is_alive()
    process.kill()
    assert not stuck
    assert process.exitcode == 0


class Mixed(Dataset):
    """Images of several sizes and types, some with objects; one is broken."""

    classes = ("background", "a")

    def __len__(self):
        return 5

    def __getitem__(self, index):
        if index == 3:
            raise DataError("image 3 is broken")
        random = np.random.default_rng(index)
        image = random.integers(0, 256, (16 + index, 20, 3), np.uint8)
        mask = random.integers(0, 2, image.shape[:2], np.uint8)
        floats = image.astype(np.float32) / 255
        return Sample(floats if index == 1 else image, mask, str(index), "g", instances=mask if index else None)


def test_what_workers_load_is_what_the_main_process_would():
    items = ReadableItems(EvaluationSet(Mixed(), Inference(None)))
    here, there = (list(evaluation_loader(items, batch_size=2, workers=workers, device=CPU)) for workers in (0, 2))
    assert [len(batch) for batch in there] == [2, 2, 1]
    for one, other in zip(chain(*here), chain(*there), strict=True):
        if isinstance(one, DataError):
            assert str(one) == str(other)
            continue
        for name in EvaluationItem._fields:
            first, second = getattr(one, name), getattr(other, name)
            assert type(first) is type(second)
            if isinstance(first, torch.Tensor):
                assert (first.dtype, first.shape) == (second.dtype, second.shape)
                assert torch.equal(first, second)
            elif isinstance(first, np.ndarray):
                assert np.array_equal(first, second)
            else:
                assert first == second


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.uint16, torch.int64, torch.float16, torch.float64])
def test_tensors_of_any_type_and_layout_arrive(dtype):
    square = torch.arange(12).reshape(3, 4).to(dtype)
    items = [(square, {"seen": square.t()}), torch.tensor(7), torch.empty(0, 2)]
    rebuild, (pickled, memory) = PackedItems(items).__reduce__()
    (first, second), scalar, nothing = rebuild(pickled, memory)
    assert torch.equal(first, square)
    assert torch.equal(second["seen"], square.t())
    assert (int(scalar), nothing.shape) == (7, (0, 2))


def test_tensors_are_pinned_in_one_piece(monkeypatch):
    """PyTorch's loader asks for it, of what a worker sends as well. Without a GPU, it is noted what would be pinned."""
    asked, plain = [], torch.empty

    def empty(*sizes, pin_memory=False, **named):
        asked.append(pin_memory)
        return plain(*sizes, **named)

    sent = ForkingPickler.loads(ForkingPickler.dumps(PackedItems([("a", torch.arange(5)), DataError("no image")])))
    monkeypatch.setattr(torch, "empty", empty)
    pinned = pin_memory(sent)
    assert asked == [True]
    (name, tensor), error = pinned
    assert (name, tensor.tolist(), str(error)) == ("a", [0, 1, 2, 3, 4], "no image")


@pytest.mark.parametrize(("device", "pinned"), [("cpu", False), ("cuda", True)])
def test_only_a_gpu_wants_pinned_memory(device, pinned):
    loader = evaluation_loader([1, 2, 3], batch_size=2, workers=0, device=torch.device(device))
    assert loader.pin_memory is pinned


def test_workers_that_wait_for_another_round_are_dismissed():
    others = multiprocessing.active_children()  # of tests before
    loader = evaluation_loader([torch.tensor(1)] * 4, batch_size=2, workers=2, device=CPU, again=True)
    assert len(list(loader)) == 2
    waiting = [each for each in multiprocessing.active_children() if each not in others]
    assert len(waiting) == 2
    dismiss_workers(loader)
    assert not any(each.is_alive() for each in waiting)
    assert len(list(loader)) == 2  # with new ones
    dismiss_workers(loader)
    dismiss_workers(loader)
