"""From the options of a command line to a run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from rich.console import Console

from transeg.core.device import keep_freed_memory, pick_device
from transeg.core.distributed.collectives import from_first, join_ranks, leave_ranks, rank_device, world
from transeg.core.distributed.ranks import launched
from transeg.core.errors import UsageError
from transeg.core.experiment.command_line import settings_of
from transeg.core.experiment.completion import completed
from transeg.core.experiment.defaults import compose, resumed
from transeg.core.experiment.schema import Experiment, difference, read_experiment
from transeg.core.experiment.settings import Settings, merge, read_settings
from transeg.core.pipeline.processes import check_gpus
from transeg.core.pipeline.run import Run
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.core.training.parts import Parts, build_parts
from transeg.core.training.precision import slowness
from transeg.core.training.trackers import check_installed
from transeg.core.training.train import BATCH, RUNTIME, check_batch_norms


def processes_wanted(
    named: Mapping[str, Any], registry: Registry, *, config: Path | None, run_dir: Path | None, resume: bool
) -> tuple[int, RunFolder]:
    """How many processes a command's options ask for, and where the run goes; see :func:`prepare` for the arguments.

    Raises:
        UsageError: the settings cannot be read, or there are not that many GPUs.
    """
    settings = read_settings(config) if config else {}
    settings = merge(settings, settings_of(named, settings, registry))
    folder = RunFolder(run_dir or _new_folder(settings))
    stored = read_settings(folder.experiment) if resume and folder.experiment.exists() else {}
    count = settings.get("devices", stored.get("devices", 1))
    if isinstance(count, int) and count > 1:
        check_gpus(count, pick_device(str(settings.get("device", stored.get("device", "auto")))))
        return count, folder
    return 1, folder  # whatever else it is, validation says


logger = logging.getLogger("transeg.run")


@dataclass(frozen=True)
class Prepared:
    """A run that could begin now."""

    experiment: Experiment
    parts: Parts
    folder: RunFolder
    resume: bool

    def plan(self) -> dict[str, Any]:
        """The whole experiment, how many images and parameters it has, and where it goes."""
        return {
            "experiment": self.experiment.model_dump(mode="json"),
            **self.parts.sizes(),
            "run_dir": str(self.folder.path),
        }


def prepare(
    named: Mapping[str, Any],
    registry: Registry,
    *,
    config: Path | None,
    run_dir: Path | None,
    resume: bool,
    dry_run: bool,
) -> Prepared:
    """Validate a command's options and build everything that they name.

    Args:
        named: options of `toolkit run` by name; None or empty where not given.
        registry: where components come from.
        config: an experiment file, under the options.
        run_dir: where the run goes.
        resume: whether to go on from what is there.
        dry_run: whether nothing is to be written.

    Raises:
        UsageError: anything that keeps the run from beginning.
    """
    settings = read_settings(config) if config else {}
    if settings.pop("search", None) is not None:
        logger.warning(
            "[search] in %s is for `toolkit search`; this run takes the other options as they stand.", config
        )
    settings = merge(settings, settings_of(named, settings, registry))
    join_ranks()
    rank, ranks = world()
    if launched():
        settings["devices"] = ranks
    if run_dir is None and resume:
        raise UsageError("A run that is resumed needs its folder: --run-dir FOLDER.")
    folder = RunFolder(run_dir or from_first(lambda: _new_folder(settings)))
    if from_first(folder.experiment.exists) and not (resume or dry_run):
        raise UsageError(f"{folder.path} already holds a run; add --resume to go on, or choose another --run-dir.")
    if resume and folder.experiment.exists():
        experiment = _same(folder, settings, registry)
    elif resume and not {"generator", "segmenter"} & settings.keys():
        raise UsageError(f"There is nothing to resume in {folder.path}: it has no experiment.toml.")
    else:
        experiment = completed(compose(settings, registry), registry)
    check_installed(experiment.tracking)
    parts = build_parts(experiment, registry)
    if not dry_run and rank == 0:
        folder.create()
    return Prepared(experiment, parts, folder, resume)


def launch(
    prepared: Prepared,
    registry: Registry,
    console: Console,
    own_hooks: Callable[[Experiment], Sequence[Hook]] = lambda _: (),
) -> dict[str, Any]:
    """Run what was prepared, and give back what ``metrics.json`` holds.

    Args:
        prepared: the run.
        registry: where components come from.
        console: for progress.
        own_hooks: makes those that a training gets from the caller, besides the plugins'.
    """
    device = rank_device(torch.device(prepared.experiment.device))
    if prepared.experiment.devices != world()[1]:
        raise UsageError(
            f"The experiment is for {prepared.experiment.devices} processes; start it with `toolkit run`, or say "
            "--devices 1."
        )
    if prepared.experiment.train.sync_batch_norm and world()[1] > 1:
        check_batch_norms(prepared.parts.generator, prepared.parts.segmenter)
    if device.type == "cpu":
        keep_freed_memory()
    experiment = prepared.experiment.model_copy(update={"device": str(device)})
    relay, failures = registry.plugin_hooks()
    slow = slowness(experiment.train.precision, device)
    for warning in (*failures, *([slow] if slow else [])):
        console.print(f"[yellow]Warning:[/] {warning}", highlight=False)

    def hooks(experiment: Experiment) -> Sequence[Hook]:
        of_plugins = [hook for made in relay.transeg_runner_hooks(experiment=experiment) for hook in made]
        return [*of_plugins, *own_hooks(experiment)]

    metrics = Run(prepared.folder, registry, console, prepared.resume, hooks)(experiment, prepared.parts)
    leave_ranks()
    return metrics


def _new_folder(settings: Settings) -> Path:
    names = [settings[kind]["name"] for kind in ("generator", "segmenter") if isinstance(settings.get(kind), dict)]
    return Path("runs", "-".join([*names, time.strftime("%Y%m%d-%H%M%S")]).replace(":", "-"))


def _same(folder: RunFolder, settings: Settings, registry: Registry) -> Experiment:
    """The stored experiment, after a check that the settings of the command that resumes it do not change it."""
    stored = read_experiment(folder.experiment)
    wanted = completed(resumed(stored, settings), registry)
    if stored.joint_batch != wanted.joint_batch:
        raise UsageError(_other_batch(folder, stored, wanted))
    changed = difference(stored, wanted, (*RUNTIME, *BATCH))
    if changed:
        raise UsageError(
            f"{folder.path} holds another experiment: {changed}. Resume it with the options that it was started with, "
            f"or choose another --run-dir."
        )
    return wanted


def _other_batch(folder: RunFolder, stored: Experiment, wanted: Experiment) -> str:
    """Why a run cannot go on with batches of another size, and with which options it can."""
    ways = [f"--devices {stored.devices}"] if wanted.devices != stored.devices else []
    share, rest = divmod(stored.joint_batch, wanted.devices)
    if not rest:
        split = f"train.batch_size={share} train.accumulation=1"
        ways.append(f"--devices {wanted.devices} --set {split}")
        times, rest = divmod(share, stored.train.batch_size)
        if not rest and times > 1:
            ways.append(f"--devices {wanted.devices} --set train.accumulation={times}")
    return (
        f"{folder.path} learns from {stored.joint_batch} images at a time (train.batch_size x train.accumulation x "
        f"devices), but these options make {wanted.joint_batch}. Resume it with {', or '.join(ways)}."
    )
