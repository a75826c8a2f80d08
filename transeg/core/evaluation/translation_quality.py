"""How good a generator's images are: during training, and on test sets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Subset

from transeg.core.analysis.csv_files import CsvFiles
from transeg.core.data.cache import CachedDataset, SampleCache
from transeg.core.data.images import resize, unit_range
from transeg.core.data.stream import to_tensor
from transeg.core.data.wrapper import DatasetWrapper
from transeg.core.distributed.collectives import broadcast_from_first, gather_in_order
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.evaluation.evaluation_items import evaluation_loader
from transeg.core.evaluation.judge import Judge, can_round_trip
from transeg.core.evaluation.metrics.counts import count_pixels, overlap_ratios
from transeg.core.evaluation.metrics.image_quality import image_set_metrics, paired_image_metrics
from transeg.core.evaluation.metrics.table import metrics_of
from transeg.core.evaluation.scores import SharedMetric
from transeg.core.inference.conditioning import Conditioning
from transeg.core.inference.sliding_window import Inference
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.inference.translator import loading_workers, translation_seed
from transeg.core.interfaces import Dataset, Sample
from transeg.core.models.forward import to_classes, to_signed_unit

MEANS = metrics_of("made")
"""Values of single images."""
COMPARED = 1000
"""At most this many images of an unpaired target domain are compared with."""


class TranslationItem(NamedTuple):
    """What a generator is given of an image, ``(C, h, w)``, and what is known of the result.

    Attributes:
        name: of the sample.
        given: to the generator.
        real: the counterpart, ``(C', h, w)``, or None.
        mask: ``(h, w)`` int64, or None.
    """

    name: str
    given: Tensor
    real: Tensor | None
    mask: Tensor | None


class TranslationSet(TorchDataset[TranslationItem]):
    """The images of a dataset as a generator is given them.

    Args:
        dataset: the images.
        given: what the generator is given of them.
        inference: how they reach it.
        cache: keeps them decoded.
    """

    def __init__(
        self, dataset: Dataset, given: Conditioning, inference: Inference, cache: SampleCache | None = None
    ) -> None:
        self._dataset = dataset
        self._samples = CachedDataset(dataset, cache)
        self._given = given
        self._inference = inference

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> TranslationItem:
        sample = self._samples(index)
        given = self._given.sample(sample, self._inference)
        counterpart = sample.image if self._given.by_mask else sample.target
        real = None if counterpart is None else to_tensor(_at(given, counterpart))
        mask = None if sample.mask is None else self._inference.prepare_mask(sample.mask).astype(np.int64)
        return TranslationItem(sample.name, given, real, None if mask is None else torch.from_numpy(mask))


def _at(given: Tensor, counterpart: np.ndarray) -> np.ndarray:
    return resize(unit_range(counterpart), *given.shape[1:])


class TranslationMetric(SharedMetric):
    """Feeds mmengine's validation loop: translated images, and what is known of them.

    The values are :data:`MEANS` over the images, and ``fid`` and ``kid``. ``consistency_dice_real`` is what the same
    segmenter reaches on the real images: about the most that ``consistency_dice`` can be.

    Args:
        judge: the networks.
        reference: real images for FID and KID where items have no counterparts, or None.
        inference: how those are prepared.
    """

    default_prefix = "val"

    def __init__(self, judge: Judge, reference: Dataset | None, inference: Inference) -> None:
        super().__init__()
        self._judge = judge
        self._reference = reference
        self._inference = inference
        self._known: dict[str, tuple[Tensor | None, float | None]] = {}
        self._of_reference: Tensor | None = None

    def process(self, data_batch: Sequence[TranslationItem], data_samples: Sequence[Tensor]) -> None:
        """Judge translated images ``(C', h, w)``."""
        for item, made in zip(data_batch, data_samples, strict=True):
            self.results.append(self._judged(item, made))

    def add(self, item: TranslationItem, made: Tensor, back: Tensor | None) -> None:
        """Judge a translated image, and ``back``, which that has been translated back into, ``(C, h, w)`` or None."""
        self.process([item], [made])
        if back is not None:
            values = paired_image_metrics(back, to_signed_unit(item.given, back.device))
            self.results[-1] |= {f"roundtrip_{key}": value for key, value in values.items()}

    @torch.inference_mode()
    def _judged(self, item: TranslationItem, made: Tensor) -> dict[str, Any]:
        judge = self._judge
        values: dict[str, Any] = {"name": item.name}
        image = made[None].to(judge.device)
        if judge.features is not None:
            values["features"] = judge.features(image)[0].cpu()
        if judge.segmenter is not None and item.mask is not None:
            values["consistency_dice"], values["consistency_iou"] = _agreement(judge.segmenter, image, item.mask)
        if item.real is not None:
            real = to_signed_unit(item.real, judge.device)[None]
            values |= paired_image_metrics(image[0], real[0])
            if judge.distance is not None:
                values["lpips"] = float(judge.distance(image, real)[0])
            values["real_features"], values["consistency_dice_real"] = self._of_real(item, real)
        return {key: value for key, value in values.items() if value is not None}

    def _of_real(self, item: TranslationItem, real: Tensor) -> tuple[Tensor | None, float | None]:
        """Features of a real image, and how well it is segmented: computed once."""
        if item.name not in self._known:
            judge = self._judge
            features = judge.features(real)[0].cpu() if judge.features is not None else None
            dice = None
            if judge.segmenter is not None and item.mask is not None:
                dice = _agreement(judge.segmenter, real, item.mask)[0]
            self._known[item.name] = features, dice
        return self._known[item.name]

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, Any]:
        """Means and distances over all images."""
        table: dict[str, Any] = {}
        for key in MEANS:
            values = np.array([result[key] for result in results if key in result])
            if np.isfinite(values).any():
                table[key] = float(values[np.isfinite(values)].mean())
        made = [result["features"] for result in results if "features" in result]
        real = [result["real_features"] for result in results if "real_features" in result]
        if made and not real:
            real = list(self._reference_features())
        if len(made) > 1 and len(real) > 1:
            table |= image_set_metrics(torch.stack(made), torch.stack(real))
        table["images"] = len(results)
        return table

    @torch.inference_mode()
    def _reference_features(self) -> Tensor:
        if self._of_reference is None:
            assert self._reference is not None
            assert self._judge.features is not None
            rows = []
            for index in range(min(len(self._reference), COMPARED)):
                image = to_signed_unit(self._inference.prepare(self._reference[index].image), self._judge.device)
                rows.append(self._judge.features(image[None])[0].cpu())
            self._of_reference = torch.stack(rows)
        return self._of_reference


def judge_translation(
    trained: TrainedModel,
    datasets: Mapping[str, Dataset],
    reference: Dataset | None,
    judge: Judge,
    inference: Inference,
    folder: Path,
    console: Console,
) -> dict[str, Any]:
    """Translate every image of datasets and judge the results, in both directions where the generator has two.

    Args:
        trained: has the generator.
        datasets: by the name that they have in the table.
        reference: images of the target domain, where the generator learned without pairs.
        judge: what judges.
        inference: how images reach the generator.
        folder: gets a CSV file with a line for each image of each dataset.
        console: for progress.

    Returns:
        See :class:`TranslationMetric`, for each dataset; of target images under the name of their direction.
    """
    table = {}
    ways = _ways(trained, datasets, reference, judge)
    with progress_bar(console, "judging translations", sum(way.count for way in ways)) as advance:
        for way in ways:
            metric = TranslationMetric(way.judge, way.reference, inference)
            items = Subset(TranslationSet(way.images, trained.given, inference), range(way.count))
            workers = loading_workers(way.images, trained.experiment.data.workers)
            for (item,) in evaluation_loader(items, batch_size=1, workers=workers, device=trained.device):
                there = partial(trained.translate, direction=way.direction, seed=translation_seed(item.name))
                made, back = inference.run(there, item.given, trained.device), None
                if way.back is not None:
                    home = partial(trained.translate, direction=way.back, seed=translation_seed(f"{item.name} back"))
                    back = inference.run(home, made, trained.device)
                metric.add(item, made, back)
                advance()
            table[way.label] = broadcast_from_first(
                partial(_judged, metric, gather_in_order(metric.results), folder, way.label)
            )
    return table


@dataclass(frozen=True)
class _Way:
    """One direction in which images are translated to be judged.

    Attributes:
        label: in the table.
        images: what is translated.
        count: how many of them.
        direction: of the generator.
        back: the direction of their return, or None.
        reference: real images like those that are made, where ``images`` have no counterparts.
        judge: of what is made.
    """

    label: str
    images: Dataset
    count: int
    direction: str
    back: str | None
    reference: Dataset | None
    judge: Judge


def _ways(
    trained: TrainedModel, datasets: Mapping[str, Dataset], reference: Dataset | None, judge: Judge
) -> list[_Way]:
    """Source images to the target and, where the generator goes there, target images to the source."""
    assert trained.generator is not None
    there, *others = trained.generator.directions
    back = others[0] if can_round_trip(trained.generator, trained.given) else None
    ways = [_Way(label, images, len(images), there, back, reference, judge) for label, images in datasets.items()]
    if back is None:
        return ways
    judge = replace(judge, segmenter=None)  # that knows images of the target domain
    for label, images in datasets.items():
        if images.paired:
            ways.append(_Way(f"{label}-{back}", SwappedPairs(images), len(images), back, there, None, judge))
    if reference is not None and datasets:
        count = min(len(reference), sum(len(images) for images in datasets.values()))
        ways.append(_Way(back, reference, count, back, there, next(iter(datasets.values())), judge))
    return ways


class SwappedPairs(DatasetWrapper):
    """Pairs the other way round: each sample's image is its counterpart's."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self.channels, self.target_channels = dataset.target_channels, dataset.channels

    def __getitem__(self, index: int) -> Sample:
        sample = self._dataset[index]
        assert sample.target is not None
        return replace(sample, image=sample.target, target=sample.image)


def _judged(metric: TranslationMetric, results: list[dict[str, Any]], folder: Path, label: str) -> dict[str, Any]:
    _write_csv(results, folder / f"{label}-translation.csv")
    return metric.compute_metrics(results)


def _write_csv(results: Sequence[dict[str, Any]], path: Path) -> None:
    columns = ["name", *(key for key in MEANS if any(key in result for result in results))]
    with CsvFiles() as files:
        writer = files.begin(path, columns)
        writer.writerows([_cell(result.get(column, "")) for column in columns] for result in results)


def _cell(value: Any) -> Any:
    """Nothing where a value is not defined, as in the files of segmentations."""
    return "" if isinstance(value, float) and math.isnan(value) else value


def _agreement(segmenter: TrainedModel, image: Tensor, mask: Tensor) -> tuple[float, float]:
    """Mean Dice and IoU over the classes but background of what is found in an image ``(1, C, h, w)``."""
    found = to_classes(segmenter.segment(image))[0]
    values = overlap_ratios(count_pixels(found, mask, len(segmenter.domains.class_names)))
    dice, iou = (values[key][1:] for key in ("dice", "iou"))
    if np.isnan(dice).all():
        return float("nan"), float("nan")
    return float(np.nanmean(dice)), float(np.nanmean(iou))
