"""One training: an experiment of a single stage, from built parts to checkpoints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from rich.console import Console
from torch.utils.data import DataLoader

from transeg.core import previews
from transeg.core.data.stream import (
    SOURCE,
    SYNTHETIC,
    TARGET,
    Collate,
    Domain,
    Item,
    Mixture,
    Places,
    TrainingStream,
    training_loader,
)
from transeg.core.distillation import build_distillation
from transeg.core.distributed import world
from transeg.core.errors import TransegError
from transeg.core.evaluation import SegmentationMetric, evaluation_loader, in_order
from transeg.core.experiment import Experiment
from transeg.core.hooks.checkpoints import CheckpointHook
from transeg.core.hooks.distillation import DistillationHook
from transeg.core.hooks.guard import GuardHook
from transeg.core.hooks.interrupt import InterruptHook
from transeg.core.hooks.previews import PreviewHook
from transeg.core.hooks.progress import ProgressHook
from transeg.core.hooks.scalars import ScalarsHook
from transeg.core.hooks.schedule import ScheduleHook
from transeg.core.inference import Inference
from transeg.core.interfaces import Dataset, Sample
from transeg.core.parts import Parts
from transeg.core.quality import TranslationMetric, TranslationSet
from transeg.core.registry import Registry
from transeg.core.run_folder import RunFolder
from transeg.core.runner import Runner
from transeg.core.tasks import task_for
from transeg.core.trackers import Trackers, begin
from transeg.core.trained import Trained, conditioning

PREVIEW_ROWS = 4

RUNTIME = (
    "device",
    "baseline",
    "quality",
    "train.checkpoint_interval",
    "train.log_interval",
    "data.workers",
    "data.test",
    "tracking",
)
"""Options that leave a training's result as it is; all others must be the same when it is resumed."""


class InterruptedRunError(TransegError):
    """A signal ended the training; its checkpoint is whole."""


def train(
    experiment: Experiment,
    parts: Parts,
    folder: RunFolder,
    registry: Registry,
    *,
    run: RunFolder,
    console: Console,
    title: str,
    resume: bool,
    extra_hooks: Sequence[Hook] = (),
) -> None:
    """Train the networks of ``parts`` to the end, or from the folder's last checkpoint on; ``run`` is the whole run's.

    Raises:
        TransegError: the training failed; the folder keeps its last checkpoint.
        InterruptedRunError: a signal ended it.
    """
    options = experiment.train
    device = torch.device(experiment.device)
    distillation = None
    if parts.segmenter is not None:
        channels = parts.domains.target_channels
        distillation = build_distillation(experiment, parts.segmenter, parts.teachers, channels, registry)
    task = task_for(experiment, parts, registry, [distillation] if distillation is not None else [])
    interrupt, progress, trackers = InterruptHook(), ProgressHook(console, title), Trackers({})
    hooks: list[Hook] = [
        ScheduleHook(task),
        GuardHook(options.log_interval),
        CheckpointHook(options.checkpoint_interval),
        interrupt,
        *([DistillationHook(distillation)] if distillation is not None else []),
        *extra_hooks,
    ]
    if world()[0] == 0:
        trackers = begin(experiment, run, folder, title, resume=resume)
        hooks += [
            ScalarsHook(folder.scalars, trackers, options.log_interval),
            PreviewHook(_Preview(experiment, parts), folder.previews, trackers, options.val_interval),
            progress,
        ]
    runner = Runner(
        task,
        folder,
        identity=identity(experiment),
        device=device,
        seed=experiment.seed,
        loader=_loader(experiment, parts, device),
        iterations=options.iterations,
        val_interval=options.val_interval,
        validation=_validation(experiment, parts),
        domains=parts.domains,
        hooks=hooks,
        resume=resume,
    )
    try:
        runner.train()
    except KeyboardInterrupt:
        interrupt.interrupted = True
    except torch.OutOfMemoryError as error:
        raise TransegError(
            "The GPU's memory is not enough; lower train.batch_size or data.size, and start anew."
        ) from error
    finally:
        progress.close()
        trackers.close()
        if distillation is not None:
            distillation.close()
        interrupt.after_run(runner)
    if interrupt.interrupted:
        raise InterruptedRunError(f"Stopped at iteration {runner.iter} of {options.iterations}.")


def identity(experiment: Experiment) -> str:
    """A digest of all options that decide a training's result."""
    document = experiment.model_dump(mode="json")
    for option in RUNTIME:
        *path, last = option.split(".")
        table = document
        for key in path:
            table = table[key]
        table.pop(last)
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


class _Preview:
    """Draws the same few samples at every call."""

    def __init__(self, experiment: Experiment, parts: Parts) -> None:
        self._live = Trained(
            experiment, parts.domains, parts.segmenter, parts.generator, torch.device(experiment.device), 0
        )
        self._sources, self._targets = shown_samples(parts)

    def __call__(self, path: Path) -> None:
        previews.draw(self._live, self._sources, self._targets, path)


def shown_samples(parts: Parts) -> tuple[list[Sample], list[Sample]]:
    """The source and target images that pictures show: held-out ones where there are any."""
    target = next(iter(parts.tests.values()), parts.target)
    source = parts.source if parts.validates_target else parts.val or parts.source
    return _first_samples(source), _first_samples(target) if target is not None else []


def _first_samples(dataset: Dataset) -> list[Sample]:
    return [dataset[index] for index in range(min(PREVIEW_ROWS, len(dataset)))]


def _loader(experiment: Experiment, parts: Parts, device: torch.device) -> DataLoader[Item]:
    rank, ranks = world()
    options = experiment.train
    real = _domain(experiment, parts.source, SOURCE)
    source: Domain | Mixture = real
    if parts.synthetic is not None:
        source = Mixture(real, _domain(experiment, parts.synthetic, SYNTHETIC), experiment.data.synthetic_share)
    return training_loader(
        TrainingStream(source, _domain(experiment, parts.target, TARGET) if parts.target else None),
        Places(options.iterations, options.batch_size, rank, ranks),
        Collate(experiment.seed, options.batch_size * ranks),
        workers=experiment.data.workers,
        device=device,
    )


def _domain(experiment: Experiment, dataset: Dataset, stream: int) -> Domain:
    data = experiment.data
    given = None if experiment.generator is None else experiment.generator.condition
    return Domain(
        dataset,
        stream,
        seed=experiment.seed,
        limit={SOURCE: data.source_limit, TARGET: data.target_limit, SYNTHETIC: 0}[stream],
        sampling=data.sampling,
        load_size=data.load_size,
        size=data.size,
        transforms=experiment.augmentation.transforms or (),
        with_instances=given == "mask+boundary",
    )


def _validation(experiment: Experiment, parts: Parts) -> tuple[DataLoader[Any], BaseMetric] | None:
    """Validation images and what measures them: a segmenter where there is one, else the generator's images."""
    if parts.val is None:
        return None
    inference, workers = Inference(experiment.data.inference_size), experiment.data.workers
    batch_size = experiment.train.batch_size if experiment.data.resize else 1
    if parts.segmenter is not None:
        loader = evaluation_loader(parts.val, inference, batch_size=batch_size, workers=workers)
        return loader, SegmentationMetric(parts.domains.class_names)
    assert experiment.generator is not None
    assert parts.judge is not None
    items = TranslationSet(parts.val, conditioning(experiment.generator, parts.domains), inference)
    metric = TranslationMetric(parts.judge, parts.target, inference)
    return in_order(items, batch_size=batch_size, workers=workers), metric
