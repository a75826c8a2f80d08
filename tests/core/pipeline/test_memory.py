"""What a training leaves in memory once it is over, before the next stage or fold begins."""

import gc
import multiprocessing
import weakref

import pytest
from conftest import TINY_CUT, TINY_DATA, TINY_TARGET, command
from mmengine.hooks import Hook

from transeg.core.pipeline import stage

OPTIONS = ["--source", "phantom", "--target", "phantom", "--generator", "cut", "--segmenter", "unet", "--folds", "2"]
SETTINGS = [*TINY_DATA, *TINY_TARGET, *TINY_CUT, "segmenter.base=4", "data.workers=1", "baseline=none"]
SHORT = ["train.iterations=1", "train.batch_size=2", "train.val_interval=1", "train.ema=0.9"]


@pytest.fixture
def no_collection():
    """Nothing is collected by chance."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
def test_optimizers_averages_and_workers_are_gone_before_the_next_training(toolkit, tmp_path, monkeypatch):
    """Of a generator's stage and two folds of a segmenter's."""
    kept, left = [], []
    train = stage.train

    class Keep(Hook):
        def after_train(self, runner):
            optimizers = [wrapper.optimizer for wrapper in runner.optim_wrapper.values()]
            moments = [value for each in optimizers for state in each.state.values() for value in state.values()]
            kept.append([weakref.ref(each) for each in (runner.model.averages, *optimizers, *moments)])

    def watched(training, *arguments, extra_hooks, **named):
        left.append(what_is_left())
        train(training, *arguments, extra_hooks=[*extra_hooks, Keep()], **named)

    others = multiprocessing.active_children()  # of tests before

    def what_is_left():
        processes = [each for each in multiprocessing.active_children() if each not in others]
        return [each() for refs in kept for each in refs if each() is not None], processes

    monkeypatch.setattr(stage, "train", watched)
    toolkit(*command((OPTIONS, [*SETTINGS, *SHORT]), "--strategy", "sequential", "--run-dir", tmp_path / "run"))
    assert len(kept) == 3
    assert all(len(refs) > 10 for refs in kept)
    assert [*left, what_is_left()] == [([], [])] * 4
