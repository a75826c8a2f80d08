"""The faults of mmengine that docs/decisions/mmengine.md lists, each with what shields users from it."""

import contextlib
import importlib.metadata
import json
import os
import re
import signal
import sys
from dataclasses import replace

import pytest
import torch
from mmengine.hooks import Hook
from torch import nn
from torch.backends import cudnn

from transeg.core.data.stream import Collate, Item, ResumableBatchSampler, training_loader
from transeg.core.errors import TransegError, UsageError
from transeg.core.evaluation.evaluation_items import evaluation_loader
from transeg.core.evaluation.scores import SharedMetric
from transeg.core.experiment.identity import Identity
from transeg.core.inference.trained_model import DomainProperties
from transeg.core.interfaces import Optimization, Phase
from transeg.core.models import checkpoint
from transeg.core.runs.run_folder import RunFolder
from transeg.core.training.hooks.checkpoints import CheckpointHook
from transeg.core.training.hooks.guard import GuardHook
from transeg.core.training.hooks.interrupt import InterruptHook
from transeg.core.training.hooks.scalars import HISTORY, ScalarsHook
from transeg.core.training.hooks.schedule import ScheduleHook
from transeg.core.training.loop import ValidationSet
from transeg.core.training.runner import Runner
from transeg.core.training.tasks.task import Task
from transeg.core.training.trackers import Trackers
from transeg.plugins.generators.cyclegan import CycleGAN

CPU = torch.device("cpu")


class Toy(Task):
    """One weight, dropout for the global random generator, a loss that may be told to fail."""

    def __init__(self, nan_at=None, steep_at=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))
        self.nan_at = nan_at
        self.steep_at = steep_at
        self.rates = []

    def optimizers(self):
        if not hasattr(self, "_optimizers"):
            adam = torch.optim.Adam([self.weight], lr=0.1)
            self._optimizers = {"weight": Optimization(adam, lambda progress: 1 - progress)}
        return self._optimizers

    def phases(self, batch):
        self.rates.append(self.optimizers()["weight"].optimizer.param_groups[0]["lr"])
        dropped = nn.functional.dropout(self.weight, 0.5)
        loss = (dropped * batch.source.flatten(1).mean(1).sum()).square().mean()
        if self.iteration == self.nan_at:
            loss = loss * float("nan")
        if self.iteration == self.steep_at:
            loss = loss + (self.weight - self.weight.detach()).sum().sqrt()  # 0, with an infinite gradient
        yield Phase(("weight",), {"loss": loss})

    def val_step(self, items):
        raise AssertionError("these runs do not validate")


class Stream(torch.utils.data.Dataset):
    def __init__(self):
        self.asked = []

    def __getitem__(self, position):
        self.asked.append(position)
        value = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(position))
        return Item(position, value, None, None)


