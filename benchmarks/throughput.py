"""A training step in each precision, with and without torch.compile and channels_last, beside float32 as it is.

    python benchmarks/throughput.py [--methods cut syndiff hardnet ducknet] [--device cuda] [--size 256] [--batch 4]

The step is the toolkit's own, optimizers and all, on random images: of CUT, SynDiff (its penalty every tenth step among
them), HarDNet-MSEG and DUCK-Net. Each way of computing is measured in a process of its own with the same number of
threads, and the ways take turns, so that a machine that speeds up or slows down does so for all. A process takes
`--warm-up` steps, in which networks are compiled, and then those that count. Printed are the median and the range over
the turns of seconds per step and of how many times as fast it is as plain float32 in the same turn, the peak memory,
the seconds of the first step, and on a GPU what share of the time it was busy.

With `--cpu-time`, seconds per step are those that the process computed, for a machine that others use, too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from measuring import answer, stdout_for_answers, summary

if TYPE_CHECKING:
    import torch

    from transeg.core.experiment.schema import Precision
    from transeg.core.training.tasks.task import Task
    from transeg.core.training.tasks.updates import Updates

METHODS = {"cut": "generator", "syndiff": "generator", "hardnet": "segmenter", "ducknet": "segmenter"}
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
SMALL: dict[str, dict[str, Any]] = {
    "cut": {"width": 16},
    "syndiff": {"preset": "small"},
    "hardnet": {},
    "ducknet": {"filters": 8},
}
"""Options with which a method takes seconds on a CPU."""


def task_of(method: str, updates: Updates, full: bool) -> Task:
    """The task that trains a method, as `toolkit run` builds it."""
    import torch

    from transeg.core.inference.conditioning import Conditioning
    from transeg.core.interfaces import Optimization
    from transeg.core.registry import Registry
    from transeg.core.training.losses import LossSum
    from transeg.core.training.tasks.segmentation_task import SegmentationTask
    from transeg.core.training.tasks.translation_task import TranslationTask

    registry, options = Registry(), {} if full else SMALL[method]
    cls = registry.load(registry.find(METHODS[method], method))
    task: Task
    if METHODS[method] == "generator":
        task = TranslationTask(cls(channels(method), channels(method), **options), Conditioning("image", 2, 3))
    else:
        segmenter = cls(3, 1, **options)
        loss = LossSum({"structure": (1.0, registry.load(registry.find("loss", "structure"))())})
        optimizer = torch.optim.Adam(segmenter.parameters(), lr=1e-4)
        task = SegmentationTask(segmenter, loss, Optimization(optimizer))
    task.updates = updates
    return task.train()


def channels(method: str) -> int:
    """Of its images: SynDiff's are single-channel, as published."""
    return 1 if method == "syndiff" else 3


@contextmanager
def utilisation(device: torch.device) -> Iterator[list[int]]:
    """Percent of the time that a GPU was busy, ten times a second for as long as this lasts; nothing of a CPU."""
    import torch

    seen: list[int] = []
    done = Event()

    def look() -> None:
        while not done.wait(0.1):
            seen.append(torch.cuda.utilization(device))

    watcher = Thread(target=look, daemon=True)
    if device.type == "cuda":
        try:
            torch.cuda.utilization(device)
            watcher.start()
        except (ModuleNotFoundError, RuntimeError) as error:  # it needs nvidia-ml-py
            print(f"no utilisation: {error}", file=sys.stderr)
    try:
        yield seen
    finally:
        done.set()
        if watcher.is_alive():
            watcher.join()


def child(arguments: argparse.Namespace) -> None:
    """Warm up, take steps, and answer with what they took."""
    answers = stdout_for_answers()
    import torch
    from mmengine.optim import OptimWrapper, OptimWrapperDict

    from transeg.core.device import keep_freed_memory
    from transeg.core.interfaces import Batch
    from transeg.core.models.compilation import compilable_networks, compile_networks, fuse_optimizers
    from transeg.core.models.memory_layout import put_channels_last
    from transeg.core.training.cudnn_benchmark import cudnn_benchmark
    from transeg.core.training.precision import matmul_precision
    from transeg.core.training.tasks.updates import Updates
    from transeg.tools.benchmark.speed import peak_memory

    method, precision, compile_, channels_last = json.loads(arguments.child)
    device = torch.device(arguments.device)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    if device.type == "cpu":
        keep_freed_memory()
    updates = Updates(device, precision=precision, channels_last=channels_last, compiled=compile_)
    task = task_of(method, updates, arguments.full).to(device)
    if channels_last:
        put_channels_last(task)
    fuse_optimizers((o.optimizer for o in task.optimizers().values()), True)
    wrappers = OptimWrapperDict(**{name: OptimWrapper(o.optimizer) for name, o in task.optimizers().items()})
    shape = arguments.batch, channels(method), arguments.size, arguments.size
    images = [torch.randint(256, shape, dtype=torch.uint8) for _ in range(2)]
    mask = (torch.rand(shape[0], *shape[2:]) > 0.9).long()
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    seconds = []

    def step(number: int) -> None:
        start = clock()
        positions = torch.arange(arguments.batch) + number * arguments.batch
        task.train_step(Batch(images[0], mask, images[1], positions, number, None, number), wrappers)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(clock() - start)

    begun = time.perf_counter()
    with ExitStack() as stack:
        stack.enter_context(matmul_precision(precision))
        if not arguments.untimed:
            stack.enter_context(cudnn_benchmark())
        if compile_:
            stack.enter_context(
                compile_networks(
                    compilable_networks(getattr(task, "generator", None), getattr(task, "segmenter", None))
                )
            )
        step(0)
        first = time.perf_counter() - begun
        for number in range(1, arguments.warm_up):
            step(number)
        busy = stack.enter_context(utilisation(device))
        for number in range(arguments.warm_up, arguments.warm_up + arguments.steps):
            step(number)
    counted = seconds[arguments.warm_up :]
    print(
        json.dumps(
            {
                "seconds": statistics.fmean(counted),
                "first": first,
                "gigabytes": (peak_memory(device) or 0) / 1e9,
                "busy": statistics.fmean(busy) if busy else None,
            }
        ),
        file=answers,
    )


