"""A whole run: its stages, its baseline, its tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from mmengine.hooks import Hook
from rich.console import Console

from transeg.core.builders.datasets import build_dataset, build_nonempty, dataset_writer
from transeg.core.builders.folds import mean_over_folds
from transeg.core.builders.networks import build_segmenter
from transeg.core.data.rewriting import write_splits
from transeg.core.distributed.collectives import broadcast_from_first, rank_and_world_size
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import TransegError
from transeg.core.evaluation.measurement import measure_segmenter
from transeg.core.evaluation.translation_quality import judge_translation
from transeg.core.experiment.choices import DatasetChoice
from transeg.core.experiment.schema import Experiment, Strategy, SynthesisOptions
from transeg.core.files import write_json, write_text
from transeg.core.inference import visualization
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.inference.translator import (
    DatasetWithOriginals,
    NumberedNames,
    Translator,
    resample_labels,
    to_pixels,
)
from transeg.core.interfaces import IGNORE, About, Dataset, Sample
from transeg.core.pipeline.label_maps import LabelMaps
from transeg.core.pipeline.synthesis import synthesize
from transeg.core.registry import Registry
from transeg.core.runs.environment import describe_environment
from transeg.core.runs.run_folder import RunFolder, fold_names
from transeg.core.runs.timings import time_step
from transeg.core.training.parts import Parts
from transeg.core.training.train import InterruptedRunError, preview_samples, train


@dataclass(frozen=True)
class Run:
    """Trains, tests and compares, all in one folder; each step goes on where an interrupted run left it.

    Args:
        folder: of the run.
        registry: where components come from.
        console: for progress.
        resume: whether to go on from checkpoints.
        hooks: makes those that plugins add to a training.
    """

    folder: RunFolder
    registry: Registry
    console: Console
    resume: bool
    hooks: Callable[[Experiment], Sequence[Hook]]

    def __call__(self, experiment: Experiment, parts: Parts) -> dict[str, Any]:
        """Run an experiment whose parts are built.

        Returns:
            What ``metrics.json`` holds.

        Raises:
            TransegError: it failed; the message says how to go on where that is possible.
        """
        with self.folder.locked() if rank_and_world_size()[0] == 0 else nullcontext():
            if rank_and_world_size()[0] == 0:
                write_text(self.folder.experiment, experiment.to_toml())
                write_json(self.folder.environment, describe_environment(self.registry))
                write_json(self.folder.parts, parts.sizes())
            try:
                metrics = self._stages(experiment, parts)
            except TransegError as error:
                if isinstance(error, InterruptedRunError) or self.folder.has_checkpoint():
                    raise type(error)(f"{error} {self.folder.go_on}") from error
                raise
            if rank_and_world_size()[0] == 0:
                write_json(self.folder.metrics, metrics)
            return metrics

    def _stages(self, experiment: Experiment, parts: Parts) -> dict[str, Any]:
        stage, stage_parts = experiment, parts
        if experiment.strategy == "sequential":
            stage, stage_parts = self._translated(experiment, parts)
        folds = self._learn(stage, stage_parts, self.folder, experiment.strategy)
        trained = TrainedModel.load(self.folder, self.registry, experiment.device)
        tests = dict(parts.tests)
        if experiment.fold is not None and experiment.strategy != "joint" and stage_parts.val is not None:
            tests["held-out"] = stage_parts.val
        metrics = {
            "strategy": experiment.strategy,
            "seed": experiment.seed,
            "iterations": experiment.train.iterations,
            "best_iteration": trained.iteration,
            "selection": describe_selection(experiment, stage_parts),
            "trained_on": describe_training_data(experiment),
            "tests": self._test(trained, tests, self.folder, "testing"),
            "folds": folds,
            "quality": self._quality(trained, parts),
            "baseline": self._baseline(experiment, parts) if experiment.baseline == "source-only" else None,
        }
        if rank_and_world_size()[0] == 0:
            with time_step(self.folder, self.folder, "pictures"):
                visualization.draw_previews(
                    trained, *preview_samples(parts, experiment.data.tile), self.folder.previews / "final.png"
                )
        return metrics

    def _learn(self, stage: Experiment, parts: Parts, folder: RunFolder, title: str) -> dict[str, Any] | None:
        """Train the networks; or a segmenter for each fold, each in its own folder, and say what each is worth alone.

        Returns:
            None without folds; else what each fold's segmenter reaches on the tests and on what it held out, and what
            they do on average.
        """
        if parts.held is None:
            self._train(stage, parts, folder, title)
            return None
        single = stage.model_copy(update={"folds": None})
        each: dict[str, dict[str, Any]] = {}
        for number, name in enumerate(fold_names(len(parts.held))):
            place, own = folder.part(name), self._with_new_segmenter(single, parts.fold(number))
            self._train(single, own, place, f"{title}, {name} of {len(parts.held)}")
            _note(place, single)
            trained = TrainedModel.load(place, self.registry, stage.device)
            assert own.val is not None
            tests = self._test(trained, {**own.tests, "held-out": own.val}, place, f"testing {name}")
            each[name] = {"best_iteration": trained.iteration, "images": len(own.source), "tests": tests}
        return {"each": each, "mean": mean_over_folds([fold["tests"] for fold in each.values()])}

    def _with_new_segmenter(self, experiment: Experiment, parts: Parts) -> Parts:
        """The parts with a segmenter that is what the run's was at the beginning."""
        assert experiment.segmenter is not None
        channels, classes = parts.domains.target_channels, len(parts.domains.class_names)
        segmenter = build_segmenter(experiment.segmenter, channels, classes, experiment.seed, self.registry)
        return replace(parts, segmenter=segmenter)

    def _train(self, experiment: Experiment, parts: Parts, folder: RunFolder, title: str) -> None:
        train(
            experiment,
            parts,
            folder,
            self.registry,
            run=self.folder,
            console=self.console,
            title=title,
            resume=self.resume,
            extra_hooks=self.hooks(experiment),
        )

    def _translated(self, experiment: Experiment, parts: Parts) -> tuple[Experiment, Parts]:
        """Train the generator and translate the labelled set: the experiment and parts of the second stage."""
        first = stage_experiment(
            experiment,
            "segmenter",
            "loss",
            "joint",
            "distillation",
            "synthesis",
            "folds",
            "fold",
            strategy="translation",
            tests={},
        )
        folder = self.folder.part("translation")
        val = parts.val if parts.judge is not None and not parts.validates_target else None
        self._train(first, replace(parts, val=val, tests={}, segmenter=None), folder, "translation")
        _note(folder, first)
        trained = TrainedModel.load(folder, self.registry, experiment.device)
        if experiment.synthesis is not None:
            return self._synthesized(experiment, parts, trained, folder)
        root = self.folder.path / "translated"
        choice = DatasetChoice(
            name="folder",
            root=root,
            classes=parts.source.classes,
            channels=parts.domains.target_channels,
            ignore=IGNORE,
        )
        translator = Translator(trained, trained.inference_for_training())

        def translated(sample: Sample) -> Sample:
            made = translator.at_inference_size(sample.image, sample.name)
            return resample_labels(sample, to_pixels(made, sample.image.dtype))

        by_split = {"train": parts.source, "val": None if experiment.data.val else parts.val}
        labelled = {split: NumberedNames(dataset) for split, dataset in by_split.items() if dataset is not None}
        about = About(parts.source.classes, parts.domains.target_channels, "translated")
        with time_step(self.folder, folder, "translating"):
            writer = dataset_writer("folder", root, about, self.registry)
            write_splits(labelled, writer, self.console, "translating", translated)
        second = stage_experiment(experiment, "generator", "joint", strategy="supervised", source=choice)
        source = build_dataset(choice, "source", self.registry)
        val = parts.val if experiment.data.val else build_dataset(choice, "val", self.registry)
        val = val if val is not None and len(val) else None
        if second.distillation is not None and second.distillation.sees == "source":
            source = DatasetWithOriginals(source, parts.source)
            if val is not None and parts.val is not None and not experiment.data.val:
                val = DatasetWithOriginals(val, parts.val)  # the folds learn from them, too
            sees = second.distillation.model_copy(update={"sees": "paired"})
            second = second.model_copy(update={"distillation": sees})
        return second, replace(parts, source=source, target=None, val=val, generator=None)

    def _synthesized(
        self, experiment: Experiment, parts: Parts, trained: TrainedModel, folder: RunFolder
    ) -> tuple[Experiment, Parts]:
        """Make labelled images: the experiment and parts of the second stage, which learns from these and the real."""
        assert experiment.synthesis is not None
        choice = DatasetChoice(
            name="folder",
            root=self.folder.path / "synthetic",
            split="all",
            classes=parts.source.classes,
            channels=parts.source.channels,
            ignore=IGNORE,
        )
        options = experiment.synthesis
        maps = build_label_maps(experiment, parts.source, options, self.registry)
        count = options.count or len(maps)
        with (
            progress_bar(self.console, "synthesizing", count) as advance,
            time_step(self.folder, folder, "synthesizing"),
        ):
            assert choice.root is not None
            inference = trained.inference_for_training()
            synthesize(trained, maps, count, choice.root, inference, experiment.seed, advance)
        second = stage_experiment(experiment, "generator", "joint", "synthesis", strategy="supervised")
        data = second.data.model_copy(update={"synthetic": choice})
        synthetic = build_dataset(choice, "synthetic", self.registry)
        second = second.model_copy(update={"data": data})
        return second, replace(parts, generator=None, judge=None, synthetic=synthetic)

    def _quality(self, trained: TrainedModel, parts: Parts) -> dict[str, Any]:
        """The measures of the generator's images, by the name of the dataset."""
        if trained.generator is None or parts.judge is None:
            return {}
        like_source = trained.given.by_mask or trained.segmenter is None
        datasets = parts.tests if like_source and parts.tests else {}
        if not datasets and parts.val is not None and not parts.validates_target:
            datasets = {"validation": parts.val}
        inference, out = trained.inference(), self.folder.evaluation
        with time_step(self.folder, self.folder, "judging translations"):
            return judge_translation(trained, datasets, parts.target, parts.judge, inference, out, self.console)

    def _baseline(self, experiment: Experiment, parts: Parts) -> dict[str, Any]:
        """The same segmenter from the same weights, trained on untranslated source images at the same budget."""
        plain = stage_experiment(experiment, "generator", "joint", "synthesis", strategy="supervised")
        folder = self.folder.part("baseline")
        plain_parts = self._with_new_segmenter(plain, replace(parts, target=None, generator=None, judge=None))
        self._learn(plain, plain_parts, folder, "source-only baseline")
        _note(folder, plain)
        trained = TrainedModel.load(folder, self.registry, experiment.device)
        return self._test(trained, parts.tests, folder, "testing the baseline")

    def _test(
        self, trained: TrainedModel, tests: Mapping[str, Dataset], folder: RunFolder, title: str
    ) -> dict[str, Any]:
        if not tests or trained.segmenter is None:
            return {}
        total = sum(len(dataset) for dataset in tests.values())
        with progress_bar(self.console, title, total) as advance, time_step(self.folder, folder, "testing"):
            counting = trained.counting()
            out, inference = folder.evaluation, trained.inference()
            return measure_segmenter(trained, tests, out, inference, advance, self.registry, counting)


