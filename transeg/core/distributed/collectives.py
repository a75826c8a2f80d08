"""What ranks share: parameters at the start, gradients before each step, decisions, results. Nothing is wrapped."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import zip_longest
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from transeg.core.distributed.ranks import LostProcessError, launched_rank_and_world_size
from transeg.core.errors import TransegError, UsageError

Row = TypeVar("Row")

BUCKET_BYTES = 25 * 2**20
"""Gradients travel in buckets of about this size, as in PyTorch's own data-parallel wrapper."""

PATIENCE = timedelta(days=7)
"""How long a rank waits for what others work on: shares of a test set are not of one length. Gradients come at once, so
they have PyTorch's own limits, half an hour and on GPUs ten minutes."""


@dataclass(frozen=True)
class _Meeting:
    """Ranks that have met.

    Attributes:
        store: where they leave notes for each other.
        patient: the group in which they share results and decisions.
    """

    store: Store
    patient: dist.ProcessGroup


_meeting: _Meeting | None = None


def rank_and_world_size() -> tuple[int, int]:
    """(rank, number of ranks) of those that have met; (0, 1) before :func:`join_ranks`."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def store() -> Store | None:
    """Where ranks that have met leave notes for each other."""
    return None if _meeting is None else _meeting.store


def join_ranks() -> None:
    """Meet the other processes that a launcher has started, if any.

    Raises:
        TransegError: they did not come.
    """
    global _meeting
    rank, ranks = launched_rank_and_world_size()
    if ranks == 1 or _meeting is not None:
        return
    try:
        notes, rank, ranks = next(rendezvous("env://"))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            store=PrefixStore("group", notes),
            rank=rank,
            world_size=ranks,
        )
        patient = cast("dist.ProcessGroup", dist.new_group(backend="gloo", timeout=PATIENCE))
    except (RuntimeError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise TransegError(f"The {ranks} processes of this run did not meet: {reason}.") from error
    _meeting = _Meeting(PrefixStore("notes", notes), patient)


def leave_ranks() -> None:
    """Part from the others when all is done."""
    global _meeting
    if _meeting is not None:
        _meeting = None
        dist.destroy_process_group()


def rank_device(device: torch.device) -> torch.device:
    """The device of this rank, of several GPUs its own; a GPU that is named becomes the one that is used by default.

    Pinned memory, for one, would else take its context from the first GPU, whoever trains there.

    Raises:
        UsageError: there are fewer GPUs than ranks on this machine.
    """
    if device.type != "cuda":
        return device
    if rank_and_world_size()[1] > 1:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    count = torch.cuda.device_count()
    if device.index is not None:
        if device.index >= count:
            raise UsageError(_no_gpu(device, count))
        torch.cuda.set_device(device)
    return device


def _no_gpu(device: torch.device, count: int) -> str:
    this = f"This machine has {count} GPU{'s' * (count != 1)}"
    if rank_and_world_size()[1] > 1:
        return f"{this}, but more processes than that; start one for each GPU."
    return f"{this}, counted from 0, so there is no {device}."


def all_gather(rows: Sequence[Row]) -> list[Row]:
    """The rows of all ranks, by rank; no rank goes on before all are here."""
    return [row for part in _parts(rows) for row in part]


def gather_in_order(rows: Sequence[Row]) -> list[Row]:
    """The rows of all ranks, in the order of a list of which each rank took every n-th."""
    missing = object()
    turns = zip_longest(*_parts(rows), fillvalue=missing)
    return [cast("Row", row) for turn in turns for row in turn if row is not missing]


def broadcast_from_first(make: Callable[[], Row]) -> Row:
    """Let the first rank do something while the others wait, and give all what it returns."""
    if _meeting is None:
        return make()
    shared = [make() if rank_and_world_size()[0] == 0 else None]
    with sharing():
        dist.broadcast_object_list(shared, 0, group=_meeting.patient)
    return cast("Row", shared[0])


def any_rank(flag: bool) -> bool:
    """Whether it is so on any rank: what one decides, all must."""
    if _meeting is None:
        return flag
    flags = torch.tensor(int(flag))
    with sharing():
        dist.all_reduce(flags, dist.ReduceOp.MAX, group=_meeting.patient)
    return bool(flags)


@torch.no_grad()
def broadcast_state(module: nn.Module) -> None:
    """Give every rank the first rank's parameters and buffers."""
    if rank_and_world_size()[1] > 1:
        with sharing():
            for parameter in module.parameters():
                dist.broadcast(parameter.detach(), 0)
    broadcast_buffers(module)


@torch.no_grad()
def broadcast_buffers(module: nn.Module) -> None:
    """Give every rank the first rank's buffers: where batch norm is in eval mode, all must have the same statistics."""
    if rank_and_world_size()[1] > 1:
        with sharing():
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the ranks; without one on some of them, it counts as zero there.

    What has no gradient on any rank is left without one, as in a single process.
    """
    size = rank_and_world_size()[1]
    if size == 1:
        return
    for bucket in _buckets([parameter for parameter in parameters if parameter.requires_grad]):
        there = [parameter.grad is not None for parameter in bucket]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        flags = torch.tensor(there, dtype=gradients[0].dtype).to(gradients[0].device, non_blocking=True)
        flat = torch.cat([*(g.flatten() for g in gradients), flags])
        with sharing():
            dist.all_reduce(flat)
        *means, anywhere = torch.split(flat.div_(size), [*(g.numel() for g in gradients), len(bucket)])
        wanted = there if all(there) else (anywhere > 0).tolist()  # a GPU is asked where one is missing, and but once
        for parameter, gradient, mean, known in zip(bucket, gradients, means, wanted, strict=True):
            if known:
                parameter.grad = gradient.copy_(mean.view_as(gradient))


def _parts(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each rank."""
    if _meeting is None:
        return [list(rows)]
    parts: list[list[Row]] = [[]] * rank_and_world_size()[1]
    with sharing():
        dist.all_gather_object(parts, list(rows), group=_meeting.patient)
    return parts


@contextmanager
def sharing() -> Iterator[None]:
    """Say what keeps ranks from sharing: that one of them is gone, or that GPUs do not reach each other.

    Whatever else goes wrong, such as a lack of memory, keeps its own words.
    """
    try:
        yield
    except dist.DistBackendError as error:  # NCCL's, and most often of its own: where a rank is gone, it waits
        reason = str(error).strip().splitlines()[-1].rstrip(".")
        raise TransegError(
            f"The GPUs of this run cannot reach each other: {reason}. NCCL_DEBUG=WARN says more; each process needs a "
            f"GPU of its own."
        ) from error
    except RuntimeError as error:
        if not _of_lost_peer(error):
            raise
        raise LostProcessError("Another process of this run has ended.") from error


def _of_lost_peer(error: RuntimeError) -> bool:
    """Whether a connection to another rank was lost; of gloo's errors only the text says so."""
    if isinstance(error, dist.DistNetworkError | dist.DistStoreError):
        return True
    text = str(error)
    return (text.startswith("[") and "gloo/transport" in text and "enforce fail" not in text) or "pair closure" in text


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """The same on all ranks, whatever has a gradient there."""
    bucket: list[nn.Parameter] = []
    size = 0
    for parameter in parameters:
        if bucket and (size + parameter.nbytes > BUCKET_BYTES or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.nbytes
    if bucket:
        yield bucket
