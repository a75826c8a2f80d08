"""Which images an export is checked on, calibrated with and measured on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from transeg.core.builders.datasets import build_nonempty, normalise_stain, validation_split
from transeg.core.data.images import read_unit_image
from transeg.core.errors import UsageError
from transeg.core.experiment.schema import Experiment
from transeg.core.inference.prediction import list_image_files, read_labels
from transeg.core.inference.sliding_window import Inference
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.interfaces import Dataset, Sample
from transeg.core.models.forward import to_signed_unit
from transeg.core.registry import Registry
from transeg.tools.export.graph import Graph


@dataclass(frozen=True)
class ExportDatasets:
    """Datasets by what is done with them; each is built when it is asked for, since its folder may be gone.

    Attributes:
        experiment: whose datasets they are: the segmenter's, or where images are translated first the generator's.
        backwards: whether a generator is given target images.
        adapted: whether the images are of the domain that a generator is given.
        registry: where datasets come from.
    """

    experiment: Experiment
    backwards: bool
    adapted: bool
    registry: Registry

    def to_check(self) -> Dataset:
        """Images like those that the graph will see, of a test if there is one.

        Raises:
            UsageError: none of them is there.
        """
        labelled = self.labelled()
        if labelled:
            return next(iter(labelled.values()))
        return self.to_calibrate()

    def to_calibrate(self) -> Dataset:
        """Images of the training, of the domain that the graph will see.

        Raises:
            UsageError: they are not there.
        """
        data = self.experiment.data
        of_target = self.backwards or not self.adapted
        choice = data.target if data.target is not None and (of_target or data.source is None) else data.source
        assert choice is not None
        return normalise_stain(build_nonempty(choice, "source", self.registry), data)

    def labelled(self) -> dict[str, Dataset]:
        """Test sets; else labelled validation images of the domain that the graph will see, if there are any.

        Raises:
            UsageError: they are not there.
        """
        data, registry = self.experiment.data, self.registry
        if not self.adapted and data.test:
            return {
                label: normalise_stain(build_nonempty(choice, "test", registry, label), data)
                for label, choice in data.test.items()
            }
        if not self.adapted and data.val is not None:
            return {"validation": normalise_stain(build_nonempty(data.val, "val", registry), data)}
        if (self.adapted and not self.backwards) or data.target is None:
            val = validation_split(data.source, registry)
            return {} if val is None else {"validation": normalise_stain(val, data)}
        return {}


class UnlabelledFolder(Dataset):
    """Image files without labels, or label maps without images where a graph takes these.

    Args:
        path: of a file, or of a folder of them.
        graph: takes them.
        trained: the run whose network is the first to see them.
    """

    def __init__(self, path: Path, graph: Graph, trained: TrainedModel) -> None:
        self._files = list_image_files(path)
        self._by_mask, self.channels = graph.by_mask, graph.channels
        self._trained = trained

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        file = self._files[index]
        if self._by_mask:
            mask = read_labels(file, len(self._trained.domains.class_names))
            return Sample(mask[:, :, None], mask, file.stem, file.stem)
        return Sample(self._trained.normalised(read_unit_image(file, self.channels)), None, file.stem, file.stem)


def evenly_spaced(dataset: Dataset, count: int) -> Iterator[Sample]:
    """So many samples, evenly from the first to the last; all, where there are fewer."""
    for index in sorted({int(place) for place in np.linspace(0, len(dataset) - 1, min(count, len(dataset)))}):
        yield dataset[index]


def graph_input(graph: Graph, sample: Sample, inference: Inference, side: int | None) -> Tensor:
    """A sample as a graph takes it, at the size at which the run's networks see it.

    Args:
        graph: takes it.
        sample: an image, with a mask where label maps come in.
        inference: of the run.
        side: what is larger is cut to this in its middle; None for nothing.

    Returns:
        ``(1, C, h, w)`` float32 in [0, 1], or ``(1, h, w)`` int64.
    """
    if graph.by_mask:
        assert sample.mask is not None
        whole = torch.from_numpy(inference.prepare_mask(sample.mask).astype(np.int64))[None]
    else:
        whole = (to_signed_unit(inference.prepare(sample.image), torch.device("cpu"))[None] + 1) / 2
    return whole if side is None else _middle(whole, side)


def _middle(image: Tensor, side: int) -> Tensor:
    for axis in (-2, -1):
        length = image.shape[axis]
        if length > side:
            image = image.narrow(axis, (length - side) // 2, side)
    return image.contiguous()


def build_if_available(make: Callable[[], Mapping[str, Dataset]]) -> tuple[Mapping[str, Dataset], str]:
    """Datasets, or none and why."""
    try:
        return make(), ""
    except UsageError as error:
        return {}, str(error)


def share_limit(datasets: Mapping[str, Dataset], limit: int) -> Sequence[tuple[Dataset, int]]:
    """How many images of each dataset, so that they are at most so many together."""
    everything = sum(map(len, datasets.values()))
    share = min(1.0, limit / everything) if everything else 1.0
    return [(dataset, max(1, int(len(dataset) * share))) for dataset in datasets.values()]
