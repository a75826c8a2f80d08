"""Whether the files and folders that an experiment names exist, asked before anything slow begins."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from transeg.core.data.unread_endings import describe_unread
from transeg.core.errors import UsageError
from transeg.core.experiment.choices import DatasetChoice
from transeg.core.experiment.schema import Experiment
from transeg.core.registry import Registry


def check_paths(experiment: Experiment, registry: Registry) -> None:
    """Whether everything that an experiment reads from exists.

    Raises:
        UsageError: a file or folder does not; the sentence names the option.
    """
    data = experiment.data
    for choice in (data.source, data.target, data.synthetic, data.val, *data.test.values()):
        if choice is not None:
            dataset_root(choice, registry)
    for option, path in _files(experiment):
        if not path.is_file():
            raise UsageError(f"There is no file {path} ({option}).")
    for option, path in _runs(experiment):
        if not (path / "experiment.toml").is_file():
            raise UsageError(f"{option}: {path} is not a run folder: it has no experiment.toml.")


def dataset_root(choice: DatasetChoice, registry: Registry) -> Path | None:
    """The folder of a dataset, or its file where it takes one: its own, or the one of its name in TRANSEG_DATA; None
    where it reads no folder.

    Raises:
        UsageError: it does not exist, or one is named where none is read.
    """
    entry = registry.describe(registry.find("dataset", choice.name))
    if not entry.needs_root:
        if choice.root is not None:
            domains = f"; it has the domains {', '.join(entry.domains)}" if entry.domains else ""
            raise UsageError(
                f"The dataset {choice.name} reads no folder, so {choice.root.name!r} means nothing{domains}."
            )
        return None
    base = os.environ.get("TRANSEG_DATA")
    if choice.root is None and not base:
        raise UsageError(
            f"The dataset {choice.name} needs a folder: say {choice.name}:FOLDER, or set TRANSEG_DATA to the folder "
            f"that holds {choice.name}/."
        )
    root = choice.root or Path(base or "", choice.name)
    if not root.is_dir() and not (entry.takes_file and root.is_file()):
        if root.exists() and (unread := describe_unread(root)):
            raise UsageError(f"{root} {unread}, and name their folder.")
        raise UsageError(f"The folder {root} of the dataset {choice.name} does not exist.")
    return root


def _files(experiment: Experiment) -> Iterator[tuple[str, Path]]:
    """Files by option; artifacts, which are fetched when networks are built, are none."""
    networks = {"generator": experiment.generator, "segmenter": experiment.segmenter}
    if experiment.distillation is not None:
        networks |= {f"distillation.teachers.{key}": each for key, each in experiment.distillation.teachers.items()}
    for name, network in networks.items():
        if network is not None and isinstance(network.weights, Path):
            yield f"{name}.weights", network.weights
    if experiment.data.stain is not None:
        yield "data.stain.reference", experiment.data.stain.reference
    if experiment.quality.lpips is not None:
        yield "quality.lpips", experiment.quality.lpips


def _runs(experiment: Experiment) -> Iterator[tuple[str, Path]]:
    """Run folders by option."""
    teachers = {} if experiment.distillation is None else experiment.distillation.teachers
    for label, teacher in teachers.items():
        if teacher.run is not None:
            yield f"distillation.teachers.{label}", teacher.run
    if experiment.quality.segmenter is not None:
        yield "quality.segmenter", experiment.quality.segmenter
