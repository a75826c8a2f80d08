"""Labelled images on their way to what is measured on them."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from transeg.core.data.cache import CachedDataset, SampleCache
from transeg.core.data.packed_items import PackedItems
from transeg.core.data.stream import begin_worker
from transeg.core.distributed.collectives import rank_and_world_size
from transeg.core.errors import DataError
from transeg.core.inference.sliding_window import Inference
from transeg.core.interfaces import Dataset

T = TypeVar("T")


class EvaluationItem(NamedTuple):
    """An image as the network takes it ``(C, h, w)``, and its mask and numbered objects ``(H, W)`` at its own size.

    ``pixel_size`` is that of its own size, height and width in micrometres, or None.
    """

    name: str
    group: str
    image: Tensor
    mask: Tensor
    instances: np.ndarray | None = None
    pixel_size: tuple[float, float] | None = None


class EvaluationSet(TorchDataset[EvaluationItem]):
    """The labelled images of a dataset, prepared for the network.

    Args:
        dataset: the images.
        inference: how they reach the network.
        cache: keeps them decoded.
    """

    def __init__(self, dataset: Dataset, inference: Inference, cache: SampleCache | None = None) -> None:
        self._dataset = dataset
        self._samples = CachedDataset(dataset, cache)
        self._inference = inference

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> EvaluationItem:
        sample = self._samples(index)
        if sample.mask is None:
            raise DataError(f"{sample.name} has no mask, so nothing can be measured on it.")
        mask = torch.from_numpy(sample.mask.astype(np.int64))
        image = self._inference.prepare(sample.image)
        return EvaluationItem(sample.name, sample.group, image, mask, sample.instances, sample.pixel_size)


class ReadableItems(TorchDataset[EvaluationItem | DataError]):
    """Items, and for those that cannot be read, why."""

    def __init__(self, items: EvaluationSet) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> EvaluationItem | DataError:
        try:
            return self._items[index]
        except DataError as error:
            return error


def evaluation_loader(
    items: TorchDataset[T], *, batch_size: int, workers: int, device: torch.device, again: bool = False
) -> DataLoader[T]:
    """Items in lists, in their own order; it draws nothing from the global random generator.

    Each rank takes every n-th item; :func:`~transeg.core.distributed.collectives.gather_in_order` puts results together
    again.

    Args:
        items: what is loaded.
        batch_size: length of the lists.
        workers: processes that load.
        device: where the items are wanted; for a GPU they lie in memory that it copies from while others compute.
        again: whether there will be other rounds: the workers wait for them, until :func:`dismiss_workers`.
    """
    rank, ranks = rank_and_world_size()
    count = len(items)  # type: ignore[arg-type]  # every dataset here has a length, but PyTorch's class does not say so
    return DataLoader(
        items,
        batch_size=batch_size,
        sampler=range(rank, count, ranks),
        num_workers=workers,
        pin_memory=device.type == "cuda",
        persistent_workers=again and workers > 0,
        collate_fn=PackedItems,
        worker_init_fn=begin_worker,
        generator=torch.Generator(),
    )


def dismiss_workers(loader: DataLoader[Any]) -> None:
    """End the processes that wait for another round of a loader; another round would start new ones.

    They must not be left to the garbage collector: it closes the queues in which they wait before their iterator can
    tell them to end, and PyTorch, which has no public way to dismiss them, then waits ten seconds for each, in vain.
    """
    iterator, loader._iterator = loader._iterator, None
    if iterator is not None:
        iterator._shutdown_workers()  # type: ignore[attr-defined]  # with workers alone is there an iterator to keep
