"""The training loop: mmengine's by iterations, except for how it resumes."""

from __future__ import annotations

import time
from typing import Any

from mmengine.runner import BaseLoop
from torch.utils.data import DataLoader

from transeg.core.data.stream import ResumableBatchSampler
from transeg.core.distributed.collectives import broadcast_buffers


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
        outputs = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
        runner.call_hook("after_train_iter", batch_idx=self.iter, data_batch=batch, outputs=outputs)
        self.iter += 1
