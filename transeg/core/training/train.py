"""One training: an experiment of a single stage, from built parts to checkpoints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from rich.console import Console
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from transeg.core.data.cache import SampleCache, image_cache
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
from transeg.core.data.windows import RegionReader, Windows, sampling_pools
from transeg.core.distributed.collectives import broadcast_from_first, rank_and_world_size
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import TransegError, UsageError
from transeg.core.evaluation.metrics.image_metrics import image_metrics
from transeg.core.evaluation.scores import EvaluationSet, SegmentationMetric, evaluation_loader
from transeg.core.evaluation.translation_quality import TranslationMetric, TranslationSet, uses_feature_networks
from transeg.core.experiment.schema import BATCH, RUNTIME, DataOptions, Experiment, TrainOptions
from transeg.core.inference import visualization
from transeg.core.inference.trained_model import TrainedModel, build_conditioning
from transeg.core.interfaces import Dataset, Region, Sample
from transeg.core.models.compilation import compilable_networks, compile_networks
from transeg.core.models.ema import EMA
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.core.training.distillation import build_distillation
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
from transeg.core.training.parts import Parts
from transeg.core.training.precision import matmul_precision
from transeg.core.training.runner import Runner
from transeg.core.training.tasks import build_task, validation_inference
from transeg.core.training.trackers import Trackers, start_trackers

Network = TypeVar("Network", bound=nn.Module)

PREVIEW_ROWS = 4


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
    if options.sync_batch_norm and rank_and_world_size()[1] > 1:
        parts = replace(
            parts,
            segmenter=parts.segmenter and _with_shared_batch_norm(parts.segmenter),
            generator=parts.generator and _with_shared_batch_norm(parts.generator),
        )
    distillation = None
    if parts.segmenter is not None:
        channels = parts.domains.target_channels
        distillation = build_distillation(experiment, parts.segmenter, parts.teachers, channels, registry)
    task = build_task(experiment, parts, registry, [distillation] if distillation is not None else [])
    averages = EMA(task, _averaged(parts, options))
    interrupt, progress, trackers = InterruptHook(), ProgressHook(console, title), Trackers({})
    hooks: list[Hook] = [
        ScheduleHook(task),
        EMAHook(averages),
        GuardHook(options.log_interval),
        CheckpointHook(options.checkpoint_interval),
        interrupt,
        *([DistillationHook(distillation)] if distillation is not None else []),
        *extra_hooks,
    ]
    if rank_and_world_size()[0] == 0:
        trackers = start_trackers(experiment, run, folder, title, resume=resume)
        times = TimingsHook(run, folder)
        draw = times.measuring("pictures")(_Preview(experiment, parts, averages))
        hooks += [
            times,
            ScalarsHook(folder.scalars, trackers, options.log_interval),
            PreviewHook(draw, folder.previews, trackers, options.val_interval),
            progress,
        ]
    kept = experiment.data.cache_bytes
    cache = None if kept is None else SampleCache(image_cache(), kept)
    runner = Runner(
        task,
        folder,
        identity=training_digest(experiment),
        device=device,
        seed=experiment.seed,
        loader=_loader(experiment, parts, device, console, cache),
        iterations=options.iterations,
        val_interval=options.val_interval,
        validation=_validation(experiment, parts, cache, registry),
        domains=parts.domains,
        hooks=hooks,
        resume=resume,
    )
    chosen = compilable_networks(parts.generator, parts.segmenter) if options.compile else {}
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
    finally:
        progress.close()
        trackers.close()
        if distillation is not None:
            distillation.close()
        interrupt.after_run(runner)
    if interrupt.interrupted:
        raise InterruptedRunError(f"Stopped at iteration {runner.iter} of {options.iterations}.")


def training_digest(experiment: Experiment) -> str:
    """A digest of all options that decide a training's result."""
    document = experiment.model_dump(mode="json") | {"joint_batch": experiment.joint_batch}
    for option in (*RUNTIME, *BATCH):
        *path, last = option.split(".")
        table = document
        for key in path:
            table = table[key]
        table.pop(last)
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _with_shared_batch_norm(network: Network) -> Network:
    """A network with batch norms whose statistics are those of all ranks; names in its checkpoints stay.

    timm's conversion knows timm's own norms, which have an activation in them: PyTorch's would drop that.
    """
    return cast("Network", convert_sync_batchnorm(network))


def check_batch_norms(*networks: nn.Module | None) -> None:
    """Whether the batch norms of networks can be replaced by those that ranks share.

    Raises:
        UsageError: one is of a class that would lose what it does besides.
    """
    for network in networks:
        for norm in () if network is None else network.modules():
            own = isinstance(norm, _BatchNorm) and type(norm).forward is not _BatchNorm.forward
            if own and not isinstance(norm, BatchNormAct2d):
                raise UsageError(
                    f"The batch norms of {type(network).__name__} are of a kind of its own ({type(norm).__name__}), "
                    "whose statistics processes cannot share; leave out train.sync_batch_norm, or choose other norms "
                    "where it has an option for them."
                )


def _averaged(parts: Parts, options: TrainOptions) -> dict[str, float]:
    """Which parts of the task are averaged, by their names in it, and how much of its average an iteration leaves.

    An average that reaches far back in a short training is little more than its beginning, so the decays that
    generators bring along are shortened; what a user chose for the segmenter is left as it is.
    """
    wanted = {} if parts.generator is None else parts.generator.averages
    decays = {f"generator.{name}": shorten_decay(decay, options.iterations) for name, decay in wanted.items()}
    return decays if parts.segmenter is None or options.ema is None else {**decays, "segmenter": options.ema}


