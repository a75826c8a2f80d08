"""Looks once at what plugins of others have built, so that a fault of theirs is named as theirs, before a training.

What is built in is looked at by our tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from transeg.core.errors import DataError, UsageError
from transeg.core.interfaces import IGNORE, Dataset, Generator, Noise, Sample, Segmenter
from transeg.core.manifest import Component
from transeg.core.registry import BUILTIN

SIDE = 64
FEW = 4
"""Samples of a dataset that are looked at."""
LARGE = 2**24
"""Pixels of an image that is too large for a look."""


def probe_segmenter(segmenter: Segmenter, component: Component, channels: int, outputs: int) -> None:
    """Whether a segmenter of others gives logits of an image's own size.

    Raises:
        UsageError: it does not.
    """
    if component.package != BUILTIN:
        side = SIDE + -SIDE % segmenter.size_multiple
        _probe(segmenter, component, (1, channels, side, side), (1, outputs, side, side), segmenter)


def probe_generator(generator: Generator, component: Component, channels: int, made: int) -> None:
    """Whether a generator of others gives images of the size and channels that are asked for.

    Raises:
        UsageError: it does not.
    """
    if component.package != BUILTIN:
        side = max(SIDE, generator.smallest)
        side += -side % generator.size_multiple

        def translate(image: Tensor) -> Tensor:
            return generator.translate(image, generator.directions[0], Noise(torch.zeros(1, dtype=torch.long)))

        _probe(generator, component, (1, channels, side, side), (1, made, side, side), translate)


def _probe(
    network: nn.Module,
    component: Component,
    given: tuple[int, ...],
    wanted: tuple[int, ...],
    forward: Callable[[Tensor], Tensor],
) -> None:
    try:
        with _without_trace(network):
            found = forward(torch.zeros(given))
    except Exception as error:
        raise _fault(component, f"fails on an image of shape {given}: {type(error).__name__}: {error}") from error
    shape = tuple(found.shape) if isinstance(found, Tensor) else f"a {type(found).__name__}"
    if shape != wanted:
        raise _fault(component, f"gives {shape} for an image of shape {given}, where {wanted} was asked for")


@contextmanager
def _without_trace(network: nn.Module) -> Iterator[None]:
    """In eval mode; the network and the global random generator are afterwards as they were."""
    training = network.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            network.eval()
            yield
    finally:
        network.train(training)


def probe_dataset(dataset: Dataset, component: Component) -> None:
    """Whether a few samples of a dataset of others are what samples must be; those that cannot be read say so later.

    Raises:
        UsageError: they are not.
    """
    if component.package == BUILTIN or not len(dataset):
        return
    values: set[int] = set()
    for index in np.unique(np.linspace(0, len(dataset) - 1, FEW).astype(int)).tolist():
        try:
            height, width = dataset.size_of(index)
            sample = dataset[index] if height * width <= LARGE else None
        except DataError:
            continue
        if sample is not None:
            values |= _look(sample, dataset, component)
    if IGNORE in values and values <= {0, IGNORE}:
        raise _fault(
            component, f"has masks of 0 and {IGNORE} alone, where {IGNORE} means unknown and classes are 1, 2, ..."
        )


def _look(sample: Sample, dataset: Dataset, component: Component) -> set[int]:
    """The values of a sample's mask."""
    if sample.image.ndim != 3 or sample.image.shape[2] != dataset.channels:
        shape = f"of shape {sample.image.shape}, where (H, W, {dataset.channels}) was announced"
        raise _fault(component, f"gives {sample.name} an image {shape}")
    if sample.mask is None:
        return set()
    if sample.mask.shape != sample.size or not np.issubdtype(sample.mask.dtype, np.integer):
        found = f"a mask of shape {sample.mask.shape} in {sample.mask.dtype}"
        raise _fault(component, f"gives {sample.name} {found}, where integers of shape {sample.size} belong")
    values: set[int] = set(np.unique(sample.mask).tolist())
    strange = sorted(values - {*range(len(dataset.classes)), IGNORE})
    if strange:
        shown = ", ".join(map(str, strange[:5]))
        raise _fault(component, f"gives {sample.name} a mask with {shown}, but has {len(dataset.classes)} classes")
    return values


def _fault(component: Component, what: str) -> UsageError:
    return UsageError(
        f"The {component.kind} {component.name!r} of {component.package} {what}. Mend that plugin; "
        "toolkit plugin check looks at all that it must do."
    )
