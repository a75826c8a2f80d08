"""One stage of a run: its trainings, each in a folder of its own, and what its folds are worth alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from rich.console import Console
from torch import Tensor, nn

from transeg.core.builders.folds import mean_over_folds
from transeg.core.device import release_memory
from transeg.core.distributed.collectives import broadcast_from_first
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.evaluation.measurement import measure_segmenter
from transeg.core.evaluation.metrics.image_metrics import image_metrics
from transeg.core.experiment.choices import Choice
from transeg.core.experiment.identity import Identity
from transeg.core.experiment.planned_stages import PlannedStage, fold_names
from transeg.core.experiment.schema import Experiment
from transeg.core.files import write_text
from transeg.core.inference.trained_model import TrainedModel, stage_weights, trained_weights
from transeg.core.interfaces import Dataset, NetworkKind, Strategy
from transeg.core.pipeline.products import Products
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.core.runs.timings import time_step
from transeg.core.training.build import Build
from transeg.core.training.parts import Networks, Parts
from transeg.core.training.train import Training, train


@dataclass(frozen=True)
class StageRun:
    """Trains a stage.

    Args:
        run: the whole run's folder.
        planned: the stage.
        title: what its progress is called.
        strategy: whose data, validation and task it has.
        networks: of the run, as they are when nothing has been trained.
        ready: those of them that no stage has taken yet, each with its choice.
        products: results of earlier stages.
        stages: all of the run, by name.
        registry: where components come from.
        console: for progress.
        resume: whether to go on from checkpoints.
        hooks: makes those that are added to its trainings.
        shared: keeps equal trainings of other runs waiting, by the identity of the stage.
    """

    run: RunFolder
    planned: PlannedStage
    title: str
    strategy: Strategy
    networks: Networks
    ready: dict[NetworkKind, tuple[Choice | None, nn.Module]]
    products: Products
    stages: Mapping[str, PlannedStage]
    registry: Registry
    console: Console
    resume: bool
    hooks: Callable[[PlannedStage], Sequence[Hook]]
    shared: Callable[[Identity], AbstractContextManager[None]]

    @property
    def folder(self) -> RunFolder:
        """The stage's own."""
        return self.run.part(self.planned.folder)

    def learn(self, parts: Parts, identity: Identity) -> dict[str, Any] | None:
        """Train the networks; or a segmenter for each fold, each in its own folder, and say what each is worth alone.

        Args:
            parts: the stage's data sets.
            identity: of the stage.

        Returns:
            None without folds; else what each fold's segmenter reaches on the tests and on what it held out, and what
            they do on average.
        """
        experiment, title = self.planned.experiment, self.title
        if not self.planned.folds or parts.held is None:
            with self.shared(identity):
                self._train(experiment, parts, self.folder, identity, title)
            self._note(self.folder, experiment)
            return None
        single = experiment.model_copy(update={"folds": None})
        each: dict[str, dict[str, Any]] = {}
        for number, name in enumerate(fold_names(len(parts.held))):
            place, own = self.folder.part(name), parts.fold(number)
            held_out = replace(identity, options={**identity.options, "held out": f"{number + 1} of {len(parts.held)}"})
            self._train(single, own, place, held_out, f"{title}, {name} of {len(parts.held)}")
            self._note(place, single)
            trained = TrainedModel.load(place, self.registry, experiment.device)
            assert own.source is not None
            assert own.val is not None
            tests = {**own.tests, "held-out": own.val}
            measured = measure(trained, tests, self.run, place, self.registry, self.console, f"testing {name}")
            each[name] = {"best_iteration": trained.iteration, "images": len(own.source), "tests": measured}
        self._note(self.folder, experiment)
        return {"each": each, "mean": mean_over_folds([fold["tests"] for fold in each.values()])}

    def _train(self, experiment: Experiment, parts: Parts, folder: RunFolder, identity: Identity, title: str) -> None:
        """Train once, and leave no optimizer or average of it in memory, and no network on a GPU."""
        train(
            self._training(experiment, parts, folder, identity, title),
            self.console,
            resume=self.resume,
            extra_hooks=self.hooks(self.planned),
        )
        for network in self.networks.by_kind().values():
            network.cpu()  # the run began with it, and keeps it
        release_memory()

    def _training(
        self, experiment: Experiment, parts: Parts, folder: RunFolder, identity: Identity, title: str
    ) -> Training:
        stage = self.planned.stage
        ready = {} if self.planned.folds else self.ready  # each fold needs a network of its own
        build = Build(experiment, parts.domains, self.registry, self.networks.teachers, self._begins(), ready)
        validations = self.strategy.validation(stage, parts, self.products) if "segmenter" in stage.trains else []
        judge = self.networks.judge if "generator" in stage.trains else None
        return Training(
            experiment=experiment,
            stage=stage,
            strategy=self.strategy,
            parts=parts,
            validations=validations,
            build=build,
            judge=judge,
            image_metrics=image_metrics(self.registry, validation=True),
            identity=identity,
            folder=folder,
            run=self.run,
            title=title,
            later=self._later(folder),
        )

    def _later(self, folder: RunFolder) -> int:
        """Iterations of all trainings of the run that come after the one in a folder."""
        trainings = [
            (self.run.part(name).path, planned.experiment.train.iterations)
            for planned in self.stages.values()
            for name in planned.trainings()
        ]
        places = [path for path, _ in trainings]
        return sum(iterations for _, iterations in trainings[places.index(folder.path) + 1 :])

    def _begins(self) -> dict[NetworkKind, Callable[[], Mapping[str, Tensor]]]:
        """What reads the weights that networks begin with."""
        found: dict[NetworkKind, Callable[[], Mapping[str, Tensor]]] = {}
        for network, (place, kind) in self.planned.stage.begins.items():
            if isinstance(place, Path):
                found[network] = partial(trained_weights, RunFolder(place), kind, self.registry)
            else:
                found[network] = partial(stage_weights, self.run, self.stages[place], kind)
        return found

    def _note(self, folder: RunFolder, experiment: Experiment) -> None:
        """Write down the experiment of a training, without which its checkpoints cannot be loaded."""
        if folder.path != self.run.path:
            broadcast_from_first(lambda: write_text(folder.experiment, experiment.to_toml()))


def measure(
    trained: TrainedModel,
    tests: Mapping[str, Dataset],
    run: RunFolder,
    part: RunFolder,
    registry: Registry,
    console: Console,
    title: str,
) -> dict[str, Any]:
    """What a segmenter reaches on test sets, written down in the folder of its training.

    Args:
        trained: the networks; without a segmenter, nothing is measured.
        tests: by name.
        run: the whole run's folder.
        part: the training's.
        registry: where metrics of plugins come from.
        console: for progress.
        title: of the progress.
    """
    if not tests or trained.segmenter is None:
        return {}
    total = sum(len(dataset) for dataset in tests.values())
    with progress_bar(console, title, total) as advance, time_step(run, part, "testing"):
        inference, counting = trained.inference(), trained.counting()
        return measure_segmenter(
            trained,
            tests,
            part.evaluation,
            inference,
            advance,
            registry,
            counting,
            adaptation=trained.experiment.test_adaptation,
        )
