"""An exported file beside the networks that it was made of: differences, time, Dice."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from transeg.core.errors import DataError, TransegError
from transeg.core.evaluation.evaluation_items import EvaluationItem
from transeg.core.evaluation.scores import score
from transeg.core.inference.sliding_window import Forward, Inference
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.inference.translator import Translator
from transeg.core.interfaces import Dataset, Noise
from transeg.core.models.forward import translate
from transeg.tools.export.draws import ReplayedNoise
from transeg.tools.export.formats import Run
from transeg.tools.export.graph import Graph
from transeg.tools.export.sample_images import evenly_spaced, share_limit

TOLERANCE = 1e-3
"""How far probabilities or intensities in [0, 1] may be from the original's: a quarter of a grey level of 8 bits."""
MEASURED = 200
"""Labelled images that Dice is measured on at most; evenly spread, where there are more."""
SECONDS, ROUNDS = 3.0, 9
"""For how long, and how often, a network is timed at most."""
SMALLEST = 33
"""Height and width of the smallest image that is compared."""

Inputs = tuple[Tensor, ...]


def reference_run(trained: TrainedModel, translator: Translator | None, graph: Graph) -> Run:
    """The run's networks as `toolkit predict` and `toolkit translate` use them, with the graph's interface."""

    @torch.inference_mode()
    def run(inputs: Sequence[Tensor]) -> Tensor:
        image, *draws = inputs
        x = image * 2 - 1 if translator is None or not graph.by_mask else translator.trained.given.encode(image, None)
        if translator is not None:
            generator = translator.trained.generator
            assert generator is not None
            noise = cast("Noise", ReplayedNoise(graph.draws, tuple(draws))) if draws else None
            (before, after), direction = translator.signs, translator.direction or generator.directions[0]
            x = (after * translate(generator, before * x, direction, noise)).clamp(-1, 1)
        if graph.segmenting is None:
            return (x + 1) / 2
        logits = trained.segment(x)
        return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)

    return run


def comparison_batches(graph: Graph, wholes: Sequence[Tensor], smallest: int) -> list[Inputs]:
    """What is compared: every image as it is, one of odd size, and two together of another odd size.

    Args:
        graph: takes them.
        wholes: images as it takes them, one in each.
        smallest: height and width that it takes.
    """
    height, width = wholes[0].shape[-2:]
    least = max(SMALLEST, smallest)
    sides = [
        (max(least, height // 2 | 1), max(least, width * 3 // 4 | 1)),
        (max(least, height * 3 // 4 | 1), width | 1),
    ]
    pair = wholes[:2] if len(wholes) > 1 else [wholes[0]] * 2
    images = [
        *wholes,
        resize_images(wholes[0], *sides[0]),
        torch.cat([resize_images(image, *sides[1]) for image in pair]),
    ]
    return [(image, *graph.draws.of(torch.arange(len(image)), *image.shape[-2:])) for image in images]


def resize_images(image: Tensor, height: int, width: int) -> Tensor:
    """Images ``(N, C, H, W)`` or label maps ``(N, H, W)`` at another size."""
    if image.dim() == 3:
        return F.interpolate(image[:, None].float(), size=(height, width), mode="nearest-exact")[:, 0].long()
    return F.interpolate(image, size=(height, width), mode="bilinear", antialias=True).clamp(0, 1)


def largest_differences(expected: Run, found: Run, inputs: Sequence[Inputs], what: str) -> list[dict[str, Any]]:
    """The largest difference for each batch, and its size.

    Args:
        expected: the original.
        found: the exported file.
        inputs: what both see.
        what: names the file in errors.

    Raises:
        TransegError: the file does not run, or gives something that is not a number or of another shape.
    """
    rows = []
    for each in inputs:
        count, size = len(each[0]), tuple(each[0].shape[-2:])
        before = expected(each)
        try:
            after = found(each)
        except Exception as error:  # every runtime fails in its own way
            reason = str(error).strip().rpartition("\n")[2][:300] or type(error).__name__
            raise TransegError(
                f"{what} does not run on {count} images of {size[1]}x{size[0]} pixels, so nothing is kept: {reason}"
            ) from error
        if after.shape != before.shape or not after.isfinite().all():
            wrong = "values that are not numbers" if after.shape == before.shape else f"the shape {tuple(after.shape)}"
            raise TransegError(
                f"{what} gives {wrong} for {count} images of {size[1]}x{size[0]} pixels, so nothing is kept."
            )
        gap = float((after - before).abs().max())
        rows.append({"images": count, "height": size[0], "width": size[1], "difference": gap})
    return rows


def check_tolerance(rows: Sequence[Mapping[str, Any]], what: str) -> None:
    """Whether a file agrees with the original.

    Raises:
        TransegError: it does not.
    """
    worst = max(rows, key=lambda row: row["difference"])
    if worst["difference"] > TOLERANCE:
        raise TransegError(
            f"{what} differs from the original by {worst['difference']:.2g} at {worst['width']}x{worst['height']} "
            f"pixels ({worst['images']} at a time); {TOLERANCE:g} is allowed, so nothing is kept."
        )


def median_milliseconds(run: Run, inputs: Inputs) -> float:
    """The median time of one call on this machine, after one that is not counted."""
    run(inputs)
    times: list[float] = []
    while len(times) < ROUNDS and (not times or sum(times) < SECONDS):
        start = time.perf_counter()
        run(inputs)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e3


def mean_dice(
    runs: Mapping[str, Run],
    graph: Graph,
    datasets: Mapping[str, Dataset],
    inference: Inference,
    advance: Callable[[], None],
) -> dict[str, float | None]:
    """Mean Dice over labelled images, of several files on the same images.

    Args:
        runs: by name.
        graph: what all of them compute.
        datasets: labelled ones.
        inference: how images reach the networks.
        advance: called after each image.

    Returns:
        By name; None where it is not defined for any image.
    """
    found: dict[str, list[float]] = {name: [] for name in runs}
    for dataset, count in share_limit(datasets, MEASURED):
        for sample in evenly_spaced(dataset, count):
            if sample.mask is None:
                raise DataError(f"{sample.name} has no mask, so nothing can be measured on it.")
            mask = torch.from_numpy(sample.mask.astype(np.int64))
            item = EvaluationItem(sample.name, sample.group, inference.prepare(sample.image), mask)
            for name, run in runs.items():
                logits = inference.run(_logits(run, graph), item.image, torch.device("cpu"))
                found[name].append(score(item, logits).values["dice"])
            advance()
    means = {name: [value for value in values if not math.isnan(value)] for name, values in found.items()}
    return {name: float(np.mean(values)) if values else None for name, values in means.items()}


def _logits(run: Run, graph: Graph) -> Forward:
    """Probabilities turned back, so that they are resized and blended as the run's own results are."""

    def forward(image: Tensor, _places: Tensor | None) -> Tensor:
        seeds = torch.zeros(len(image), dtype=torch.long)
        found = run(((image + 1) / 2, *graph.draws.of(seeds, *image.shape[-2:])))
        return found.logit(1e-6) if found.shape[1] == 1 else found.clamp_min(1e-12).log()

    return forward
