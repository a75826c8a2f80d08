"""One training: an experiment of a single stage, from built parts to checkpoints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from mmengine.hooks import Hook
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torch.utils.data import Dataset as TorchDataset

from transeg.core.builders.construct import construct
from transeg.core.builders.datasets import training_windows
from transeg.core.data.augmentation import Transform, split_appearance
from transeg.core.data.cache import SampleCache, image_cache
from transeg.core.data.largest_rectangle import shown_part
from transeg.core.data.matched_draws import effective_number, matching_probabilities, shown_values
from transeg.core.data.stream import (
    SOURCE,
    SYNTHETIC,
    TARGET,
    Collate,
    Item,
    MixedDomain,
    ResumableBatchSampler,
    TrainingDataset,
    TrainingDomain,
    training_loader,
)
from transeg.core.data.windows import Windows, class_pools, sampling_pools, telling_window
from transeg.core.distributed.collectives import broadcast_from_first, rank_and_world_size
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import TransegError, UsageError
from transeg.core.evaluation.evaluation_items import EvaluationSet, dismiss_workers, evaluation_loader
from transeg.core.evaluation.judge import Judge, uses_feature_networks
from transeg.core.evaluation.metrics.image_metrics import ImageMetric
from transeg.core.evaluation.scores import SegmentationMetric
from transeg.core.evaluation.translation_quality import TranslationMetric, TranslationSet
from transeg.core.experiment.identity import Identity
from transeg.core.experiment.schema import DataOptions, Experiment, TrainOptions
from transeg.core.inference import visualization
from transeg.core.inference.adaptation import evenly
from transeg.core.inference.sliding_window import Inference
from transeg.core.inference.trained_model import TrainedModel, build_conditioning, joint_multiple
from transeg.core.interfaces import Dataset, Generator, Sample, Segmenter, Stage, Strategy, Validation
from transeg.core.models.compilation import compilable_networks, compile_networks, fuse_optimizers
from transeg.core.models.ema import EMA, shorten_decay
from transeg.core.models.forward import to_signed_unit
from transeg.core.models.memory_layout import put_channels_last, put_segmenter_channels_last
from transeg.core.models.winograd import use_winograd
from transeg.core.runs.run_folder import RunFolder
from transeg.core.training.build import Build
from transeg.core.training.hooks.checkpoints import CheckpointHook
from transeg.core.training.hooks.distillation import DistillationHook
from transeg.core.training.hooks.ema import EMAHook
from transeg.core.training.hooks.guard import GuardHook
from transeg.core.training.hooks.interrupt import InterruptHook
from transeg.core.training.hooks.previews import PreviewHook
from transeg.core.training.hooks.progress import ProgressHook
from transeg.core.training.hooks.scalars import ScalarsHook
from transeg.core.training.hooks.schedule import ScheduleHook
from transeg.core.training.hooks.timings import TimingsHook
from transeg.core.training.hooks.translation_shift import TranslationShiftHook
from transeg.core.training.loop import ValidationSet
from transeg.core.training.parts import Parts
from transeg.core.training.precision import matmul_precision
from transeg.core.training.runner import Runner
from transeg.core.training.target_hooks import selects_by_agreement, target_hooks
from transeg.core.training.tasks.joint_task import JointTask
from transeg.core.training.tasks.segmentation_task import SegmentationTask
from transeg.core.training.tasks.task import Task
from transeg.core.training.tasks.updates import Updates
from transeg.core.training.trackers import Trackers, start_trackers

PREVIEW_ROWS = 4
SHIFTED = 8
"""Validation images at most whose translations are looked at for shifts, and no more than a quarter of all."""
FITTED = 64
"""Target images that a generator is fitted to at most."""
_FIT = 73

T = TypeVar("T")


class InterruptedRunError(TransegError):
    """A signal ended the training; its checkpoint is whole."""


@dataclass(frozen=True)
class Training:
    """One training: a stage of a run, or one fold of it.

    Attributes:
        experiment: of the stage.
        stage: as its strategy declares it.
        strategy: whose data, validation and task it has.
        parts: its data sets.
        validations: on what it is measured.
        build: makes its networks.
        judge: what judges the generator's images, or None.
        image_metrics: those of plugins that are measured in validations.
        identity: what its checkpoints have in common.
        folder: its own.
        run: the whole run's.
        title: of its progress.
        later: iterations of the run's trainings that come after this one.
    """

    experiment: Experiment
    stage: Stage
    strategy: Strategy
    parts: Parts
    validations: Sequence[Validation]
    build: Build
    judge: Judge | None
    image_metrics: Sequence[ImageMetric]
    identity: Identity
    folder: RunFolder
    run: RunFolder
    title: str
    later: int


def train(training: Training, console: Console, *, resume: bool, extra_hooks: Sequence[Hook] = ()) -> None:
    """Train the networks of a stage to the end, or from the folder's last checkpoint on.

    Raises:
        TransegError: the training failed; the folder keeps its last checkpoint.
        InterruptedRunError: a signal ended it.
    """
    experiment, parts, folder = training.experiment, training.parts, training.folder
    options, device = experiment.train, torch.device(experiment.device)
    task = training.strategy.task(training.stage, parts, training.build)
    generator, segmenter = getattr(task, "generator", None), getattr(task, "segmenter", None)
    optimizers = task.optimizers()
    iterations = options.iterations if optimizers else 0
    task.inference = _validation_inference(experiment.data, generator, segmenter)
    task.device = device
    _apply_options(task, options, device)
    new = "generator" in training.stage.trains and "generator" not in training.stage.begins
    if generator is not None and new and not (resume and folder.last.exists()):
        _fit(generator, experiment, parts, device)
    distillation = training.build.distillation
    averages = task.averages = EMA(task, _averaged(task, options))
    interrupt, progress, trackers = InterruptHook(), ProgressHook(console, training.title, training.later), Trackers({})
    hooks: list[Hook] = [
        ScheduleHook(task),
        EMAHook(averages),
        GuardHook(options.log_interval),
        CheckpointHook(
            options.checkpoint_interval,
            "val/agreement" if selects_by_agreement(experiment, parts) else "val/dice",
            options.checkpoint_minutes,
        ),
        interrupt,
        *target_hooks(experiment, task, parts, averages),
        *_shift_hooks(task, parts),
        *([DistillationHook(distillation)] if distillation is not None else []),
        *extra_hooks,
    ]
    if rank_and_world_size()[0] == 0:
        trackers = start_trackers(experiment, training.run, folder, training.title, resume=resume)
        times = TimingsHook(training.run, folder)
        shown = TrainedModel(experiment, parts.domains, segmenter, generator, device, 0)
        draw = times.measuring("pictures")(_Preview(shown, averages, parts))
        hooks += [
            times,
            ScalarsHook(folder.scalars, trackers, options.log_interval),
            PreviewHook(draw, folder.previews, trackers, options.val_interval),
            progress,
        ]
    kept = experiment.data.cache_bytes
    cache = None if kept is None else SampleCache(image_cache(), kept)
    validations = _validations(training, task.inference, cache)
    runner = Runner(
        task,
        folder,
        identity=training.identity,
        device=device,
        seed=experiment.seed,
        loader=_loader(training, iterations, device, console, cache),
        iterations=iterations,
        val_interval=options.val_interval,
        validations=validations,
        domains=parts.domains,
        hooks=hooks,
        resume=resume,
    )
    chosen = compilable_networks(generator, segmenter) if options.compile else {}
    try:
        with matmul_precision(options.precision), compile_networks(chosen) if chosen else nullcontext():
            runner.train()
        broadcast_from_first(lambda: None)  # the first one's checkpoints are whole before others load them, or end
    except KeyboardInterrupt:
        interrupt.interrupted = True
    except torch.OutOfMemoryError as error:
        raise TransegError(
            "The GPU's memory is not enough. Resume with a lower train.batch_size and as much more train.accumulation, "
            "or start again with a lower data.size."
        ) from error
    except ValueError as error:
        if not re.match(r"Expected more than 1 (value per channel|spatial element) when training", str(error)):
            raise
        size, count = experiment.data.size, options.batch_size
        raise TransegError(
            f"At {size}x{size} pixels and train.batch_size={count}, a norm of a network has a single value to "
            "normalise; raise train.batch_size or data.size."
        ) from error
    finally:
        for validation in validations:
            dismiss_workers(validation.loader)
        progress.close()
        trackers.close()
        if distillation is not None:
            distillation.close()
        interrupt.after_run(runner)
    if interrupt.interrupted:
        raise InterruptedRunError(f"Stopped at iteration {runner.iter} of {iterations}.")


def _apply_options(task: Task, train: TrainOptions, device: torch.device) -> None:
    """Let a task compute as ``[train]`` says."""
    task.updates = Updates(
        device,
        precision=train.precision,
        accumulation=train.accumulation,
        clip=train.clip,
        clip_value=train.clip_value,
        channels_last=bool(train.channels_last),
        compiled=train.compile,
    )
    segmenter = getattr(task, "segmenter", None)
    if train.scales and segmenter is not None:
        if not isinstance(task, SegmentationTask) or type(task).phases is not SegmentationTask.phases:
            raise UsageError("This strategy has a training step of its own, which knows no train.scales; leave it out.")
        task.scales = train.scales
    plain = device.type == "cpu" and train.precision == "fp32" and not train.compile
    if train.channels_last:
        put_channels_last(task)
    elif train.channels_last is None and segmenter is not None and plain:
        put_segmenter_channels_last(segmenter)
    if plain:
        use_winograd(task)
    fuse_optimizers((o.optimizer for o in task.optimizers().values()), train.fused)


def _shift_hooks(task: Task, parts: Parts) -> list[Hook]:
    """Of a generator that learns to translate images whose labels a segmenter takes for those of the translations."""
    by_image = isinstance(task, JointTask) and not task.translates_labels and task.generator.optimizers()
    if not by_image or parts.val is None or parts.validates_target:
        return []
    assert isinstance(task, JointTask)
    chosen = evenly(len(parts.val), min(SHIFTED, -(-len(parts.val) // 4)))
    return [TranslationShiftHook(task, [task.inference.prepare(parts.val[index].image) for index in chosen])]


def _fit(generator: Generator, experiment: Experiment, parts: Parts, device: torch.device) -> None:
    """Show a generator a few target images, where it has a use for any."""
    if type(generator).fit is Generator.fit or parts.target is None:
        return
    random = np.random.default_rng((experiment.seed, _FIT))
    drawn = sorted(random.permutation(len(parts.target))[:FITTED])
    inference = Inference(experiment.data.inference_size)
    images = [inference.prepare(shown_part(parts.target[int(index)])) for index in drawn]
    height, width = (min(image.shape[side] for image in images) for side in (-2, -1))
    whole = torch.stack([to_signed_unit(_centre(image, height, width), device) for image in images])
    with torch.no_grad():
        construct(lambda: generator.to(device).fit(whole), "generator")


def _centre(image: Tensor, height: int, width: int) -> Tensor:
    """The middle ``(C, height, width)`` of an image."""
    top, left = (image.shape[-2] - height) // 2, (image.shape[-1] - width) // 2
    return image[:, top : top + height, left : left + width]


def _averaged(task: Task, options: TrainOptions) -> dict[str, float]:
    """Which parts of the task are averaged, by their names in it, and how much of its average an iteration leaves.

    An average that reaches far back in a short training is little more than its beginning, so the decays that
    generators and tasks bring along are shortened; what a user chose for the segmenter is left as it is.
    """
    of_generator = getattr(getattr(task, "generator", None), "averages", {})
    wanted = {**{f"generator.{name}": decay for name, decay in of_generator.items()}, **task.decays}
    decays = {name: shorten_decay(decay, options.iterations) for name, decay in wanted.items()}
    segments = getattr(task, "segmenter", None) is not None
    return {**decays, "segmenter": options.ema} if segments and options.ema is not None else decays


class _Preview:
    """Draws the same few samples at every call."""

    def __init__(self, live: TrainedModel, averages: EMA, parts: Parts) -> None:
        self._averages = averages
        self._live = live
        self._sources, self._targets = preview_samples(parts, live.experiment.data.tile)

    def __call__(self, path: Path) -> None:
        with self._averages.in_place():
            visualization.draw_previews(self._live, self._sources, self._targets, path)


def preview_samples(parts: Parts, tile: int | None) -> tuple[list[Sample], list[Sample]]:
    """The source and target images that pictures show: held-out ones where there are any; with tiles, a part of each
    that shows objects, where labels say where they are.
    """
    target = next(iter(parts.tests.values()), parts.target)
    source = parts.source if parts.validates_target else parts.val or parts.source
    return _first_samples(source, tile), _first_samples(target, tile)


def _first_samples(dataset: Dataset | None, tile: int | None) -> list[Sample]:
    if dataset is None:
        return []
    indices = range(min(PREVIEW_ROWS, len(dataset)))
    return [dataset[index] if tile is None else telling_window(dataset, index, tile) for index in indices]


def _loader(
    training: Training,
    iterations: int,
    device: torch.device,
    console: Console,
    cache: SampleCache | None,
) -> DataLoader[Item]:
    rank, ranks = rank_and_world_size()
    experiment, parts = training.experiment, training.parts
    options = experiment.train
    transforms: Sequence[Transform] = experiment.augmentation.transforms or ()
    if "generator" in training.stage.trains:
        transforms, _ = split_appearance(transforms)  # it must not learn changed domains
    source: TrainingDomain | MixedDomain | None = None
    if parts.source is not None:
        source = _domain(experiment, parts.source, SOURCE, transforms, console, cache)
    if isinstance(source, TrainingDomain) and parts.synthetic is not None:
        synthetic = _domain(experiment, parts.synthetic, SYNTHETIC, transforms, console, cache)
        source = MixedDomain(source, synthetic, experiment.data.synthetic_share)
    target = None if parts.target is None else _domain(experiment, parts.target, TARGET, transforms, console, cache)
    return training_loader(
        TrainingDataset(source, target),
        ResumableBatchSampler(iterations, options.batch_size * options.accumulation, rank, ranks),
        Collate(experiment.seed, options.batch_size * options.accumulation * ranks),
        workers=experiment.data.workers,
        device=device,
    )


def _domain(
    experiment: Experiment,
    dataset: Dataset,
    stream: int,
    transforms: Sequence[Transform],
    console: Console,
    cache: SampleCache | None,
) -> TrainingDomain:
    data = experiment.data
    given = None if experiment.generator is None else experiment.generator.condition
    limit = {SOURCE: data.source_limit, TARGET: data.target_limit, SYNTHETIC: 0}[stream]
    windows, drawn = training_windows(data, dataset, limit), []
    if data.sampling == "classes" and stream != TARGET:
        count = min(limit, len(dataset)) if limit else len(dataset)
        with progress_bar(console, "looking at masks", count) as advance:
            drawn = class_pools(dataset, count, advance, cache)
    if windows is not None:
        sampling = data.tile_sampling if stream != TARGET else "position"
        looks = sampling != "position"
        with (
            progress_bar(console, "looking at masks", windows.images) if looks else nullcontext(lambda: None) as advance
        ):
            drawn = sampling_pools(dataset, windows, sampling, advance, cache)
    matched = stream == SOURCE and data.source is not None and data.source.match is not None
    return TrainingDomain(
        dataset,
        stream,
        seed=experiment.seed,
        limit=limit,
        sampling=data.sampling,
        load_size=data.load_size,
        size=data.size,
        transforms=transforms,
        with_instances=given == "mask+boundary",
        windows=windows,
        pools=drawn,
        probabilities=_matched_draws(data, dataset, windows, console, cache) if matched else None,
        cache=cache,
    )


def _matched_draws(
    data: DataOptions, dataset: Dataset, windows: Windows | None, console: Console, cache: SampleCache | None
) -> np.ndarray:
    """Probabilities of the source's images, or of windows on them, as `data.source.match` wants them."""
    assert data.source is not None
    assert data.source.wanted_mean is not None
    matched, wanted = data.source.wanted_mean
    count = min(data.source_limit or len(dataset), len(dataset))
    places = count if windows is None else len(windows)
    with progress_bar(console, "looking at masks", places) as advance:
        values = shown_values(dataset, count, matched, advance, windows=windows, load_size=data.load_size, cache=cache)
    probabilities = matching_probabilities(values, matched, wanted)
    worth = f"{effective_number(probabilities):.0f} of {places} {'images' if windows is None else 'windows'}"
    console.print(
        f"data.source.match: the mean {matched} of what is drawn is {wanted:g}, of even draws it would be "
        f"{np.nanmean(values):.3g}; draws are worth {worth}",
        highlight=False,
    )
    return probabilities


