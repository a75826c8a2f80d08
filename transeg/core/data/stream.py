"""The stream of training samples: what stands at each place in it is a pure function of the seed."""

from __future__ import annotations

import atexit
import math
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate
from torch.utils.data import Dataset as TorchDataset

from transeg.core.data.augmentation import Augmentation, Transform
from transeg.core.data.cache import CachedDataset, SampleCache
from transeg.core.data.images import renumber_instances, resize, resize_mask, unit_range
from transeg.core.data.windows import RegionReader, Windows, pad_sample
from transeg.core.errors import DataError
from transeg.core.interfaces import Batch, Dataset, Sample

Sampling = Literal["shuffle", "replacement", "classes"]
SOURCE, TARGET, SYNTHETIC = 1, 2, 3
_ORDER, _AUGMENT = 10, 20


class Item(NamedTuple):
    """One training sample: images ``(C, H, W)`` uint8, or float32 in [-1, 1]; the others ``(H, W)``."""

    position: int
    source: Tensor
    source_mask: Tensor | None
    target: Tensor | None
    instances: Tensor | None = None
    target_valid: Tensor | None = None


class TrainingView(NamedTuple):
    """An image at a place of the stream, and what belongs to it, of one geometry."""

    image: Tensor
    mask: Tensor | None
    paired: Tensor | None
    instances: Tensor | None
    valid: Tensor | None


@dataclass(frozen=True)
class Preparation:
    """What is done to every sample before it is augmented.

    Attributes:
        size: height and width that images are resized to; None for their own.
        with_instances: whether the numbers of single objects are wanted.
    """

    size: int | None
    with_instances: bool

    def __call__(self, sample: Sample) -> Sample:
        """Resized, and without what a training does not look at."""
        height, width = (self.size, self.size) if self.size else sample.size
        instances = (
            renumber_instances(sample.instances) if self.with_instances and sample.instances is not None else None
        )
        return replace(
            sample,
            image=resize(unit_range(sample.image), height, width),
            mask=None if sample.mask is None else resize_mask(sample.mask, height, width),
            target=None if sample.target is None else resize(unit_range(sample.target), height, width),
            instances=None if instances is None else resize_mask(instances, height, width),
            valid=None if sample.valid is None else resize_mask(sample.valid.astype(np.uint8), height, width),
            depth=None,
        )


class TrainingDomain:
    """One domain's images, or windows on them, in random order, resized and augmented.

    Args:
        dataset: where they come from.
        stream: :data:`SOURCE`, :data:`TARGET` or :data:`SYNTHETIC`; they draw independently.
        seed: of the experiment.
        limit: use the first so many images; 0 for all.
        sampling: `shuffle` shows every image before any comes again, as `classes` does of a single pool; `replacement`
            draws each time anew.
        load_size: height and width that images are resized to before the crop; None for their own.
        size: height and width of the crop.
        transforms: after the crop.
        with_instances: whether the numbers of single objects are wanted.
        windows: on the images, each of which then counts as an image.
        pools: numbers of the images or windows to draw from; of several, each is equally likely, and each draw is anew.
        probabilities: of each image or window in place of all that, each draw being anew; their sum is 1.
        cache: keeps decoded images.
    """

    def __init__(
        self,
        dataset: Dataset,
        stream: int,
        *,
        seed: int,
        limit: int,
        sampling: Sampling,
        load_size: int | None,
        size: int,
        transforms: Sequence[Transform],
        with_instances: bool = False,
        windows: Windows | None = None,
        pools: Sequence[np.ndarray] = (),
        probabilities: np.ndarray | None = None,
        cache: SampleCache | None = None,
    ) -> None:
        self._prepare = Preparation(load_size, with_instances)
        self._prepared = CachedDataset(dataset, cache, self._prepare)
        self._regions = RegionReader(dataset, cache=cache)
        self._windows = windows
        self._pools = pools or (range(min(limit, len(dataset)) if limit else len(dataset)),)
        self._ends = None if probabilities is None else probabilities.cumsum()
        self._sampling = sampling
        self._augment = Augmentation(transforms, size, seed, _AUGMENT + stream)
        self._key = (seed, _ORDER + stream)

    def index(self, position: int) -> int:
        """Which image or window stands at a place of the stream."""
        if self._ends is not None:
            place = np.random.default_rng((*self._key, position)).random() * self._ends[-1]
            return int(np.searchsorted(self._ends, place, side="right"))
        if self._sampling == "replacement" or len(self._pools) > 1:
            rng = np.random.default_rng((*self._key, position))
            pool = self._pools[int(rng.integers(len(self._pools)))] if len(self._pools) > 1 else self._pools[0]
            return int(pool[int(rng.integers(len(pool)))])
        (pool,) = self._pools
        epoch, offset = divmod(position, len(pool))
        return int(pool[int(_permutation(self._key, epoch, len(pool))[offset])])

    def __getitem__(self, position: int) -> TrainingView:
        """What stands at a place of the stream."""
        sample = self._sample(self.index(position))
        image, mask, paired, instances, valid = self._augment(
            position, sample.image, sample.mask, sample.target, sample.instances, sample.valid
        )
        return TrainingView(
            to_tensor(image),
            None if mask is None else torch.from_numpy(np.ascontiguousarray(mask)),
            None if paired is None else to_tensor(paired),
            None if instances is None else torch.from_numpy(instances.astype(np.int64)),
            None if valid is None else torch.from_numpy(valid == 1),
        )

    def _sample(self, number: int) -> Sample:
        if self._windows is None:
            return self._prepared(number)
        window = self._regions(*self._windows[number])
        return self._prepare(pad_sample(window, self._windows.tile, self._windows.tile))


