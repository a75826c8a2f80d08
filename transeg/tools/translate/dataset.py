"""Datasets carried into another domain with their labels, in any layout that can be written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from transeg.core.builders.datasets import build_dataset, dataset_writer
from transeg.core.data.splits import SPLITS
from transeg.core.device import pick_device
from transeg.core.distributed.collectives import from_first, join_ranks, rank_device
from transeg.core.distributed.progress import bar
from transeg.core.errors import UsageError
from transeg.core.experiment.command_line import parse_dataset
from transeg.core.experiment.completion import complete_dataset
from transeg.core.experiment.settings import merge, parse_assignment
from transeg.core.files import read_json, write_json
from transeg.core.inference.translator import Translator, seed_of, translate_dataset
from transeg.core.interfaces import About, Dataset, Sample
from transeg.core.registry import Registry

MANIFEST = "translation.json"
"""Says by which run a folder was made, and what in it came from where."""


def translate_data(
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
) -> int:
    """Translate a dataset; its labels stay as they are.

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
        window: see :meth:`transeg.core.inference.trained.Trained.inference`.
        direction: of the translation; None for source to target.
        device: where the generator goes; None for a GPU where there is one.

    Returns:
        How many images there are now.

    Raises:
        UsageError: something does not fit, or the folder holds something else.
    """
    table = parse_dataset(data, registry)
    for assignment in assignments:
        table = merge(table, parse_assignment(assignment))
    join_ranks()
    place = rank_device(torch.device(pick_device(device or "auto")))
    translator = Translator.load(run, registry, str(place), direction=direction, window=window)
    if translator.trained.given.by_mask:
        raise UsageError(f"The generator of {run} is given label maps; see `toolkit synthesize`.")
    wanted = (split,) if split else SPLITS
    parts = {
        name: build_dataset(complete_dataset({**table, "split": name}, "source", registry), "source", registry)
        for name in wanted
    }
    parts = {name: dataset for name, dataset in parts.items() if len(dataset)}
    _check(parts, translator, data)
    made_by = {
        "run": str(run.resolve()),
        "iteration": translator.trained.iteration,
        "direction": direction or "source-to-target",
        "window": translator.inference.window,
        "dataset": data,
        "options": sorted(assignments),
        "layout": layout,
    }
    from_first(lambda: _claim(out, made_by))
    some = next(iter(parts.values()))
    about = About(some.classes, translator.makes, out.name, _domain(translator))
    writer = dataset_writer(layout, out, about, registry)

    def translated(sample: Sample) -> Sample:
        return replace(sample, image=translator(sample.image, sample.name), target=None, depth=None)

    with bar(console, "translating", sum(map(len, parts.values()))) as advance:
        written = translate_dataset(translated, parts, writer, advance)
    samples = {
        f"{s.split}/{s.name}": {"split": s.split, "name": s.name, "group": s.group, "seed": seed_of(s.name)}
        for s in sorted(written, key=lambda s: (s.split, s.name))
    }
    from_first(lambda: write_json(out / MANIFEST, {**made_by, "samples": samples}))
    return len(written)


def _domain(translator: Translator) -> str:
    """The domain of what is made, where the run's data name one."""
    data = translator.trained.experiment.data
    choice = data.source if translator.backwards else data.target
    return (choice.domain if choice is not None else None) or ""


def _check(parts: dict[str, Dataset], translator: Translator, data: str) -> None:
    if not parts:
        raise UsageError(f"The dataset {data} has no image in these splits; choose another with --split.")
    for dataset in parts.values():
        if dataset.faults:
            raise UsageError(f"{dataset.faults[0].reason} See all with: toolkit data verify {data}")
        if dataset.channels != translator.takes:
            raise UsageError(
                f"{data} has images of {dataset.channels} channels, but the generator takes {translator.takes}; "
                f"datasets with the option take --set channels={translator.takes}."
            )


def _claim(out: Path, made_by: dict[str, Any]) -> None:
    """Note in a folder what it is made by, unless it is there already.

    Raises:
        UsageError: it holds something else.
    """
    if (out / MANIFEST).exists():
        found = read_json(out / MANIFEST)
        differs = [key for key, value in made_by.items() if found.get(key) != value]
        if differs:
            key = differs[0]
            raise UsageError(
                f"{out} holds another translation: its {key} is {found.get(key)}, not {made_by[key]}; "
                "choose another folder with --out."
            )
    elif out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty and holds no translation; choose another folder with --out.")
    else:
        write_json(out / MANIFEST, {**made_by, "samples": {}})
