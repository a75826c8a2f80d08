"""Estimates of the Dice that a run's masks would reach on images without labels; docs/decisions/estimate.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from torch import Tensor

from transeg.core.analysis.csv_files import CsvFiles
from transeg.core.builders.datasets import build_nonempty, normalise_stain, validation_split
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import TransegError, UsageError
from transeg.core.evaluation.evaluation_items import EvaluationSet
from transeg.core.evaluation.expected_dice import Calibration
from transeg.core.evaluation.metrics.counts import mask_dice
from transeg.core.evaluation.statistics import bootstrap_intervals, interval_ends
from transeg.core.files import read_json, write_json
from transeg.core.inference.adaptation import BatchNormAdaptation, evenly
from transeg.core.inference.sliding_window import Inference, resize_result
from transeg.core.inference.trained_model import TrainedModel, trained_identity
from transeg.core.inference.translator import TranslatedDataset, Translator
from transeg.core.interfaces import Dataset
from transeg.core.models.forward import to_classes
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder

HELD_OUT = 64
"""Images at most, evenly among all, that a calibration is learned from."""
DO_NOT_USE, NOTHING = "do not use", "nothing found"


def run_calibration(
    run: RunFolder,
    trained: TrainedModel,
    inference: Inference,
    registry: Registry,
    console: Console,
    *,
    adapting: BatchNormAdaptation | None = None,
    adapt: str = "none",
) -> Calibration:
    """How far to believe a run's segmenter: as ``calibration.json`` of the run says, which is made when it is first
    asked for, and again for another checkpoint or another way to see images.

    Args:
        run: its folder; where nothing can be written into it, nothing is.
        trained: what it has learned.
        inference: how images reach the network.
        registry: where datasets come from.
        console: for progress.
        adapting: adapts the segmenter, here to each group of the held-out images.
        adapt: the name of that.

    Raises:
        UsageError: there are no held-out labelled images, or they cannot be read any more.
    """
    made_for = {
        "training": trained_identity(run, "segmenter", registry) if trained.segmenter is not None else "",
        "iteration": trained.iteration,
        "window": inference.window,
        "flips": inference.flips,
        "adapt": adapt,
    }
    if run.calibration.exists():
        found = read_json(run.calibration)
        if found.get("made_for") == made_for:
            return Calibration(tuple(found["temperatures"]), tuple(found["always"]))
    dataset = held_out_images(trained, run, registry)
    count = min(len(dataset), HELD_OUT)
    with progress_bar(console, "calibrating on held-out images", count) as advance:
        results = held_out_results(trained, dataset, inference, advance, adapting=adapting)
        calibration = Calibration.learn(results)
    with suppress(TransegError):  # somebody else's run: it is made again next time
        write_json(run.calibration, {"made_for": made_for, "images": count, **asdict(calibration)})
    return calibration


def held_out_images(trained: TrainedModel, run: RunFolder, registry: Registry) -> Dataset:
    """The labelled images that a run's segmenter was validated on, as it is trained to see them.

    Raises:
        UsageError: there are none, or they cannot be read any more.
    """
    experiment, data = trained.experiment, trained.experiment.data
    if experiment.folds is not None:
        raise UsageError(
            f"--estimate needs labelled images that the segmenter has not learned from, and those of {run.path} differ "
            "from fold to fold; train without folds."
        )
    try:
        val = build_nonempty(data.val, "val", registry) if data.val else validation_split(data.source, registry)
    except TransegError as error:
        raise UsageError(
            f"--estimate needs the images that {run.path} was validated on, once, and they cannot be read: {error}"
        ) from error
    if val is None:
        raise UsageError(
            f"--estimate needs labelled images that the segmenter has not learned from, and {run.path} has held out "
            "none; say which with --val when you train."
        )
    if data.val is None and trained.generator is not None and not trained.given.by_mask:
        return TranslatedDataset(val, Translator(trained, trained.inference()))  # inverted already, where it is to be
    return normalise_stain(val, data)


def held_out_results(
    trained: TrainedModel,
    dataset: Dataset,
    inference: Inference,
    advance: Callable[[], None] = lambda: None,
    *,
    adapting: BatchNormAdaptation | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits ``(K, H, W)`` of some images of a labelled dataset, and their masks ``(H, W)`` int64."""
    items = EvaluationSet(dataset, inference)
    follow = None if adapting is None else adapting.following(dataset)
    for place in evenly(len(items), HELD_OUT):
        item = items[place]
        if follow is not None:
            follow(item.group)
        logits = inference.run(trained.segment, item.image, trained.device)
        yield resize_result(logits, *item.mask.shape), item.mask
        advance()