class MixedDomain:
    """Two domains in one stream: of the second, as even as possible, a fixed share.

    Args:
        first: most images, usually real ones.
        second: the others, usually synthetic ones.
        share: of the second, in [0, 1].
    """

    def __init__(self, first: TrainingDomain, second: TrainingDomain, share: float) -> None:
        self._first = first
        self._second = second
        self._share = share

    def __getitem__(self, position: int) -> TrainingView:
        """What stands at a place of the stream."""
        before = math.floor(position * self._share)
        if math.floor((position + 1) * self._share) > before:
            return self._second[before]
        return self._first[position - before]


class TrainingDataset(TorchDataset[Item]):
    """A source image, and a target image that is its pair or drawn independently, at every place.

    Where there is no source, the target image stands in for it, without labels.
    """

    def __init__(self, source: TrainingDomain | MixedDomain | None, target: TrainingDomain | None) -> None:
        if source is None and target is None:
            raise ValueError("nothing is trained on")
        self._source = source
        self._target = target

    def __getitem__(self, position: int) -> Item:
        target = None if self._target is None else self._target[position]
        if self._source is None:
            assert target is not None
            return Item(position, target.image, None, target.image, None, target.valid)
        source = self._source[position]
        if target is None:
            return Item(position, source.image, source.mask, source.paired, source.instances)
        return Item(position, source.image, source.mask, target.image, source.instances, target.valid)


class ResumableBatchSampler:
    """A batch sampler over places in the stream that can begin at any iteration.

    Args:
        iterations: length of the training.
        batch_size: of one rank.
        rank: of this process.
        ranks: number of processes; together they see what one process with the joint batch size sees.

    Attributes:
        first: the iteration to begin at.
    """

    def __init__(self, iterations: int, batch_size: int, rank: int, ranks: int) -> None:
        self.first = 0
        self._iterations = iterations
        self._batch_size = batch_size
        self._rank = rank
        self._ranks = ranks

    def __iter__(self) -> Iterator[list[int]]:
        for iteration in range(self.first, self._iterations):
            start = (iteration * self._ranks + self._rank) * self._batch_size
            yield list(range(start, start + self._batch_size))

    def __len__(self) -> int:
        return self._iterations - self.first


class Collate:
    """Stacks items into a :class:`~transeg.core.interfaces.Batch`.

    Args:
        seed: of the experiment.
        joint_batch_size: over all ranks.
    """

    def __init__(self, seed: int, joint_batch_size: int) -> None:
        self._seed = seed
        self._joint_batch_size = joint_batch_size

    def __call__(self, items: Sequence[Item]) -> Batch:
        iteration = items[0].position // self._joint_batch_size
        return Batch(
            source=torch.stack([item.source for item in items]),
            source_mask=_stack([item.source_mask for item in items]),
            target=_stack([item.target for item in items]),
            positions=torch.tensor([item.position for item in items]),
            seed=int(np.random.default_rng((self._seed, iteration)).integers(2**40)),
            instances=_stack([item.instances for item in items]),
            iteration=iteration,
            target_valid=_stack([item.target_valid for item in items]),
        )


def training_loader(
    stream: TrainingDataset, places: ResumableBatchSampler, collate: Collate, *, workers: int, device: torch.device
) -> DataLoader[Item]:
    """A loader that begins where ``places`` does; it draws nothing from the global random generator."""
    return DataLoader(
        stream,
        batch_sampler=places,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=begin_worker,
        generator=torch.Generator(),
    )


def begin_worker(_index: int) -> None:
    """Leave signals to the main process, which ends the loader's workers when it has finished its iteration.

    Schedulers and torchrun send SIGTERM to workers, too; a worker that the main process leaves behind notices that.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@atexit.register
def end_workers() -> None:
    """End the workers that are left: Python would send them SIGTERM when it exits, and wait for them for ever."""
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler would raise that a worker was killed
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def to_tensor(image: np.ndarray) -> Tensor:
    """``(H, W, C)`` uint8 or float in [0, 1] -> ``(C, H, W)`` uint8, or float32 in [-1, 1]."""
    planes = np.empty((image.shape[2], *image.shape[:2]), image.dtype)
    cv2.split(image, list(planes))  # transposing by NumPy or PyTorch takes seven times as long
    tensor = torch.from_numpy(planes)
    # not in place: a grey float image shares its memory with the tensor, and is seen again
    return tensor if tensor.dtype == torch.uint8 else tensor.float() * 2 - 1


def _stack(tensors: Sequence[Tensor | None]) -> Tensor | None:
    present = [tensor for tensor in tensors if tensor is not None]
    if present and len(present) < len(tensors):
        what = "a mask, a counterpart or valid pixels"
        raise DataError(f"Some images of a dataset have {what} and others have none; all or none must.")
    return default_collate(present) if present else None  # in a worker, straight into shared memory


@lru_cache(maxsize=4)
def _permutation(key: tuple[int, int], epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng((*key, epoch)).permutation(count)