Way = tuple[str, "Precision", bool, bool]


def measure(way: Way, arguments: argparse.Namespace, seconds: float | None = None) -> dict[str, float]:
    """One way of computing, from a process of its own, which has so many seconds; None for any number.

    Raises:
        RuntimeError: it failed.
        subprocess.TimeoutExpired: it was not done in time.
    """
    same = {name: getattr(arguments, name) for name in ("device", "size", "batch", "threads", "warm_up", "steps")}
    line = [__file__, "--child", json.dumps(way)]
    line += [part for name, value in same.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    line += [f"--{name.replace('_', '-')}" for name in ("full", "cpu_time", "untimed") if getattr(arguments, name)]
    found: dict[str, float] = answer(line, seconds=seconds)
    return found


def compare(ways: list[Way], arguments: argparse.Namespace) -> None:
    """Measure all ways in turn, and print a row for each."""
    turns: list[dict[Way, dict[str, float]]] = []
    failed: dict[Way, str] = {}
    for _ in range(arguments.turns):
        turn = {}
        for way in ways:
            if way not in failed:
                try:
                    turn[way] = measure(way, arguments)
                except RuntimeError as error:
                    failed[way] = str(error)
        turns.append(turn)
    for way in ways:
        name, precision, compile_, channels_last = way
        title = f"| {name} | {precision} | {'yes' if compile_ else 'no'} | {'yes' if channels_last else 'no'}"
        if way in failed:
            print(f"{title} | failed: {failed[way]} | | | | |", flush=True)
            continue
        found = [turn[way] for turn in turns]
        gains = [turn[ways[0]]["seconds"] / turn[way]["seconds"] for turn in turns if ways[0] in turn]
        busy = [each["busy"] for each in found if each["busy"] is not None]
        print(
            f"{title} | {summary([each['seconds'] for each in found], 3)} | {summary(gains, 2)} "
            f"| {max(each['gigabytes'] for each in found):.2f} | {summary([each['first'] for each in found], 1)} "
            f"| {f'{statistics.fmean(busy):.0f} %' if busy else ''} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="NAME")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, help="by default all; on a CPU fp32 and bf16")
    parser.add_argument("--compile", choices=["both", "no", "yes"], default="both")
    parser.add_argument("--channels-last", choices=["both", "no", "yes"], default="both")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--full", action="store_true", help="the published sizes of networks; on a GPU always")
    parser.add_argument("--size", type=int, help="height and width; by default 64, on a GPU 256")
    parser.add_argument("--batch", type=int, help="by default 2, on a GPU 8")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--steps", type=int, help="that count, in each turn; by default 3, on a GPU 20")
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--untimed", action="store_true", help="keep cuDNN from timing its algorithms")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    on_cpu = arguments.device == "cpu"
    arguments.full |= not on_cpu
    arguments.size = arguments.size or (64 if on_cpu else 256)
    arguments.batch = arguments.batch or (2 if on_cpu else 8)
    arguments.steps = arguments.steps or (3 if on_cpu else 20)
    if arguments.child:
        child(arguments)
        return
    precisions = arguments.precisions or (["fp32", "bf16"] if on_cpu else list(PRECISIONS))
    chosen = {"both": [False, True], "no": [False], "yes": [True]}
    print(
        "| method | precision | compiled | channels last | seconds per step | times as fast | GB | first step | busy |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for method in arguments.methods:
        others = product(precisions, chosen[arguments.compile], chosen[arguments.channels_last])
        plain: Way = (method, "fp32", False, False)
        ways = [plain, *(way for rest in others if (way := (method, *rest)) != plain)]
        compare(ways, arguments)


if __name__ == "__main__":
    main()
