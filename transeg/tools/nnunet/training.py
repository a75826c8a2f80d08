"""Trains nnU-Net on a dataset of ours, fold by fold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from transeg.core.builders.datasets import build_dataset, dataset_writer
from transeg.core.data.rewriting import write_splits
from transeg.core.data.splits import SPLITS, group_k_fold
from transeg.core.data.writing import file_name
from transeg.core.device import available_cores, pick_device
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import TransegError, UsageError
from transeg.core.evaluation.measurement import measure_masks
from transeg.core.experiment.command_line import parse_dataset
from transeg.core.experiment.completion import complete_dataset
from transeg.core.files import read_json, write_json
from transeg.core.interfaces import About, Dataset, Written
from transeg.core.optional_packages import require
from transeg.core.registry import Registry
from transeg.tools.nnunet.workspace import NUMBER, PLANS, Workspace

FOLDS = 5
EPOCH = re.compile(r": Epoch \d+\s*$")
"""The line with which nnU-Net begins an epoch."""


def train_nnunet(
    data: str,
    registry: Registry,
    console: Console,
    *,
    out: Path,
    assignments: Sequence[str],
    planner: str,
    configuration: str,
    wanted: Sequence[str],
    epochs: int,
    iterations: int,
    device: str | None,
) -> dict[str, Any]:
    """Train nnU-Net on a dataset; what is there already stays, so that an interrupted training goes on.

    Args:
        data: a dataset as on the command line; its training and validation images are divided into folds.
        registry: where it comes from.
        console: for progress.
        out: gets nnU-Net's folders, its logs, and in ``measured/`` a CSV file for each fold.
        assignments: options of the dataset.
        planner: a key of :data:`PLANS`.
        configuration: which of the plans.
        wanted: numbers of folds, or ``all`` for a training on all images.
        epochs: of nnU-Net.
        iterations: in each epoch.
        device: None for a GPU where there is one.

    Returns:
        The table of each fold's validation images, by its name.

    Raises:
        UsageError: nnU-Net is not installed, there is no such fold, or the folder holds something else.
        TransegError: nnU-Net failed.
    """
    require("nnunetv2", "nnunet", "`toolkit nnunet`")
    where = pick_device(device or "auto")
    table = parse_dataset(data, registry, assignments)
    choices = {split: complete_dataset({**table, "split": split}, "source", registry) for split in SPLITS}
    parts = {split: build_dataset(choice, "source", registry) for split, choice in choices.items()}
    _check(parts, data)
    space = Workspace(out, re.sub(r"\W", "", table["name"]))
    space.claim({"dataset": data, "options": sorted(assignments)})
    divided = _divide(_export(parts, space, registry, console))
    unknown = [fold for fold in wanted if fold != "all" and int(fold) >= len(divided)]
    if unknown:
        raise UsageError(
            f"There is no fold {unknown[0]}: the images have {len(divided)} folds, 0 to {len(divided) - 1}; groups of "
            "images are not cut."
            if divided
            else f"{data} has one group of images, which is not cut into folds; say --fold all."
        )
    _prepare(space, planner, configuration, divided, console)
    for fold in wanted:
        _train_fold(space, planner, configuration, fold, epochs, iterations, where, console)
    return _measured(space, planner, configuration, wanted, registry)


def _check(parts: dict[str, Dataset], data: str) -> None:
    for dataset in parts.values():
        if dataset.faults:
            raise UsageError(f"{dataset.faults[0].reason} See all with: toolkit data verify {data}")
    if not len(parts["train"]):
        raise UsageError(f"The dataset {data} has no image to train on.")


def _export(parts: dict[str, Dataset], space: Workspace, registry: Registry, console: Console) -> list[Written]:
    """Write the dataset as nnU-Net reads it; what is there already stays."""
    some = parts["train"]
    writer = dataset_writer("nnunet", space.raw, About(some.classes, some.channels, space.raw.name), registry)
    return write_splits(parts, writer, console, "exporting")


def _divide(samples: Sequence[Written]) -> list[dict[str, list[str]]]:
    """What nnU-Net's ``splits_final.json`` says: no group is cut."""
    used = sorted((sample for sample in samples if sample.split != "test"), key=lambda sample: sample.name)
    cases = [file_name(sample.name) for sample in used]
    return [
        {"train": [case for i, case in enumerate(cases) if i not in kept], "val": [cases[i] for i in kept]}
        for kept in group_k_fold([sample.group for sample in used], FOLDS)
    ]


def _prepare(
    space: Workspace,
    planner: str,
    configuration: str,
    divided: list[dict[str, list[str]]],
    console: Console,
) -> None:
    """Integrity check, plans and preprocessing, once for each planner and configuration."""
    done = read_json(space.prepared) if space.prepared.exists() else []
    if [planner, configuration] not in done:
        with progress_bar(console, "checking, planning and preprocessing", 1, "step") as advance:
            space.run(
                "prepare",
                "prepare",
                "",
                lambda _: None,
                number=NUMBER,
                planner=planner,
                configuration=configuration,
                processes=min(8, available_cores()),
            )
            advance()
        plans = space.preprocessed / f"{PLANS[planner]}.json"
        known = list(read_json(plans)["configurations"])
        if configuration not in known:
            raise UsageError(
                f"nnU-Net planned no configuration {configuration!r}; there are: {', '.join(known)}. Add one of your "
                f"own to {plans} and repeat the command."
            )
        write_json(space.prepared, [*done, [planner, configuration]])
    if divided:
        write_json(space.splits, divided)


def _train_fold(
    space: Workspace,
    planner: str,
    configuration: str,
    fold: str,
    epochs: int,
    iterations: int,
    device: str,
    console: Console,
) -> None:
    place = _place(space, planner, configuration, fold)
    last = "checkpoint_final.pth" if fold == "all" else "validation/summary.json"
    if (place / last).exists():
        console.print(f"fold {fold} is trained already")
        return
    with progress_bar(console, f"training fold {fold}", epochs, "epochs") as advance:
        space.run(
            "train",
            f"fold_{fold}",
            device.partition(":")[2],
            lambda line: advance() if EPOCH.search(line) else None,
            number=NUMBER,
            plans=PLANS[planner],
            configuration=configuration,
            fold=fold if fold == "all" else int(fold),
            device=device.partition(":")[0],
            epochs=epochs,
            iterations=iterations,
            checkpoints=[str(path) for path in sorted(place.glob("checkpoint_*.pth"))],
        )


def _place(space: Workspace, planner: str, configuration: str, fold: str) -> Path:
    return space.results / f"nnUNetTrainer__{PLANS[planner]}__{configuration}" / f"fold_{fold}"


def _measured(
    space: Workspace, planner: str, configuration: str, wanted: Sequence[str], registry: Registry
) -> dict[str, Any]:
    """The validation images of each fold that kept some back, as nnU-Net segmented them."""
    table: dict[str, Any] = {}
    for fold in wanted:
        if fold == "all":
            continue
        truth = {"name": "nnunet", "root": space.raw, "split": "val", "splits": str(space.splits), "fold": int(fold)}
        dataset = build_dataset(complete_dataset(truth, "test", registry), "test", registry)
        masks = _place(space, planner, configuration, fold) / "validation"
        if not masks.is_dir():
            raise TransegError(f"nnU-Net left no {masks}, so fold {fold} cannot be measured.")
        values = range(len(dataset.classes))
        table |= measure_masks(masks, {f"fold_{fold}": dataset}, space.path / "measured", values=values)
    return table
