"""What ranks share: parameters at the start, gradients before each step. Nothing is wrapped."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

Row = TypeVar("Row")

BUCKET_BYTES = 25 * 2**20
"""Gradients travel in buckets of about this size, as in PyTorch's own data-parallel wrapper."""


def world() -> tuple[int, int]:
    """(rank, number of ranks), also before :func:`join_ranks`."""
    if dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def join_ranks(device: torch.device) -> torch.device:
    """Meet the other processes that torchrun has started, if any.

    Returns:
        The device of this rank.
    """
    if world()[1] == 1 or dist.is_initialized():
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def gathered(rows: Sequence[Row]) -> list[Row]:
    """The rows of all ranks, by rank; no rank goes on before all are here."""
    if world()[1] == 1:
        return list(rows)
    parts: list[list[Row]] = [[]] * world()[1]
    dist.all_gather_object(parts, list(rows))
    return [row for part in parts for row in part]


@torch.no_grad()
def broadcast_state(module: nn.Module) -> None:
    """Give every rank the first rank's parameters and buffers."""
    if world()[1] > 1:
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor.detach(), 0)


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the ranks."""
    size = world()[1]
    if size == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    for bucket in _buckets(gradients):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        dist.all_reduce(flat)
        flat /= size
        for gradient, mean in zip(bucket, torch.split(flat, [g.numel() for g in bucket]), strict=True):
            gradient.copy_(mean.view_as(gradient))


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        if bucket and (size + gradient.nbytes > BUCKET_BYTES or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.nbytes
    if bucket:
        yield bucket
