"""Adapts the batch norms of a trained segmenter to the images at hand, which need no labels.

``bn`` takes their statistics in place of the source's (AdaBN, arXiv:1603.04779); ``tent`` also lets the scales and
shifts of these layers learn to be sure (entropy minimisation, arXiv:2006.10726).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from transeg.core.errors import DataError, UsageError
from transeg.core.inference.sliding_window import Inference
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.interfaces import Dataset
from transeg.core.models.forward import to_signed_unit

State = dict[str, Tensor]
"""Of a batch norm."""
Adaptation = Literal["none", "bn", "tent"]
ENOUGH = 64
"""Images of a group, evenly among all, that it is adapted to: statistics hardly change with more."""
WINDOWS = 9
"""Likewise, of the windows of an image."""
BATCH = 8
"""Images of a forward pass."""
RATE = 1e-3
"""Of Adam, as the publication of ``tent`` has it for images of 32 pixels; one step for each batch."""


class BatchNormAdaptation:
    """A segmenter whose batch norms follow the group of images that it is to segment.

    Args:
        trained: its segmenter is changed in place; it must have been loaded with its ``layers``.
        method: ``bn`` or ``tent``.
        inference: how images reach the network.

    Raises:
        UsageError: the segmenter has no batch norms, there is no segmenter, or no such method.
    """

    def __init__(self, trained: TrainedModel, method: Adaptation, inference: Inference) -> None:
        if method not in get_args(Adaptation):
            raise UsageError(f"There is no --adapt {method}; there are {', '.join(get_args(Adaptation))}.")
        if trained.segmenter is None:
            raise UsageError(f"--adapt {method} is for segmenters, and this run trained a generator alone.")
        self._trained = trained
        self._method = method
        self._inference = inference
        self._segmenter = trained.segmenter
        self._norms = batch_norms(self._segmenter, f"--adapt {method}")
        self._before = self._states()

    def following(self, dataset: Dataset) -> Callable[[str], None]:
        """What adapts to the images of a group of the dataset when it is named; images that cannot be read are left
        out. Each group is adapted to once, in whatever order its images come.
        """
        places: dict[str, list[int]] = {}
        for index in range(len(dataset)):
            with suppress(DataError):  # it is named where it is to be segmented
                places.setdefault(dataset.group_of(index), []).append(index)
        known: dict[str, list[State]] = {}
        current: str | None = None

        def follow(group: str) -> None:
            nonlocal current
            if group == current:
                return
            if group in known:
                self._load(known[group])
            else:
                self(_readable(dataset, places[group], self._inference))
                known[group] = self._states()
            current = group

        return follow

    def __call__(self, images: Iterable[Tensor]) -> None:
        """Adapt the trained network to images, whatever it was adapted to before.

        Args:
            images: of one group, ``(C, h, w)`` each as :meth:`Inference.prepare` gives them; without any, the network
                is as it was trained.
        """
        self.restore()
        batches = list(_batches(view for image in images for view in _views(image, self._inference.window)))
        if not batches:
            return
        try:
            with torch.inference_mode(False), self._learning():
                if self._method == "tent":
                    self._minimise_entropy(batches)
                self._take_statistics(batches)
        except ValueError as error:  # a norm whose maps have a single value, as behind a pooling of the whole image
            raise UsageError(f"--adapt {self._method} cannot be used with this segmenter: {error}") from error

    def restore(self) -> None:
        """Have the network as it was trained."""
        self._load(self._before)

    def _states(self) -> list[State]:
        return [{name: value.clone() for name, value in norm.state_dict().items()} for norm in self._norms]

    def _load(self, states: Sequence[State]) -> None:
        for norm, state in zip(self._norms, states, strict=True):
            norm.load_state_dict(state)

    @contextmanager
    def _learning(self) -> Iterator[None]:
        """Batch norms with the statistics of their batch."""
        for norm in self._norms:
            norm.train()
        try:
            yield
        finally:
            for norm in self._norms:
                norm.eval()

    def _minimise_entropy(self, batches: Sequence[Tensor]) -> None:
        flags = {parameter: parameter.requires_grad for parameter in self._segmenter.parameters()}
        learned = [parameter for norm in self._norms for parameter in norm.parameters()]
        self._segmenter.requires_grad_(False)
        for parameter in learned:
            parameter.requires_grad_(True)
        optimizer = torch.optim.Adam(learned, lr=RATE)
        with torch.enable_grad():
            for batch in batches:
                optimizer.zero_grad()
                entropy(self._trained.segment(to_signed_unit(batch, self._trained.device))).backward()
                optimizer.step()
        optimizer.zero_grad()
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)

    @torch.no_grad()
    def _take_statistics(self, batches: Sequence[Tensor]) -> None:
        momenta = [norm.momentum for norm in self._norms]
        for norm in self._norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
        for batch in batches:
            self._trained.segment(to_signed_unit(batch, self._trained.device))
        for norm, momentum in zip(self._norms, momenta, strict=True):
            norm.momentum = momentum


def batch_norms(segmenter: nn.Module, option: str) -> list[_BatchNorm]:
    """Those of a segmenter that can be adapted.

    Args:
        segmenter: as it was trained, not fused.
        option: that asks for it, for the error.

    Raises:
        UsageError: there is none.
    """
    norms = [layer for layer in segmenter.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    if not norms:
        raise UsageError(f"{option} changes batch norms, and this segmenter has none with statistics; leave it out.")
    return norms


def entropy(logits: Tensor) -> Tensor:
    """Mean over all pixels of the entropy of their classes in nats, from logits ``(N, K, H, W)``; 1 for two."""
    if logits.shape[1] == 1:
        return (F.softplus(logits) - logits.sigmoid() * logits).mean()
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()


def evenly(count: int, most: int) -> list[int]:
    """Indices of at most so many of a number of things, evenly among all."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(int).tolist()


def _readable(dataset: Dataset, places: Sequence[int], inference: Inference) -> Iterator[Tensor]:
    for index in evenly(len(places), ENOUGH):
        with suppress(DataError):
            yield inference.prepare(dataset[places[index]].image)


def _views(image: Tensor, window: int) -> list[Tensor]:
    """What the network sees of an image ``(C, h, w)``: all, or some windows side by side."""
    height, width = image.shape[1:]
    if not window or (height <= window and width <= window):
        return [image]
    places = [
        (top, left)
        for top in range(0, max(1, height - window + 1), window)
        for left in range(0, max(1, width - window + 1), window)
    ]
    chosen = (places[index] for index in evenly(len(places), WINDOWS))
    return [image[:, top : top + window, left : left + window] for top, left in chosen]


def _batches(views: Iterable[Tensor]) -> Iterator[Tensor]:
    """Those of one size and type that follow each other, some at a time: ``(N, C, h, w)``."""
    for _, alike in groupby(views, key=lambda view: (view.shape, view.dtype)):
        together = list(alike)
        for begin in range(0, len(together), BATCH):
            yield torch.stack(together[begin : begin + BATCH])
