"""How good a generator's images are: during training, and on test sets."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from rich.console import Console
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from transeg.core.conditions import Conditioning
from transeg.core.data.images import resize, unit_range
from transeg.core.data.stream import to_tensor
from transeg.core.errors import UsageError
from transeg.core.evaluation import in_order
from transeg.core.experiment import QualityOptions
from transeg.core.features import Features, feature_network, perceptual_distance
from transeg.core.forward import classes, scaled
from transeg.core.inference import Inference
from transeg.core.interfaces import Dataset, Generator
from transeg.core.metrics.counts import count_pixels, ratios
from transeg.core.metrics.translation import pair_metrics, set_metrics
from transeg.core.progress import bar
from transeg.core.registry import Registry
from transeg.core.run_folder import RunFolder
from transeg.core.trained import Trained

MEANS = ("ssim", "psnr", "lpips", "consistency_dice", "consistency_iou", "consistency_dice_real")
"""Values of single images."""
COMPARED = 1000
"""At most so many images of an unpaired target domain are compared with."""


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
    """

    def __init__(self, dataset: Dataset, given: Conditioning, inference: Inference) -> None:
        self._dataset = dataset
        self._given = given
        self._inference = inference

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> TranslationItem:
        sample = self._dataset[index]
        given = self._given.sample(sample, self._inference)
        counterpart = sample.image if self._given.by_mask else sample.target
        real = None if counterpart is None else to_tensor(_at(given, counterpart))
        mask = None if sample.mask is None else self._inference.prepare_mask(sample.mask).astype(np.int64)
        return TranslationItem(sample.name, given, real, None if mask is None else torch.from_numpy(mask))


def _at(given: Tensor, counterpart: np.ndarray) -> np.ndarray:
    return resize(unit_range(counterpart), *given.shape[1:])


@dataclass(frozen=True)
class Judge:
    """The networks that judge images, as far as the experiment names them.

    Attributes:
        device: where they are.
        features: for FID and KID.
        distance: LPIPS.
        segmenter: a run's segmenter, trained on real images: what it finds in an image made from a label map should be
            that label map.
    """

    device: torch.device
    features: Features | None
    distance: Callable[[Tensor, Tensor], Tensor] | None
    segmenter: Trained | None

    @classmethod
    def from_options(cls, options: QualityOptions, classes: int, registry: Registry, device: torch.device) -> Judge:
        """Load what the options name.

        Raises:
            UsageError: it is not there or does not fit.
            TransegError: it cannot be read.
        """
        segmenter = None
        if options.segmenter is not None:
            segmenter = Trained.load(RunFolder(options.segmenter), registry, str(device))
            known = len(segmenter.domains.class_names)
            if segmenter.segmenter is None or known != classes:
                finds = f"finds {known} classes" if segmenter.segmenter else "trained a generator alone"
                raise UsageError(
                    f"quality.segmenter: the run {options.segmenter} {finds}, but the images have {classes} classes."
                )
        return cls(
            device,
            feature_network(options.features, registry, device) if options.features else None,
            perceptual_distance(options.lpips, device) if options.lpips else None,
            segmenter,
        )


class TranslationMetric(BaseMetric):
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
            real = scaled(item.real, judge.device)[None]
            values |= pair_metrics(image[0], real[0])
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
            table |= set_metrics(torch.stack(made), torch.stack(real))
        table["images"] = len(results)
        return table

    @torch.inference_mode()
    def _reference_features(self) -> Tensor:
        if self._of_reference is None:
            assert self._reference is not None
            assert self._judge.features is not None
            rows = []
            for index in range(min(len(self._reference), COMPARED)):
                image = scaled(self._inference.prepare(self._reference[index].image), self._judge.device)
                rows.append(self._judge.features(image[None])[0].cpu())
            self._of_reference = torch.stack(rows)
        return self._of_reference


def measurable(generator: Generator, options: QualityOptions) -> bool:
    """Whether anything can be said of a generator's images."""
    return generator.paired or options.features is not None or options.segmenter is not None


def judge_translation(
    trained: Trained,
    datasets: Mapping[str, Dataset],
    reference: Dataset | None,
    judge: Judge,
    inference: Inference,
    folder: Path,
    console: Console,
) -> dict[str, Any]:
    """Translate every image of datasets and judge the results.

    Args:
        trained: has the generator.
        datasets: by the name that they have in the table.
        reference: images of the target domain, where the generator learned without pairs.
        judge: what judges.
        inference: how images reach the generator.
        folder: gets a CSV file with a line for each image of each dataset.
        console: for progress.

    Returns:
        See :class:`TranslationMetric`, for each dataset.
    """
    table = {}
    with bar(console, "judging translations", sum(len(dataset) for dataset in datasets.values())) as advance:
        for label, dataset in datasets.items():
            metric = TranslationMetric(judge, reference, inference)
            items = TranslationSet(dataset, trained.given, inference)
            for (item,) in in_order(items, batch_size=1, workers=trained.experiment.data.workers):
                metric.process([item], [inference.run(trained.translate, item.given, trained.device)])
                advance()
            _write_csv(metric.results, folder / f"{label}-translation.csv")
            table[label] = metric.compute_metrics(metric.results)
    return table


def _write_csv(results: Sequence[dict[str, Any]], path: Path) -> None:
    columns = ["name", *(key for key in MEANS if any(key in result for result in results))]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(results)


def _agreement(segmenter: Trained, image: Tensor, mask: Tensor) -> tuple[float, float]:
    """Mean Dice and IoU over the classes but background of what is found in an image ``(1, C, h, w)``."""
    found = classes(segmenter.segment(image))[0].cpu()
    values = ratios(count_pixels(found, mask, len(segmenter.domains.class_names)))
    dice, iou = (values[key][1:] for key in ("dice", "iou"))
    if np.isnan(dice).all():
        return float("nan"), float("nan")
    return float(np.nanmean(dice)), float(np.nanmean(iou))