def shorten_decay(decay: float, iterations: int) -> float:
    """A decay with which an average reaches back over a 20th of the training at most, and over two iterations at least.

    From 20,000 iterations on, 0.999 is left as it is.
    """
    return min(decay, max(0.5, 1 - 20 / iterations))


class _Preview:
    """Draws the same few samples at every call."""

    def __init__(self, experiment: Experiment, parts: Parts, averages: EMA) -> None:
        self._averages = averages
        self._live = TrainedModel(
            experiment, parts.domains, parts.segmenter, parts.generator, torch.device(experiment.device), 0
        )
        self._sources, self._targets = preview_samples(parts, experiment.data.tile)

    def __call__(self, path: Path) -> None:
        with self._averages.in_place():
            visualization.draw_previews(self._live, self._sources, self._targets, path)


def preview_samples(parts: Parts, tile: int | None) -> tuple[list[Sample], list[Sample]]:
    """The source and target images that pictures show: held-out ones where there are any; with tiles, their middle."""
    target = next(iter(parts.tests.values()), parts.target)
    source = parts.source if parts.validates_target else parts.val or parts.source
    return _first_samples(source, tile), _first_samples(target, tile) if target is not None else []


def _first_samples(dataset: Dataset, tile: int | None) -> list[Sample]:
    indices = range(min(PREVIEW_ROWS, len(dataset)))
    return [dataset[index] if tile is None else _middle(dataset, index, tile) for index in indices]


def _middle(dataset: Dataset, index: int, tile: int) -> Sample:
    sides = dataset.size_of(index)
    top, left = ((side - min(side, tile)) // 2 for side in sides)
    return RegionReader(dataset, limit=0)(index, Region(top, left, min(sides[0], tile), min(sides[1], tile)))


def _loader(
    experiment: Experiment, parts: Parts, device: torch.device, console: Console, cache: SampleCache | None
) -> DataLoader[Item]:
    rank, ranks = rank_and_world_size()
    options = experiment.train
    real = _domain(experiment, parts.source, SOURCE, console, cache)
    source: TrainingDomain | MixedDomain = real
    if parts.synthetic is not None:
        synthetic = _domain(experiment, parts.synthetic, SYNTHETIC, console, cache)
        source = MixedDomain(real, synthetic, experiment.data.synthetic_share)
    target = None if parts.target is None else _domain(experiment, parts.target, TARGET, console, cache)
    return training_loader(
        TrainingDataset(source, target),
        ResumableBatchSampler(options.iterations, options.batch_size * options.accumulation, rank, ranks),
        Collate(experiment.seed, options.batch_size * options.accumulation * ranks),
        workers=experiment.data.workers,
        device=device,
    )


def training_windows(data: DataOptions, dataset: Dataset, limit: int) -> Windows | None:
    """Those that are cut out of the first so many images of a dataset (0 for all); None where images are not cut."""
    if data.tile is None or data.stride is None:
        return None
    count = min(limit, len(dataset)) if limit else len(dataset)
    return Windows([dataset.size_of(index) for index in range(count)], data.tile, data.stride)


def _domain(
    experiment: Experiment, dataset: Dataset, stream: int, console: Console, cache: SampleCache | None
) -> TrainingDomain:
    data = experiment.data
    given = None if experiment.generator is None else experiment.generator.condition
    limit = {SOURCE: data.source_limit, TARGET: data.target_limit, SYNTHETIC: 0}[stream]
    windows, drawn = training_windows(data, dataset, limit), []
    if windows is not None:
        sampling = data.tile_sampling if stream != TARGET else "position"
        looks = sampling != "position"
        with (
            progress_bar(console, "looking at masks", windows.images) if looks else nullcontext(lambda: None) as advance
        ):
            drawn = sampling_pools(dataset, windows, sampling, advance, cache)
    return TrainingDomain(
        dataset,
        stream,
        seed=experiment.seed,
        limit=limit,
        sampling=data.sampling,
        load_size=data.load_size,
        size=data.size,
        transforms=experiment.augmentation.transforms or (),
        with_instances=given == "mask+boundary",
        windows=windows,
        pools=drawn,
        cache=cache,
    )


def _validation(
    experiment: Experiment, parts: Parts, cache: SampleCache | None, registry: Registry
) -> tuple[DataLoader[Any], BaseMetric] | None:
    """Validation images and what measures them: a segmenter where there is one, else the generator's images.

    Round trips are left to the end: of a diffusion model, two translations of each image would take longer than what
    lies between two validations.
    """
    if parts.val is None:
        return None
    inference, workers = validation_inference(experiment, parts), experiment.data.workers
    batch_size = experiment.train.batch_size if experiment.data.resize else 1
    if parts.segmenter is not None:
        images = EvaluationSet(parts.val, inference, cache)
        loader = evaluation_loader(images, batch_size=batch_size, workers=workers, again=True)
        return loader, SegmentationMetric(parts.domains.class_names, image_metrics(registry, validation=True))
    assert experiment.generator is not None
    assert parts.judge is not None
    given = build_conditioning(experiment.generator, parts.domains)
    if not (given.by_mask or parts.val.paired or uses_feature_networks(experiment.quality)):
        return None
    items = TranslationSet(parts.val, given, inference, cache)
    metric = TranslationMetric(parts.judge, parts.target, inference)
    return evaluation_loader(items, batch_size=batch_size, workers=workers, again=True), metric
