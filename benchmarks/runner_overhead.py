"""What the Runner costs: microseconds per iteration of a model of one weight, early and late in a long training.

    python benchmarks/runner_overhead.py [--iterations 200000]

All hooks of a training are there but pictures; the batch is ready-made, so that neither decoding nor augmentation is
counted. The bare training step, without Runner, hooks and loader, is measured beside it in the same process.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.visualization import TensorboardVisBackend
from rich.console import Console
from torch import nn
from torch.utils.data import Dataset

from transeg.core.data.stream import Collate, Item, ResumableBatchSampler, training_loader
from transeg.core.inference.trained_model import DomainProperties
from transeg.core.interfaces import Batch, Optimization, Phase
from transeg.core.runs.run_folder import RunFolder
from transeg.core.training.hooks.checkpoints import CheckpointHook
from transeg.core.training.hooks.guard import GuardHook
from transeg.core.training.hooks.interrupt import InterruptHook
from transeg.core.training.hooks.progress import ProgressHook
from transeg.core.training.hooks.scalars import ScalarsHook
from transeg.core.training.hooks.schedule import ScheduleHook
from transeg.core.training.runner import Runner
from transeg.core.training.tasks.task import Task

WINDOW = 1000
CPU = torch.device("cpu")


class OneWeight(Task):
    """The smallest task: a phase, a loss, a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self._optimization = Optimization(torch.optim.SGD([self.weight], lr=1e-6))

    def optimizers(self) -> dict[str, Optimization]:
        return {"weight": self._optimization}

    def phases(self, batch: Batch) -> Iterator[Phase]:
        yield Phase(("weight",), {"loss": self.weight.square()})


class OneItem(Dataset[Item]):
    """The same tiny image at every place."""

    image = torch.zeros(1, 1, 1)

    def __getitem__(self, position: int) -> Item:
        return Item(position, self.image, None, None)


class Clock(Hook):
    """When each window of iterations began and ended."""

    priority = "LOWEST"

    def __init__(self, starts: set[int]) -> None:
        self._edges = {edge for start in starts for edge in (start, start + WINDOW)}
        self.at: dict[int, float] = {}

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if batch_idx + 1 in self._edges:
            self.at[batch_idx + 1] = time.perf_counter()


def bare(task: Task) -> float:
    """Microseconds of a training step alone: the median of five windows."""
    wrappers = OptimWrapperDict(**{name: OptimWrapper(o.optimizer) for name, o in task.optimizers().items()})
    batch = Batch(OneItem.image[None], None, None, torch.zeros(1, dtype=torch.long), seed=0)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in itertools.repeat(None, WINDOW):
            task.train_step(batch, wrappers)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) / WINDOW * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=200_000)
    iterations = parser.parse_args().iterations
    torch.set_num_threads(1)
    print(f"training step alone   {bare(OneWeight()):7.0f} us")

    task = OneWeight()
    starts = {n for n in (1000, 10_000, 50_000, 100_000, 150_000, iterations - WINDOW) if n <= iterations - WINDOW}
    clock = Clock(starts)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        run.create()
        Runner(
            task,
            run,
            identity="benchmark",
            device=CPU,
            seed=0,
            loader=training_loader(
                OneItem(), ResumableBatchSampler(iterations, 1, 0, 1), Collate(0, 1), workers=0, device=CPU
            ),  # type: ignore[arg-type]
            iterations=iterations,
            val_interval=iterations,
            validation=None,
            domains=DomainProperties(("background", "x"), 1, 1),
            hooks=[
                ScheduleHook(task),
                GuardHook(10),
                CheckpointHook(1000),
                InterruptHook(),
                ScalarsHook(run.scalars, [TensorboardVisBackend(str(run.tensorboard))], 10),
                ProgressHook(Console(stderr=True), "runner"),
                clock,
            ],
            resume=False,
        ).train()
    for start in sorted(starts):
        microseconds = (clock.at[start + WINDOW] - clock.at[start]) / WINDOW * 1e6
        print(f"with the Runner, iterations {start:>7,} to {start + WINDOW:>7,}   {microseconds:7.0f} us")


if __name__ == "__main__":
    main()
