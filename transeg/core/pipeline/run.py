"""A whole run: its stages, one after the other, and what their result is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from rich.console import Console

from transeg.core.builders.few import groups_in
from transeg.core.builders.fingerprints import fingerprint
from transeg.core.distributed.collectives import rank_and_world_size
from transeg.core.errors import TransegError
from transeg.core.evaluation.translation_quality import judge_translation
from transeg.core.experiment.choices import StrategyChoice
from transeg.core.experiment.identity import Identity, identify
from transeg.core.experiment.paths import dataset_root
from transeg.core.experiment.planned_stages import PlannedStage, build_strategy, plan_stages
from transeg.core.experiment.schema import Experiment
from transeg.core.files import write_json, write_text
from transeg.core.inference import visualization
from transeg.core.inference.trained_model import TrainedModel, trained_identity
from transeg.core.interfaces import Dataset
from transeg.core.interfaces.strategies import BASELINE
from transeg.core.pipeline.products import Products
from transeg.core.pipeline.shared_stages import shared_training, training_key
from transeg.core.pipeline.stage import StageRun, measure
from transeg.core.registry import Registry
from transeg.core.runs.environment import describe_environment
from transeg.core.runs.run_folder import RunFolder
from transeg.core.runs.timings import time_step
from transeg.core.training.parts import Networks, Parts
from transeg.core.training.selection import describe_selection
from transeg.core.training.train import InterruptedRunError, preview_samples


@dataclass(frozen=True)
class Run:
    """Trains, tests and compares, all in one folder; each step goes on where an interrupted run left it.

    Args:
        folder: of the run.
        experiment: complete.
        parts: its data sets.
        networks: its networks, as they are when nothing has been trained.
        registry: where components come from.
        console: for progress.
        resume: whether to go on from checkpoints.
        hooks: makes those that are added to the trainings of a stage.
        shared: where runs of a sweep note which trainings they have in common; None for a run by itself.
    """

    folder: RunFolder
    experiment: Experiment
    parts: Parts
    networks: Networks
    registry: Registry
    console: Console
    resume: bool
    hooks: Callable[[PlannedStage], Sequence[Hook]]
    shared: Path | None = None

    def __call__(self) -> dict[str, Any]:
        """Run.

        Returns:
            What ``metrics.json`` holds.

        Raises:
            TransegError: it failed; the message says how to go on where that is possible.
        """
        with self.folder.locked() if rank_and_world_size()[0] == 0 else nullcontext():
            if rank_and_world_size()[0] == 0:
                self.folder.sweep()
                write_text(self.folder.experiment, self.experiment.to_toml())
                write_json(self.folder.environment, describe_environment(self.registry))
                sizes: dict[str, Any] = {"images": self.parts.images(), "parameters": self.networks.sizes()}
                if self.parts.synthetic is not None and self.experiment.data.synthetic_limit:
                    sizes["drawn"] = groups_in(self.parts.synthetic)
                write_json(self.folder.parts, sizes)
                write_json(self.folder.seen, self.parts.seen().stored())
            try:
                metrics = self._stages()
            except TransegError as error:
                if isinstance(error, InterruptedRunError) or self.folder.has_checkpoint():
                    raise type(error)(f"{error} {self.folder.go_on}") from error
                raise
            if rank_and_world_size()[0] == 0:
                write_json(self.folder.metrics, metrics)
            return metrics

    def _stages(self) -> dict[str, Any]:
        """Train every stage, and measure the result."""
        planned = {each.stage.name: each for each in plan_stages(self.experiment, self.registry)}
        products = Products(self.folder, planned, self.registry, self.experiment.device, self.console)
        identities: dict[str, Identity] = {}
        folds: dict[str, Any] | None = None
        held_out: Dataset | None = None
        fingerprints = self._fingerprints()
        ready = {kind: (getattr(self.experiment, kind), built) for kind, built in self.networks.by_kind().items()}
        for name, each in planned.items():
            delegated = each.experiment.strategy if each.stage.strategy else self.experiment.strategy
            strategy = build_strategy(delegated, self.registry)
            identities[name] = self._identity(each, identities, fingerprints)
            self._note(planned, identities)
            parts = strategy.data(each.stage, self.parts.named_by(each.experiment.data), products)
            stage = StageRun(
                run=self.folder,
                planned=each,
                title=each.stage.title or (self.experiment.strategy.name if each.folder == "." else name),
                strategy=strategy,
                networks=self.networks,
                ready=ready,
                products=products,
                stages=planned,
                registry=self.registry,
                console=self.console,
                resume=self.resume,
                hooks=self.hooks,
                shared=partial(self._shared, each, list(planned.values()), delegated),
            )
            each_fold = stage.learn(parts, identities[name])
            if each.folder == ".":
                folds = each_fold
                held_out = parts.val if each.stage.folds and self.experiment.fold is not None else None
        return self._measured(planned, folds, held_out)

    def _shared(
        self, planned: PlannedStage, stages: Sequence[PlannedStage], strategy: StrategyChoice, identity: Identity
    ) -> AbstractContextManager[None]:
        """What a training of a stage goes on in, where other runs have an equal one. Several processes share none: the
        others would give up a first one that waits for hours.
        """
        key = training_key(planned, stages, strategy, identity, self.experiment)
        if self.shared is None or key is None or rank_and_world_size()[1] > 1:
            return nullcontext()
        return shared_training(self.shared, key, self.folder, self.folder.part(planned.folder), self.console)

    def _fingerprints(self) -> dict[str, str]:
        """Of the run's data sets, by what they serve as."""
        data, parts = self.experiment.data, self.parts
        datasets = {
            "source": (parts.source, data.source),
            "target": (parts.target, data.target),
            "synthetic": (parts.synthetic, data.synthetic),
            "val": (parts.val, data.val or data.source),
        }
        return {
            role: fingerprint(dataset, dataset_root(choice, self.registry))
            for role, (dataset, choice) in datasets.items()
            if dataset is not None and choice is not None
        }

    def _identity(
        self, planned: PlannedStage, earlier: Mapping[str, Identity], fingerprints: Mapping[str, str]
    ) -> Identity:
        """What a stage's checkpoints have in common: its options, its data and what it begins from and uses."""
        data = planned.experiment.data
        named = {role for role in ("source", "target", "synthetic", "val") if getattr(data, role) is not None}
        if data.source is not None:
            named.add("val")  # some of the source's where none is named
        beside = {f"the data of {role}": found for role, found in fingerprints.items() if role in named}
        for network, (place, kind) in planned.stage.begins.items():
            begun = (
                trained_identity(RunFolder(place), kind, self.registry)
                if isinstance(place, Path)
                else earlier[place].digest
            )
            beside[f"what the {network} begins from"] = begun
        distillation = planned.experiment.distillation
        for label, teacher in {} if distillation is None else distillation.teachers.items():
            if teacher.run is not None:
                beside[f"the teacher {label}"] = trained_identity(RunFolder(teacher.run), "segmenter", self.registry)
        beside |= {f"the stage {name}": earlier[name].digest for name in planned.stage.uses}
        return identify(planned.experiment, self.registry, beside)

    def _note(self, planned: Mapping[str, PlannedStage], identities: Mapping[str, Identity]) -> None:
        """Write down where the stages that have begun are trained, and what they are."""
        if rank_and_world_size()[0] == 0:
            stages = {
                name: {"folder": planned[name].folder, "identity": identity.digest}
                for name, identity in identities.items()
            }
            write_json(self.folder.stages, stages)

    def _measured(
        self, planned: Mapping[str, PlannedStage], folds: dict[str, Any] | None, held_out: Dataset | None
    ) -> dict[str, Any]:
        """What ``metrics.json`` holds."""
        experiment, parts = self.experiment, self.parts
        trained = TrainedModel.load(self.folder, self.registry, experiment.device)
        tests = {**parts.tests, **({} if held_out is None else {"held-out": held_out})}
        strategy = build_strategy(experiment.strategy, self.registry)
        metrics = {
            "strategy": experiment.strategy.name,
            "seed": experiment.seed,
            "iterations": experiment.train.iterations,
            "best_iteration": trained.iteration,
            "selection": describe_selection(experiment, parts, self.registry),
            "trained_on": strategy.trained_on(experiment),
            **({"transductive": dict(parts.transductive)} if parts.transductive else {}),
            "tests": measure(trained, tests, self.folder, self.folder, self.registry, self.console, "testing"),
            "folds": folds,
            "quality": self._quality(trained),
            "baseline": self._baseline(planned[BASELINE]) if BASELINE in planned else None,
        }
        if rank_and_world_size()[0] == 0:
            with time_step(self.folder, self.folder, "pictures"):
                samples = preview_samples(parts, experiment.data.tile)
                visualization.draw_previews(trained, *samples, self.folder.previews / "final.png")
        return metrics

    def _baseline(self, planned: PlannedStage) -> dict[str, Any]:
        """What the stage that the result is compared with reaches on the tests."""
        folder = self.folder.part(planned.folder)
        trained = TrainedModel.load(folder, self.registry, self.experiment.device)
        return measure(
            trained, self.parts.tests, self.folder, folder, self.registry, self.console, "testing the baseline"
        )

    def _quality(self, trained: TrainedModel) -> dict[str, Any]:
        """The measures of the generator's images, by the name of the dataset."""
        parts, judge = self.parts, self.networks.judge
        if trained.generator is None or judge is None:
            return {}
        like_source = trained.given.by_mask or trained.segmenter is None
        datasets = parts.tests if like_source and parts.tests else {}
        if not datasets and parts.val is not None and not parts.validates_target:
            datasets = {"validation": parts.val}
        inference, out = trained.inference(), self.folder.evaluation
        with time_step(self.folder, self.folder, "judging translations"):
            return judge_translation(trained, datasets, parts.target, judge, inference, out, self.console)
