"""Pictures of a ladder: the same images in a row for each rung, so that rungs are compared by eye."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from transeg.core.builders.datasets import build_nonempty, normalise_stain
from transeg.core.data.images import resize
from transeg.core.device import keep_freed_memory, pick_device
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import TransegError, UsageError
from transeg.core.experiment.schema import Experiment
from transeg.core.inference.trained_model import TrainedModel, stored_experiment
from transeg.core.inference.visualization import to_picture
from transeg.core.interfaces import Sample
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.tools.report.cases import rank_cases, segment_sample, shown_pixels, source_images, translate_sample
from transeg.tools.report.pictures import (
    Picture,
    css_colours,
    encode_picture,
    errors_shown,
    paint_classes,
    paint_errors,
)
from transeg.tools.report.record import Scores, read_scores

Row = list[tuple[Picture, str]]
"""Pictures, with what is said below each."""


@dataclass(frozen=True)
class RungGallery:
    """The pictures of one test set.

    Attributes:
        label: of the test set.
        given: the images as they are.
        truth: they, with what is true.
        rungs: what each rung makes of them, in the same places.
    """

    label: str
    given: Row
    truth: Row
    rungs: dict[str, Row]

    @property
    def columns(self) -> int:
        """The number of pictures in the longest row."""
        return len(self.given)


@dataclass(frozen=True)
class LadderPictures:
    """All pictures of a ladder.

    Attributes:
        galleries: one for each test set.
        legend: CSS colours by what they stand for.
        missing: why there are none, in a sentence; '' where there are some.
    """

    galleries: list[RungGallery]
    legend: dict[str, str]
    missing: str


@dataclass(frozen=True)
class _Shown:
    """A test image: its rank, and the Dice of each rung on it."""

    rank: str
    sample: Sample
    dice: dict[str, float]


def ladder_pictures(
    runs: Mapping[str, Path], registry: Registry, console: Console, device: str | None
) -> LadderPictures:
    """Put a few images through the best checkpoint of each rung: of each test set the worst, the median and the best
    by the mean over rungs, so that no rung is favoured; beside them a source image, where a rung translates it.

    Args:
        runs: a run folder of each rung.
        registry: where components come from.
        console: for progress.
        device: where the networks go; None for a GPU where there is one.

    Raises:
        UsageError: there is no such device.
    """
    if not runs:
        return LadderPictures([], {}, "No rung is done yet.")
    place = pick_device(device or "auto")
    if place == "cpu":
        keep_freed_memory()
    try:
        return _pictures(runs, registry, console, place)
    except (TransegError, OSError) as error:
        return LadderPictures([], {}, f"No image can be shown: {error}")


def _pictures(runs: Mapping[str, Path], registry: Registry, console: Console, device: str) -> LadderPictures:
    experiment = stored_experiment(RunFolder(next(iter(runs.values()))), registry)
    scores = {name: read_scores(path) for name, path in runs.items()}
    labels = [label for label in experiment.data.test if all(label in each for each in scores.values())]
    if not labels:
        return LadderPictures([], {}, "No test set is there that all rungs were measured on.")
    shown = {
        label: _chosen({name: each[label] for name, each in scores.items()}, experiment, label, registry)
        for label in labels
    }
    sources = source_images(experiment, registry)
    source = sources[len(sources) // 2]
    rungs: dict[str, dict[str, Row]] = {label: {} for label in labels}
    translates, classes = False, 2
    with progress_bar(console, "drawing", len(runs), "rungs") as advance:
        for name, path in runs.items():
            trained = TrainedModel.load(RunFolder(path), registry, device)
            classes = len(trained.domains.class_names)
            for label, images in shown.items():
                rungs[label][name] = [_predicted(trained, name, each) for each in images]
            if trained.generator is not None:
                translates = True
                rungs[labels[0]][name].append(_translated(trained, name, source))
            advance()
    galleries = []
    for label, images in shown.items():
        given, truth = _given(images)
        if translates and label == labels[0]:
            _add_source(given, truth, source)
        galleries.append(RungGallery(label, given, truth, rungs[label]))
    return LadderPictures(galleries, css_colours(errors_shown(classes - 1)), "")


def _chosen(scores: Mapping[str, Scores], experiment: Experiment, label: str, registry: Registry) -> list[_Shown]:
    """The worst, the median and the best image by the mean over rungs."""
    dice = {name: dict(zip(each.names, each.values["dice"].tolist(), strict=True)) for name, each in scores.items()}
    first = next(iter(scores.values()))
    names = [name for name in first.names if all(name in each for each in dice.values())]
    mean = np.array([[each[name] for each in dice.values()] for name in names]).mean(axis=1)
    dataset = normalise_stain(build_nonempty(experiment.data.test[label], "test", registry, label), experiment.data)
    found = []
    for rank, place in rank_cases(mean, names, 1):
        name = names[place]
        index = first.names.index(name)
        sample = dataset[index] if index < len(dataset) else None
        if sample is None or sample.name != name or sample.mask is None:
            raise UsageError(f"the test set {label} no longer has its image {name} where it was measured")
        found.append(_Shown(rank, sample, {rung: each[name] for rung, each in dice.items()}))
    return found


def _given(images: Sequence[_Shown]) -> tuple[Row, Row]:
    """The images as they are, and with what is true."""
    given: Row = []
    truth: Row = []
    for each in images:
        name, pixels, mask = each.sample.name, shown_pixels(each.sample.image), each.sample.mask
        assert mask is not None
        given.append((encode_picture(pixels, f"{name}, the image"), f"{each.rank}: {name}" if each.rank else name))
        truth.append((encode_picture(paint_classes(pixels, mask), f"{name} with the true outlines"), "truth"))
    return given, truth


def _add_source(given: Row, truth: Row, source: Sample) -> None:
    pixels = shown_pixels(source.image)
    given.append((encode_picture(pixels, f"{source.name}, a source image"), f"source: {source.name}"))
    if source.mask is not None:
        painted = paint_classes(pixels, source.mask)
        truth.append((encode_picture(painted, f"{source.name} with its labels"), "labels of the source image"))


def _predicted(trained: TrainedModel, rung: str, shown: _Shown) -> tuple[Picture, str]:
    sample = shown.sample
    assert sample.mask is not None
    painted = paint_errors(shown_pixels(sample.image), segment_sample(trained, sample), sample.mask)
    return encode_picture(painted, f"{sample.name}, prediction of {rung}"), f"Dice {shown.dice[rung]:.3f}"


def _translated(trained: TrainedModel, rung: str, source: Sample) -> tuple[Picture, str]:
    made = resize(to_picture(translate_sample(trained, source)), *source.size)
    return encode_picture(made, f"{source.name}, translated by {rung}"), "source, translated"
