"""Images are counted where their logits are: with the values that a CPU always gave, and on a GPU without a way back.

There is no GPU; see :mod:`fake_gpu` for what is seen without one. Counting pairs of labels there is left out, since how
many bins it takes depends on values.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fake_gpu import GPU, fake_gpu
from shapes import item, several
from torch import Tensor

from transeg.core.evaluation.scores import score, score_in_detail
from transeg.core.inference import sliding_window
from transeg.core.inference.masks import class_map
from transeg.core.inference.sliding_window import Inference, resize_result
from transeg.core.inference.translator import to_pixels
from transeg.core.interfaces import IGNORE
from transeg.core.training.tasks.task import Task

SIZE = (37, 50)


def labelled(classes, ignored):
    """A truth of which a share is not known, and logits."""
    random = np.random.default_rng(classes)
    truth, logits = several(random, *SIZE, max(2, classes))
    truth[random.random(SIZE) < ignored] = IGNORE
    return torch.as_tensor(truth).long(), torch.from_numpy(logits[-classes:])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("ignored", [0, 0.2, 1])
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_a_cpu_gives_the_same_to_the_bit(classes, ignored, layout):
    """Counted here pixel by pixel with NumPy, as it once was."""
    truth, logits = labelled(classes, ignored)
    logits = logits[None].contiguous(memory_format=layout)[0]
    found = (logits[0] > 0).long() if classes == 1 else logits.argmax(0)
    probability = (logits.sigmoid() if classes == 1 else logits.softmax(0)[1:]).sum(0).numpy()
    valid = truth.numpy() != IGNORE
    expected = float((np.abs(probability - (truth.numpy() > 0)) * valid).sum() / valid.sum()) if valid.any() else None
    for scored in (score(item(truth), logits), score_in_detail(item(truth), logits)):
        for label, counts in enumerate(scored.counts.tolist()):
            here, there = (truth == label).numpy(), (found == label).numpy()
            assert counts == [
                (valid & kind).sum() for kind in (here & there, ~here & there, here & ~there, ~here & ~there)
            ]
        assert scored.values["mae"] == expected or (expected is None and np.isnan(scored.values["mae"]))


@pytest.fixture
def fetched(monkeypatch):
    """How many numbers each copy from the GPU has."""
    sizes, plain = [], Tensor.cpu
    monkeypatch.setattr(Tensor, "cpu", lambda self: sizes.append(self.numel()) or plain(self))
    monkeypatch.setattr(torch, "bincount", lambda pairs, minlength: torch.zeros_like(pairs[:1]).expand(minlength))
    return sizes


@pytest.mark.parametrize("classes", [1, 5])
def test_a_validation_fetches_counts_alone(classes, fetched):
    with fake_gpu() as findings:
        findings.on = True
        score(item(torch.zeros(SIZE)), torch.zeros(classes, 8, 8, device=GPU))
    assert set(fetched) == {max(2, classes) ** 2}
    asked = [line for line in findings.lines if "asks for a value" in line]
    assert len(asked) == 2  # the sum of the errors, and of how many pixels
    assert [line for line in findings.lines if "from cpu to cuda waits" in line] == []


@pytest.mark.parametrize("classes", [1, 5])
def test_a_test_fetches_labels_and_confidence(classes, fetched):
    with fake_gpu():
        score_in_detail(item(torch.zeros(SIZE)), torch.zeros(classes, 8, 8, device=GPU))
    assert set(fetched) == {max(2, classes) ** 2, np.prod(SIZE)}


def test_networks_leave_results_where_they_are():
    image = torch.zeros(3, *SIZE, dtype=torch.uint8)
    with fake_gpu():
        one = Inference(None).run(lambda x, _: x, image, GPU)
        several_ = Inference(None).run_together(lambda x, _: x, [image, image], GPU)
        task = SimpleNamespace(inference=Inference(None), device=GPU)
        validated = Task.validate(task, lambda x, _: x, [image, image])
        assert {each.device for each in (one, *several_, *validated)} == {GPU}


@pytest.mark.parametrize("together", [1, 4])
def test_windows_are_added_up_where_the_network_is(together, monkeypatch):
    """With as many copies for many windows as for a few, none of which waits."""
    monkeypatch.setattr(sliding_window, "BATCH_PIXELS", together * 16**2)
    moved, plain = [], Tensor.to
    monkeypatch.setattr(Tensor, "to", lambda self, *a, **k: moved.append(self.device) or plain(self, *a, **k))
    copies = []
    for height, width in ((9, 40), SIZE, (80, 130)):  # of which one is smaller than a window
        image = torch.zeros(3, height, width, dtype=torch.uint8)
        with fake_gpu() as findings:
            findings.on = True
            made = Inference(None, window=16).run(lambda x, _: x, image, GPU)
            assert (made.device, made.shape) == (GPU, image.shape)
            assert findings.lines == []
        copies.append(moved.count(torch.device("cpu")))
        moved.clear()
    assert copies[1] == copies[2]


def test_windows_that_would_fill_a_gpu_are_added_up_on_the_cpu(monkeypatch):
    windows, image = Inference(None, window=16), torch.zeros(3, *SIZE, dtype=torch.uint8)
    with fake_gpu():
        monkeypatch.setattr(sliding_window, "GPU_NUMBERS", 3 * np.prod(SIZE) - 1)
        assert windows.run(lambda x, _: x, image, GPU).device.type == "cpu"
        (first, *_) = windows.bands(lambda x, _: x, lambda r: image[:, r.top : r.top + r.height], SIZE, GPU)
        assert first.device == GPU
        monkeypatch.setattr(sliding_window, "GPU_NUMBERS", 3 * 16 * 56)
        (first, *_) = windows.bands(lambda x, _: x, lambda r: image[:, r.top : r.top + r.height], SIZE, GPU)
        assert first.device.type == "cpu"


def test_what_becomes_an_array_is_fetched():
    with fake_gpu():
        assert class_map(torch.zeros(5, *SIZE, device=GPU)).shape == SIZE
        assert to_pixels(torch.zeros(3, *SIZE, device=GPU)).shape == (*SIZE, 3)


def test_a_result_that_would_fill_a_gpu_is_resized_on_the_cpu(monkeypatch):
    with fake_gpu():
        small = torch.zeros(2, 4, 4, device=GPU)
        assert resize_result(small, 8, 8).device == GPU
        monkeypatch.setattr(sliding_window, "GPU_NUMBERS", 100)
        assert resize_result(small, 8, 8).device.type == "cpu"