def _validation_inference(data: DataOptions, *networks: Segmenter | Generator | None) -> Inference:
    """How validation images reach the networks."""
    return Inference(data.inference_size, window=data.tile or 0, multiple=joint_multiple(*networks))


def _validations(training: Training, inference: Inference, cache: SampleCache | None) -> list[ValidationSet]:
    """Validation images and what measures them: a segmenter where one is trained, else the generator's images.

    Round trips are left to the end: of a diffusion model, two translations of each image would take longer than what
    lies between two validations.
    """
    experiment, parts = training.experiment, training.parts
    workers, device = experiment.data.workers, torch.device(experiment.device)
    batch_size = experiment.train.batch_size if experiment.data.resize else 1
    if "segmenter" in training.stage.trains:
        sets = []
        for number, (label, dataset, view) in enumerate(training.validations):
            images = EvaluationSet(dataset, inference, cache)
            seen = _evenly(images, experiment.data.val_limit if number == 0 else 0)
            loader = evaluation_loader(seen, batch_size=batch_size, workers=workers, device=device, again=True)
            metric = SegmentationMetric(parts.domains.class_names, training.image_metrics)
            metric.prefix = "val" if number == 0 else label
            sets.append(ValidationSet(loader, metric, view))
        return sets
    if parts.val is None or parts.validates_target or training.judge is None:
        return []
    assert experiment.generator is not None
    given = build_conditioning(experiment.generator, parts.domains)
    if not (given.by_mask or parts.val.paired or uses_feature_networks(experiment.quality)):
        return []
    items = _evenly(TranslationSet(parts.val, given, inference, cache), experiment.data.val_limit)
    pictures = evaluation_loader(items, batch_size=batch_size, workers=workers, device=device, again=True)
    return [ValidationSet(pictures, TranslationMetric(training.judge, parts.target, inference), "source")]


def _evenly(items: TorchDataset[T], limit: int) -> TorchDataset[T]:
    """So many items that lie evenly among all; all where the limit is 0 or there are no more."""
    count = len(items)  # type: ignore[arg-type]  # as every dataset here, it has a length
    if not limit or limit >= count:
        return items
    return Subset(items, np.linspace(0, count - 1, limit).round().astype(int).tolist())
