"""Lets cuDNN choose its algorithms by their times where images have one size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.backends import cudnn


@contextmanager
def cudnn_benchmark() -> Iterator[None]:
    """Have cuDNN time its algorithms once for each size that a convolution meets, and keep the fastest, meanwhile.

    Nothing changes where the process asks for algorithms that give the same bits again: which one is the fastest may
    differ from start to start.
    """
    before = cudnn.benchmark
    cudnn.benchmark = before or not (cudnn.deterministic or torch.are_deterministic_algorithms_enabled())
    try:
        yield
    finally:
        cudnn.benchmark = before