def _note(folder: RunFolder, experiment: Experiment) -> None:
    """Write down the experiment of a stage, without which its checkpoints cannot be loaded."""
    broadcast_from_first(lambda: write_text(folder.experiment, experiment.to_toml()))


def build_label_maps(
    experiment: Experiment, source: Dataset, options: SynthesisOptions, registry: Registry
) -> LabelMaps:
    """What synthetic images are made of: the training images' label maps, or those of a folder.

    Raises:
        UsageError: the folder holds no label map.
        DataError: a file in it cannot be used.
    """
    if options.masks is None:
        return LabelMaps(source, experiment.data.source_limit, options.variation, experiment.seed)
    unknown = {"ignore": IGNORE} if len(source.classes) > 2 else {}  # of two classes, 255 is the foreground
    choice = DatasetChoice(
        name="folder",
        root=options.masks,
        split="all",
        images=".",
        masks=".",
        channels=1,
        classes=source.classes,
        **unknown,
    )
    return LabelMaps(build_nonempty(choice, "source", registry), 0, options.variation, experiment.seed)


def describe_selection(experiment: Experiment, parts: Parts) -> str:
    """How the best checkpoint was chosen, in words."""
    if experiment.folds is not None:
        which = "each fold" if experiment.fold is None else f"fold {experiment.fold} of {experiment.folds}"
        return f"highest Dice on the images that {which} holds out"
    if parts.segmenter is None or parts.val is None:
        return "the last iteration"
    if experiment.data.val is not None:
        return f"highest Dice on the labelled validation images of {experiment.data.val.name}"
    by_image = experiment.generator is not None and experiment.generator.condition == "image"
    translated = ", translated" if by_image else ""
    return f"highest Dice on the validation images of the source{translated}"


def describe_training_data(experiment: Experiment) -> tuple[str, str]:
    """What the segmenter of a run and that of its baseline learn from, in words."""
    if experiment.generator is None or experiment.generator.condition == "image":
        return "translated", "source only"
    return "+ synthetic", "real only"


def stage_experiment(
    experiment: Experiment,
    *parts: str,
    strategy: Strategy,
    source: DatasetChoice | None = None,
    tests: dict[str, DatasetChoice] | None = None,
) -> Experiment:
    """The experiment of one stage: some parts less, and no baseline."""
    data: dict[str, Any] = {} if "generator" not in parts else {"target": None}
    if source is not None:
        data["source"] = source
    if tests is not None:
        data["test"] = tests
    return experiment.model_copy(
        update={
            **dict.fromkeys(parts),
            "strategy": strategy,
            "baseline": "none",
            "data": experiment.data.model_copy(update=data),
        }
    )