def agreement_of_weights(other: TrainedModel, inference: Inference, prepared: Tensor, logits: Tensor) -> float:
    """Mean Dice between two masks of an image: one by its logits ``(K, H, W)``, one by another network.

    Args:
        other: that network.
        inference: how images reach it.
        prepared: the image as :meth:`Inference.prepare` gives it.
        logits: of the first, at the size of the image.
    """
    beside = resize_result(inference.run(other.segment, prepared, other.device), *logits.shape[1:])
    first, second = (to_classes(each[None])[0] for each in (logits, beside))
    return mask_dice(first, second, max(2, len(logits)))


def mean_of_classes(dice: np.ndarray) -> float:
    """The mean over those where it is defined; NaN where it is in none."""
    return math.nan if np.isnan(dice).all() else float(np.nanmean(dice))


class DiceEstimates(CsvFiles):
    """Writes ``estimate.csv``, a line for each image, as images come.

    Args:
        calibration: of the segmenter.
        bound: estimates below it say not to use the mask.
        folder: gets the file.
        names: of the classes, background first.
        inference: how images reach the network.
        other: gives masks that the segmenter's should agree with, see
            :func:`transeg.core.inference.trained_model.with_other_average`; None for no such column.
    """

    def __init__(
        self,
        calibration: Calibration,
        bound: float,
        folder: Path,
        names: Sequence[str],
        inference: Inference,
        other: TrainedModel | None,
    ) -> None:
        super().__init__()
        self._calibration = calibration
        self._bound = bound
        self._inference = inference
        self._other = other
        self._found: list[float] = []
        self._of_classes = len(names) > 2
        of_classes = [f"estimated_dice_{name}" for name in names[1:]] if self._of_classes else []
        beside = [] if other is None else ["agreement"]
        self._writer = self.begin(folder / "estimate.csv", ["image", "estimated_dice", *of_classes, *beside, "verdict"])

    def add(self, image: str, prepared: Tensor, logits: Tensor) -> None:
        """Estimate the Dice of an image's mask.

        Args:
            image: its name.
            prepared: as :meth:`Inference.prepare` gives it.
            logits: ``(K, H, W)``, at its own size.
        """
        of_classes = self._calibration.expected_dice(logits)
        dice = mean_of_classes(of_classes)
        self._found.append(dice)
        shown = [dice, *(of_classes if self._of_classes else [])]
        if self._other is not None:
            shown.append(agreement_of_weights(self._other, self._inference, prepared, logits))
        verdict = NOTHING if math.isnan(dice) else DO_NOT_USE if dice < self._bound else ""
        self._writer.writerow([image, *("" if math.isnan(value) else f"{value:.6f}" for value in shown), verdict])

    def summary(self) -> dict[str, Any]:
        """Of all images.

        Returns:
            ``dice``, the mean of the estimates, and ``ci``, its 95 % bootstrap interval over images, None where nothing
            or too little is found; ``images``; ``nothing_found``, of them; ``below``, how many have an estimate below
            the ``bound``.
        """
        values = np.array(self._found)[:, None]
        dice = mean_of_classes(values)
        ends = bootstrap_intervals(values, [str(number) for number in range(len(values))])[0]
        return {
            "dice": None if math.isnan(dice) else dice,
            "ci": interval_ends(ends),
            "images": len(values),
            "nothing_found": int(np.isnan(values).sum()),
            "below": int((values < self._bound).sum()),
            "bound": self._bound,
        }
