"""What a run has made so far: networks of earlier stages, and data sets made with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from transeg.core.builders.datasets import build_dataset, dataset_writer
from transeg.core.data.rewriting import write_splits
from transeg.core.distributed.collectives import broadcast_from_first
from transeg.core.experiment.completion import complete_dataset
from transeg.core.experiment.planned_stages import PlannedStage
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.inference.translator import NumberedNames
from transeg.core.interfaces import IGNORE, About, Dataset, Sample
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.core.runs.timings import time_step

COMPLETE = ".complete"
"""A file in a folder that was written to its end."""


class Products:
    """Results of a run's earlier stages.

    Args:
        run: the run's folder.
        planned: its stages by name.
        registry: where components come from.
        device: where networks go.
        console: for progress.

    Attributes:
        registry: where components come from.
        console: for progress.
    """

    def __init__(
        self, run: RunFolder, planned: Mapping[str, PlannedStage], registry: Registry, device: str, console: Console
    ) -> None:
        self.registry = registry
        self.console = console
        self._run = run
        self._planned = planned
        self._device = device

    def trained(self, stage: str) -> TrainedModel:
        """The networks of an earlier stage, in eval mode on the run's device."""
        planned = self._planned[stage]
        stages = dict.fromkeys(planned.stage.trains, planned)
        return TrainedModel.of_stages(self._run, planned.experiment, stages, self.registry, self._device)

    def folder(self, name: str) -> Path:
        """Where a data set of that name is kept."""
        return self._run.path / name

    def rewrite(
        self,
        name: str,
        datasets: Mapping[str, Dataset],
        change: Callable[[Sample], Sample],
        *,
        stage: str,
        doing: str,
        classes: Sequence[str],
        channels: int,
    ) -> dict[str, Dataset]:
        """Data sets with each sample changed, in a folder of the run: written once, and read from then on.

        Args:
            name: of the folder.
            datasets: ``train``, and ``val`` where there is one.
            change: what is done to a sample, whose name begins with its index; it needs a mask afterwards.
            stage: whose results that needs.
            doing: what it is called in progress, and where the run notes how long it took.
            classes: of the changed samples.
            channels: likewise.
        """
        named: dict[str, Any] = {"stage": stage, "doing": doing, "classes": classes, "channels": channels}
        return self.rewrite_splits(name, datasets, lambda sample, _split: change(sample), **named)

    def rewrite_splits(
        self,
        name: str,
        datasets: Mapping[str, Dataset],
        change: Callable[[Sample, str], Sample],
        *,
        stage: str,
        doing: str,
        classes: Sequence[str],
        channels: int,
    ) -> dict[str, Dataset]:
        """As :meth:`rewrite`; what is done to a sample is told its split, too."""
        numbered = {split: NumberedNames(dataset) for split, dataset in datasets.items()}
        about = About(tuple(classes), channels, name)

        def make(folder: Path) -> None:
            writer = dataset_writer("folder", folder, about, self.registry)
            write_splits(numbered, writer, self.console, doing, change)

        return self.dataset(
            name, make, stage=stage, doing=doing, classes=list(classes), channels=channels, ignore=IGNORE
        )

    def dataset(
        self, name: str, make: Callable[[Path], None], *, stage: str, doing: str, **options: Any
    ) -> dict[str, Dataset]:
        """A data set in a folder of the run: written once, and read from then on.

        Args:
            name: of the folder.
            make: writes the data set into the folder, in the layout that the data set `folder` reads. It is called on
                every rank, and again where it was interrupted: what is there already it leaves as it is.
            stage: whose results it is made with.
            doing: what that is called where the run notes how long it took.
            options: of the data set `folder`.

        Returns:
            ``train`` and ``val``, or ``all``, whichever it has.
        """
        folder = self.folder(name)
        complete = folder / COMPLETE
        if not broadcast_from_first(complete.exists):
            with time_step(self._run, self._run.part(self._planned[stage].folder), doing):
                make(folder)
                broadcast_from_first(complete.touch)
        return self._read(folder, options)

    def _read(self, folder: Path, options: Mapping[str, Any]) -> dict[str, Dataset]:
        splits = ("all",) if "split" in options or not (folder / "train").is_dir() else ("train", "val")
        found = {}
        for split in splits:
            table = {**options, "name": "folder", "root": folder, "split": split}
            dataset = build_dataset(complete_dataset(table, "source", self.registry), "source", self.registry)
            if len(dataset):
                found[split] = dataset
        return found
