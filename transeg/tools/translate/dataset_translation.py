"""Datasets carried into another domain with their labels, in any layout that can be written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from transeg.core.builders.datasets import build_splits, dataset_writer
from transeg.core.claims import check_made_alike
from transeg.core.data.rewriting import write_splits
from transeg.core.data.splits import SPLITS
from transeg.core.device import pick_device
from transeg.core.distributed.collectives import broadcast_from_first, join_ranks, rank_device
from transeg.core.errors import Failures, UsageError
from transeg.core.evaluation.judge import Judge
from transeg.core.evaluation.label_survival import LabelSurvival
from transeg.core.evaluation.label_table import LabelTable, describe_labels
from transeg.core.experiment.command_line import parse_dataset
from transeg.core.experiment.schema import QualityOptions
from transeg.core.files import write_json
from transeg.core.inference.translator import Translator, translation_seed
from transeg.core.interfaces import About, Dataset, Sample
from transeg.core.registry import Registry

MANIFEST = "translation.json"
"""Says by which run a folder was made, and what in it came from where."""
LABELS = "labels.csv"
"""Says of each image how far it was shifted against its label, and how well that is found again."""


def translate_labelled_data(
    run: Path,
    data: str,
    registry: Registry,
    console: Console,
    *,
    out: Path,
    layout: str,
    split: str | None,
    assignments: Sequence[str],
    window: int | None,
    direction: str | None,
    device: str | None,
    consistency: Path | None,
    failures: Failures,
) -> tuple[int, str]:
    """Translate a dataset; its labels stay as they are, and :data:`LABELS` says how well they still fit.

    Images keep their size, type and scale of intensities. What is in the folder already stays, so that an interrupted
    translation goes on; processes that torchrun starts share the images.

    Args:
        run: the folder of the run whose generator translates.
        data: a dataset as on the command line.
        registry: where components come from.
        console: for progress.
        out: where to; it also gets :data:`MANIFEST`.
        layout: name of the dataset in whose layout it is written.
        split: the only one that is translated; None for all, each into its own.
        assignments: options of the dataset.
        window: see :meth:`transeg.core.inference.trained_model.TrainedModel.inference`.
        direction: of the translation; None for source to target.
        device: where the generator goes; None for a GPU where there is one.
        consistency: a run whose segmenter should find the labels in the translations; None for none.
        failures: get the images that cannot be read; the others are translated all the same.

    Returns:
        How many images there are now, and what is to be said of their labels.

    Raises:
        UsageError: something does not fit, or the folder holds something else.
    """
    table = parse_dataset(data, registry, assignments)
    join_ranks()
    place = rank_device(torch.device(pick_device(device or "auto")))
    translator = Translator.load(run, registry, str(place), direction=direction, window=window)
    if translator.trained.given.by_mask:
        raise UsageError(f"The generator of {run} is given label maps; see `toolkit synthesize`.")
    parts = build_splits(table, registry, data, (split,) if split else SPLITS)
    _check(parts, translator, data)
    made_by = {
        "run": str(run.resolve()),
        "iteration": translator.trained.iteration,
        "direction": direction or "source-to-target",
        "window": translator.inference.window,
        "dataset": data,
        "options": sorted(assignments),
        "layout": layout,
        "consistency": None if consistency is None else str(consistency.resolve()),
    }
    some = next(iter(parts.values()))
    judge = Judge.from_options(QualityOptions(segmenter=consistency), len(some.classes), registry, place).segmenter
    about = About(some.classes, translator.makes, out.name, _domain(translator))
    writer = dataset_writer(layout, out, about, registry)
    labels = LabelTable(out / LABELS)
    broadcast_from_first(lambda: _claim(out, made_by, labels))

    def translated(sample: Sample, split: str) -> Sample:
        image = translator(sample.image, sample.name)
        labels.add(split, sample.name, LabelSurvival.of(sample.image, image, sample.mask, judge))
        return replace(sample, image=image, target=None, depth=None)

    written = write_splits(parts, writer, console, "translating", translated, failures)
    samples = {
        f"{s.split}/{s.name}": {"split": s.split, "name": s.name, "group": s.group, "seed": translation_seed(s.name)}
        for s in sorted(written, key=lambda s: (s.split, s.name))
    }
    broadcast_from_first(lambda: write_json(out / MANIFEST, {**made_by, "samples": samples}))
    broadcast_from_first(labels.finish)
    return len(written), describe_labels(labels.read())


def _domain(translator: Translator) -> str:
    """The domain of what is made, where the run's data name one."""
    data = translator.trained.experiment.data
    choice = data.source if translator.backwards else data.target
    return (choice.domain if choice is not None else None) or ""


def _check(parts: dict[str, Dataset], translator: Translator, data: str) -> None:
    if not parts:
        raise UsageError(f"The dataset {data} has no image in these splits; choose another with --split.")
    for dataset in parts.values():
        if dataset.channels != translator.takes:
            raise UsageError(
                f"{data} has images of {dataset.channels} channels, but the generator takes {translator.takes}; "
                f"datasets with the option take --set channels={translator.takes}."
            )


def _claim(out: Path, made_by: dict[str, Any], labels: LabelTable) -> None:
    """Note in a folder what it is made by, unless it is there already, and begin its table.

    Raises:
        UsageError: it holds something else.
    """
    found = check_made_alike(out / MANIFEST, "translation", made_by)
    if not found:
        write_json(out / MANIFEST, {**made_by, "samples": {}})
    labels.begin()