def train(
    folder, iterations=10, *, stop=None, resume=False, task=None, hooks=(), identity="one", stream=None, validations=()
):
    stream = stream or Stream()
    task = task or Toy()

    class Stop(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if stop is not None and batch_idx + 1 == stop:
                raise KeyError("killed")

    runner = Runner(
        task,
        RunFolder(folder),
        identity=Identity({"train.lr": identity}, {}),
        device=CPU,
        seed=3,
        loader=training_loader(
            stream, ResumableBatchSampler(iterations, 2, 0, 1), Collate(0, 2), workers=0, device=CPU
        ),
        iterations=iterations,
        val_interval=5,
        validations=validations,
        domains=DomainProperties(("background", "x"), 3, 3),
        hooks=[ScheduleHook(task), GuardHook(1), CheckpointHook(3), Stop(), *hooks],
        resume=resume,
    )
    with contextlib.suppress(KeyError):
        runner.train()
    return task, runner, stream


def test_a_killed_run_ends_with_the_same_bytes(tmp_path):
    whole, _, _ = train(tmp_path / "whole")
    train(tmp_path / "cut", stop=8)
    resumed, _, _ = train(tmp_path / "cut", resume=True)
    assert torch.equal(whole.weight, resumed.weight)
    a, b = (checkpoint.load_checkpoint(tmp_path / name / "checkpoints" / "last.pt") for name in ("whole", "cut"))
    assert torch.equal(a["random"][0]["torch"], b["random"][0]["torch"])
    assert a["optimizers"]["weight"]["state"][0]["step"] == 10


def test_what_only_a_training_goes_on_from_is_in_the_last_checkpoint_alone(tmp_path):
    task = Toy()
    task.generator = CycleGAN(1, 1, width=1, blocks=0, pool=2)
    task.generator.pool_A.images = torch.rand(2, 1, 4, 4)
    train(tmp_path, task=task)
    last, best = (checkpoint.load_checkpoint(tmp_path / "checkpoints" / f"{name}.pt") for name in ("last", "best"))
    assert torch.equal(last["model"]["generator.pool_A.images"], task.generator.pool_A.images)
    assert last["model"].keys() - best["model"].keys() == {"generator.pool_A.images"}
    assert best["model"].keys() < last["model"].keys()


def test_resuming_loads_only_what_is_left(tmp_path):
    train(tmp_path, stop=8)
    _, _, stream = train(tmp_path, resume=True)
    assert stream.asked == list(range(12, 20))


def test_resuming_a_finished_run_does_nothing(tmp_path):
    train(tmp_path)
    before = (tmp_path / "checkpoints" / "last.pt").read_bytes()
    _, runner, stream = train(tmp_path, resume=True)
    assert stream.asked == []
    assert runner.iter == 10
    assert (tmp_path / "checkpoints" / "last.pt").read_bytes() == before


def test_checkpoints_load_with_weights_only(tmp_path):
    train(tmp_path)
    for name in ("last", "best"):
        assert torch.load(tmp_path / "checkpoints" / f"{name}.pt", weights_only=True)["iteration"] == 10


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    """mmengine executes the text under meta.config as Python, whatever weights_only says."""
    train(tmp_path, stop=8)
    path = tmp_path / "checkpoints" / "last.pt"
    state = torch.load(path, weights_only=True)
    state["meta"] = {"config": f"open({str(tmp_path / 'ran')!r}, 'w')", "epoch": 0, "iter": 6}
    torch.save(state, path)
    train(tmp_path, resume=True)
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_of_another_experiment_is_refused(tmp_path):
    train(tmp_path, stop=8)
    with pytest.raises(UsageError, match=r"another experiment: train\.lr is one there and other here"):
        train(tmp_path, resume=True, identity="other")


def test_nothing_runs_that_needs_pkg_resources(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pkg_resources", None)
    train(tmp_path)


@pytest.mark.parametrize("iteration", [0, 7])
def test_a_loss_that_is_no_number_stops_the_run(tmp_path, iteration):
    with pytest.raises(TransegError, match=f"loss loss is not a finite number at iteration {iteration + 1}"):
        train(tmp_path, task=Toy(nan_at=iteration))
    last = tmp_path / "checkpoints" / "last.pt"
    if iteration:
        assert torch.load(last, weights_only=True)["model"]["weight"].isfinite().all()
    else:
        assert not last.exists()


@pytest.mark.parametrize("iteration", [2, 9])
def test_a_gradient_that_is_no_number_never_reaches_a_checkpoint(tmp_path, iteration):
    """The loss of the step itself is finite; a checkpoint is due right after it, or the training ends with it."""
    with pytest.raises(TransegError, match=f"weights weight are not finite numbers after iteration {iteration + 1}"):
        train(tmp_path, task=Toy(steep_at=iteration))
    assert not (tmp_path / "checkpoints" / "best.pt").exists()
    last = tmp_path / "checkpoints" / "last.pt"
    assert last.exists() == (iteration > 2)
    if last.exists():
        assert torch.load(last, weights_only=True)["model"]["weight"].isfinite().all()


def test_what_an_interval_has_come_to_is_resumed(tmp_path):
    """Lines lie at 4, 8 and 10 iterations, checkpoints at 3, 6 and 9."""
    read = []
    for name in ("whole", "cut"):
        place = tmp_path / name
        place.mkdir()
        scalars = [ScalarsHook(place / "metrics.jsonl", Trackers({}), 4) for _ in range(2)]
        if name == "cut":
            train(place, stop=8, hooks=scalars[:1])
        train(place, resume=True, hooks=scalars[1:])
        lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
        read.append([{k: v for k, v in line.items() if k != "seconds_per_iteration"} for line in lines])
    assert [line["iteration"] for line in read[0]] == [4, 8, 10]
    assert read[0] == read[1]


def test_a_full_disk_keeps_the_scalars_of_a_run_that_is_resumed(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    train(tmp_path, stop=8, hooks=[ScalarsHook(path, Trackers({}), 2)])
    before = path.read_text()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TransegError, match=r"metrics\.jsonl cannot be written: No space left on device"):
        train(tmp_path, resume=True, hooks=[ScalarsHook(path, Trackers({}), 2)])
    assert path.read_text() == before


def test_a_loss_that_was_no_number_is_never_saved(tmp_path):
    """A GPU is asked for its losses only now and then, but always before a checkpoint."""
    guard = GuardHook(1000)
    guard._worst = torch.tensor(float("nan"))

    class FakeRunner:
        iter = 5

    with pytest.raises(TransegError, match="iteration 5"):
        guard.before_save_checkpoint(FakeRunner(), {})


def test_a_hook_may_leave_the_networks_in_eval_mode(tmp_path):
    class Watching(Toy):
        modes = ()

        def phases(self, batch):
            self.modes += (self.training,)
            return super().phases(batch)

    class Looks(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            runner.model.eval()

    task, _, _ = train(tmp_path, task=Watching().eval(), hooks=[Looks()])
    assert task.modes == (True,) * 10


def test_learning_rates_follow_the_progress(tmp_path):
    task, _, _ = train(tmp_path)
    assert task.rates == pytest.approx([0.1 * (1 - i / 10) for i in range(10)])
    train(tmp_path / "cut", stop=8)
    resumed, _, _ = train(tmp_path / "cut", resume=True)
    assert resumed.rates == pytest.approx(task.rates[6:])


def test_scalars_are_means_over_an_interval(tmp_path):
    path = tmp_path / "metrics.jsonl"
    train(tmp_path, hooks=[ScalarsHook(path, Trackers({}), 4)])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [4, 8, 10]
    assert lines[0]["lr/weight"] == pytest.approx(0.1 * 0.7)
    assert all(line["train/loss"] > 0 for line in lines)


def test_a_loss_that_comes_rarely_is_averaged_over_where_it_came(tmp_path):
    class Rare(Toy):
        def phases(self, batch):
            for phase in super().phases(batch):
                rare = {"rare": phase.losses["loss"] * 0 + 3} if self.iteration % 4 == 1 else {}
                yield replace(phase, losses={**phase.losses, **rare})

    path = tmp_path / "metrics.jsonl"
    train(tmp_path, task=Rare(), hooks=[ScalarsHook(path, Trackers({}), 8)])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["train/rare"] for line in lines] == pytest.approx([3, 3])


def test_scalars_of_repeated_iterations_are_not_written_twice(tmp_path):
    path = tmp_path / "metrics.jsonl"
    train(tmp_path, stop=9, hooks=[ScalarsHook(path, Trackers({}), 1)])
    with path.open("a") as file:
        file.write('{"iteration": 9, "train/lo')  # a kill in the middle of a line
    train(tmp_path, resume=True, hooks=[ScalarsHook(path, Trackers({}), 1)])
    assert [json.loads(line)["iteration"] for line in path.read_text().splitlines()] == list(range(1, 11))


def test_the_history_of_scalars_is_bounded(tmp_path):
    _, runner, _ = train(tmp_path, 3 * HISTORY, hooks=[ScalarsHook(tmp_path / "metrics.jsonl", Trackers({}), 1)])
    history, _ = runner.message_hub.get_scalar("train/loss").data
    assert len(history) == HISTORY


def test_a_signal_ends_the_run_after_its_iteration(tmp_path):
    class Press(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if batch_idx == 4:
                signal.raise_signal(signal.SIGINT)

    interrupt = InterruptHook()
    before = signal.getsignal(signal.SIGINT)
    _, runner, _ = train(tmp_path, hooks=[interrupt, Press()])
    assert interrupt.interrupted
    assert runner.iter == 5
    assert checkpoint.load_checkpoint(tmp_path / "checkpoints" / "last.pt")["iteration"] == 5
    assert signal.getsignal(signal.SIGINT) is before
    whole, _, _ = train(tmp_path / "whole")
    resumed, _, _ = train(tmp_path, resume=True)
    assert torch.equal(whole.weight, resumed.weight)


def test_a_signal_in_the_last_validation_is_heard(tmp_path):
    class Press(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if batch_idx == 9:
                signal.raise_signal(signal.SIGINT)

    interrupt = InterruptHook()
    train(tmp_path, hooks=[interrupt, Press()])
    assert interrupt.interrupted


def test_the_folder_holds_nothing_of_mmengines(tmp_path):
    train(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoints"}


def test_dependencies_avoid_what_is_known_to_be_broken():
    requirements = {re.split(r"[\s<>=!~;\[]", r)[0]: r for r in importlib.metadata.requires("transeg")}
    assert "mmengine-lite" in requirements  # the full package brings a second copy of OpenCV
    assert not {"mmengine", "opencv-python"} & set(requirements)
    assert "<2.1" in requirements["albumentations"]  # later ones are not MIT
    assert ">=2.10" in requirements["torch"]  # CVE-2026-24747


class TestAlgorithmsOfConvolutions:
    @pytest.fixture
    def flags(self, tmp_path):
        """Whether cuDNN times its algorithms: in steps, and in the hooks between, where validations are."""
        found = {"steps": [], "hooks": []}

        class Noting(Toy):
            def phases(self, batch):
                found["steps"].append(cudnn.benchmark)
                yield from super().phases(batch)

        class Between(Hook):
            def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
                found["hooks"].append(cudnn.benchmark)

        def run():
            train(tmp_path, 2, task=Noting(), hooks=[Between()])
            return found

        return run

    def test_they_are_timed_in_steps_alone(self, flags):
        assert flags() == {"steps": [True, True], "hooks": [False, False]}
        assert not cudnn.benchmark

    def test_who_wants_the_same_bits_again_is_not_timed(self, flags, monkeypatch):
        monkeypatch.setattr(cudnn, "deterministic", True)
        assert flags()["steps"] == [False, False]

    def test_who_wants_it_everywhere_keeps_it(self, flags, monkeypatch):
        monkeypatch.setattr(cudnn, "benchmark", True)
        assert flags() == {"steps": [True, True], "hooks": [True, True]}


def test_validation_sets_are_not_copied(tmp_path):
    """mmengine copies what stands in a loop's configuration: images, what is kept of them, and networks that judge."""

    class Seen(SharedMetric):
        def __init__(self):
            super().__init__(prefix="val")
            self.items = []

        def process(self, data_batch, data_samples):
            self.items += data_batch

        def compute_metrics(self, results):
            return {}

    class Validated(Toy):
        def val_step(self, items):
            return items

    items, metric = [object(), object()], Seen()
    loader = evaluation_loader(items, batch_size=2, workers=0, device=CPU)
    train(tmp_path, 1, task=Validated(), validations=[ValidationSet(loader, metric, "source")])
    assert metric.items == items
