"""The loops of a training: mmengine's by iterations, except for how it resumes; one over several validation sets."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.runner import BaseLoop
from torch.utils.data import DataLoader

from transeg.core.data.stream import ResumableBatchSampler
from transeg.core.distributed.collectives import broadcast_buffers
from transeg.core.interfaces import View
from transeg.core.training.cudnn_benchmark import cudnn_benchmark


class TrainLoop(BaseLoop):
    """Runs iterations from wherever a checkpoint left off.

    mmengine's own loop resumes by loading and dropping all data seen before, and creates its iterator, workers and
    all, before it knows where to begin.

    Args:
        runner: the runner.
        dataloader: yields a batch for each remaining iteration.
        max_iters: length of the training.
        val_interval: iterations between validations.

    Attributes:
        waited: seconds that it has waited for data.
    """

    def __init__(self, runner: Any, dataloader: DataLoader[Any], max_iters: int, val_interval: int) -> None:
        super().__init__(runner, dataloader)
        self.max_iters = max_iters
        self.val_interval = val_interval
        self.val_begin = 1
        self.max_epochs = 1
        self.epoch = 0
        self.iter = 0
        self.waited = 0.0
        self.stop_training = False

    def run(self) -> Any:
        """Train until the end, or until a hook sets ``stop_training``."""
        runner = self.runner
        sampler = self.dataloader.batch_sampler
        assert isinstance(sampler, ResumableBatchSampler)
        sampler.first = self.iter
        batches = iter(self.dataloader)
        runner.call_hook("before_train")
        runner.call_hook("before_train_epoch")
        runner.restore_random_state()
        runner.model.train()
        while self.iter < self.max_iters and not self.stop_training:
            if not runner.model.training:  # a visit to 600 modules takes longer than all hooks together
                runner.model.train()
            begin = time.perf_counter()
            batch = next(batches)
            self.waited += time.perf_counter() - begin
            self.run_iter(batch)
            due = self.iter % self.val_interval == 0 or self.iter == self.max_iters
            if due and runner.val_loop is not None:
                broadcast_buffers(runner.model)  # what is saved and reported is the first rank's network
                runner.val_loop.run()
        runner.call_hook("after_train_epoch")
        runner.call_hook("after_train")
        return runner.model

    def run_iter(self, batch: Any) -> None:
        """One iteration with its hooks."""
        runner = self.runner
        runner.call_hook("before_train_iter", batch_idx=self.iter, data_batch=batch)
        with cudnn_benchmark():  # a training's crops have one size, unlike the images of its validations
            outputs = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
        runner.call_hook("after_train_iter", batch_idx=self.iter, data_batch=batch, outputs=outputs)
        self.iter += 1


class ValidationSet(NamedTuple):
    """Images that are looked at while a training goes on.

    Attributes:
        loader: of the images.
        metric: of what becomes of them; its prefix is unique in the training.
        view: how a segmenter sees them.
    """

    loader: DataLoader[Any]
    metric: BaseMetric
    view: View


class ValidationLoop(BaseLoop):
    """Validates on several sets, one after the other, as one validation: hooks see all measures together.

    Args:
        runner: the runner.
        dataloader: of the first set.
        evaluator: likewise.
        sets: all of them.
    """

    def __init__(
        self, runner: Any, dataloader: DataLoader[Any], evaluator: Evaluator, sets: Sequence[ValidationSet]
    ) -> None:
        super().__init__(runner, dataloader)
        self.evaluator = evaluator
        self._sets = [(each.loader, Evaluator(each.metric), each.view) for each in sets]

    @torch.no_grad()
    def run(self) -> dict[str, float]:
        """Measure every set."""
        runner = self.runner
        metrics: dict[str, float] = {}
        runner.call_hook("before_val")
        runner.call_hook("before_val_epoch")
        runner.model.eval()
        for loader, evaluator, view in self._sets:
            runner.model.view = view
            for index, batch in enumerate(loader):
                runner.call_hook("before_val_iter", batch_idx=index, data_batch=batch)
                outputs = runner.model.val_step(batch)
                evaluator.process(data_samples=outputs, data_batch=batch)
                runner.call_hook("after_val_iter", batch_idx=index, data_batch=batch, outputs=outputs)
            metrics |= evaluator.evaluate(len(loader.dataset))  # type: ignore[arg-type]  # as every dataset here, it has a length
        runner.call_hook("after_val_epoch", metrics=metrics)
        runner.call_hook("after_val")
        return metrics
