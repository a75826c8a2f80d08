"""How fast a segmenter is: parameters, multiplications, time and memory.

Little is imported here, since a process of its own begins with it for each segmenter.
"""

from __future__ import annotations

import os
import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from transeg.core.device import keep_freed_memory
from transeg.core.errors import TransegError
from transeg.core.experiment.settings import Settings
from transeg.core.interfaces import Segmenter
from transeg.core.models.forward import segment
from transeg.core.models.fusion import fuse_for_inference
from transeg.core.models.memory_layout import put_segmenter_channels_last
from transeg.core.models.winograd import use_winograd
from transeg.core.registry import Registry

FEWEST, MOST = 5, 50
"""Limits on the repetitions, whatever time they take."""
SECONDS, PEAK_SECONDS = 3.0, 0.5
"""How long a segmenter, and the convolution that it is compared with, are repeated."""
CHANNELS = 3

Work = Callable[[], object]


@dataclass(frozen=True)
class SpeedRequest:
    """What one process measures.

    Attributes:
        segmenter: its name.
        options: its options, checked.
        registries: the files of the registry that knows it.
        size: height and width of the images.
        batch: images at a time.
        threads: of a CPU; None for as many as PyTorch takes.
        device: where it runs.
        train: whether training steps are measured in place of inference.
    """

    segmenter: str
    options: Settings
    registries: tuple[Path, ...]
    size: int
    batch: int
    threads: int | None
    device: str
    train: bool


@dataclass(frozen=True)
class Speed:
    """What was measured.

    Attributes:
        parameters: trainable ones.
        gmacs: billions of multiplications for one image, backward pass included where there is one.
        seconds: of a batch, the median.
        images_per_second: at that.
        gmacs_per_second: at that.
        peak_gmacs_per_second: what the machine reached in one large convolution, in the same process.
        peak_memory: bytes, of the GPU, or of the whole process on a CPU.
        threads: of the CPU.
    """

    parameters: int
    gmacs: float
    seconds: float
    images_per_second: float
    gmacs_per_second: float
    peak_gmacs_per_second: float
    peak_memory: int | None
    threads: int


def send_outcome(request: SpeedRequest, sender: Connection) -> None:
    """Send the outcome to another process."""
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a third-party network prints is no result
    found = measure_or_explain(request)
    sys.stdout.flush()  # who receives the outcome waits for nothing more
    sender.send(found)


def measure_or_explain(request: SpeedRequest) -> Speed | str:
    """What was measured, or why it could not be."""
    try:
        return measure_speed(request)
    except (TransegError, ValueError) as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def measure_speed(request: SpeedRequest) -> Speed:
    """Measure a segmenter with weights as its constructor leaves them.

    Raises:
        TransegError: it is not there, or cannot be imported.
    """
    device = torch.device(request.device)
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    if device.type == "cpu":
        keep_freed_memory()
    registry = Registry(request.registries)
    torch.manual_seed(0)
    segmenter = registry.load(registry.find("segmenter", request.segmenter))(CHANNELS, 1, **request.options)
    parameters = sum(p.numel() for p in segmenter.parameters() if p.requires_grad)
    image = torch.rand(request.batch, CHANNELS, request.size, request.size, device=device) * 2 - 1
    work = training_work(segmenter.to(device), image) if request.train else inference_work(segmenter, image)
    with FlopCounterMode(display=False) as counter:
        work()
    macs = counter.get_total_flops() / 2
    seconds = statistics.median(time_repetitions(work, device, SECONDS))
    memory = peak_memory(device)
    return Speed(
        parameters,
        macs / request.batch / 1e9,
        seconds,
        request.batch / seconds,
        macs / seconds / 1e9,
        machine_peak(device) / 1e9,
        memory,
        torch.get_num_threads(),
    )


def inference_work(segmenter: Segmenter, image: Tensor) -> Work:
    """What `toolkit predict` does with each image."""
    network = fuse_for_inference(segmenter.eval(), image.shape[1], image.device)
    return torch.inference_mode()(lambda: segment(network, image))


def training_work(segmenter: Segmenter, image: Tensor) -> Work:
    """Forward pass, binary cross-entropy of every head, backward pass, Adam."""
    segmenter.train()
    if image.device.type == "cpu":
        put_segmenter_channels_last(segmenter)
        use_winograd(segmenter)
    optimizer = torch.optim.Adam(segmenter.parameters(), fused=True)
    mask = (torch.rand_like(image[:, :1]) > 0.9).to(image.dtype)

    def step() -> None:
        heads = segment(segmenter, image)
        losses = [F.binary_cross_entropy_with_logits(head, mask.expand_as(head)) for head in heads]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()

    return step


def time_repetitions(work: Work, device: torch.device, enough: float) -> list[float]:
    """Seconds of each of as many repetitions as ``enough`` seconds hold, after one that warms up."""
    work()
    seconds: list[float] = []
    while len(seconds) < FEWEST or (sum(seconds) < enough and len(seconds) < MOST):
        start = time.perf_counter()
        work()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return seconds


def machine_peak(device: torch.device) -> float:
    """Multiplications per second of a 3x3 convolution that is large enough to be bound by nothing else."""
    count, width, side = (1, 256, 96) if device.type == "cpu" else (32, 256, 96)
    conv = nn.Conv2d(width, width, 3, padding=1, device=device)
    image = torch.rand(count, width, side, side, device=device)
    if device.type == "cpu":
        image = image.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        fastest = min(time_repetitions(lambda: conv(image), device, PEAK_SECONDS))
    return count * width**2 * 9 * side**2 / fastest


def peak_memory(device: torch.device) -> int | None:
    """Bytes: of the GPU, or of this process where the system tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # not getrusage, which counts what the parent had before this process began
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(found.group(1)) * 1024 if found else None
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None
