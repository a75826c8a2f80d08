"""What a command asks of a run: its experiment and its folder, known before anything slow is imported."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from transeg.core.distributed.ranks import is_launched, launched_rank_and_world_size
from transeg.core.errors import UsageError
from transeg.core.experiment.command_line import settings_of
from transeg.core.experiment.completion import complete_experiment, load_experiment
from transeg.core.experiment.deciding_options import difference
from transeg.core.experiment.schema import Experiment
from transeg.core.experiment.settings import Settings, merge, read_settings, set_options
from transeg.core.experiment.versions import upgrade
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder

logger = logging.getLogger("transeg.run")

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class RunRequest:
    """A run that a user has asked for."""

    experiment: Experiment
    folder: RunFolder
    resume: bool


def read_request(
    named: Mapping[str, Any],
    registry: Registry,
    *,
    config: Path | None,
    run_dir: Path | None,
    resume: bool,
    dry_run: bool,
    loading: Callable[[Experiment], None] = lambda _: None,
) -> RunRequest:
    """Read and validate a command's options, all of them and once.

    Args:
        named: options of `toolkit run` by name; None or empty where not given.
        registry: where components come from.
        config: an experiment file, under the options.
        run_dir: where the run goes.
        resume: whether to go on from what is there.
        dry_run: whether nothing is to be written.
        loading: see :func:`complete_experiment`.

    Raises:
        UsageError: anything about them that keeps the run from beginning.
    """
    settings = upgrade(read_settings(config), registry) if config else {}
    if settings.pop("search", None) is not None:
        logger.warning(
            "[search] in %s is for `toolkit search`; this run takes the other options as they stand.", config
        )
    settings = merge(settings, settings_of(named, settings, registry))
    return complete_request(settings, registry, run_dir=run_dir, resume=resume, dry_run=dry_run, loading=loading)


def complete_request(
    settings: Settings,
    registry: Registry,
    *,
    run_dir: Path | None,
    resume: bool,
    dry_run: bool,
    loading: Callable[[Experiment], None] = lambda _: None,
) -> RunRequest:
    """Validate the settings of a run, and find its folder; see :func:`read_request`.

    Raises:
        UsageError: anything about them that keeps the run from beginning.
    """
    if is_launched():
        settings = {**settings, "devices": launched_rank_and_world_size()[1]}
    if run_dir is None and resume:
        raise UsageError("A run that is resumed needs its folder: --run-dir FOLDER.")
    folder = RunFolder(run_dir or _for_all_ranks(lambda: _new_folder(settings)))
    exists = _for_all_ranks(folder.experiment.exists)
    if exists and not (resume or dry_run):
        raise UsageError(f"{folder.path} already holds a run; add --resume to go on, or choose another --run-dir.")
    if resume and exists:
        experiment = _resumed(folder, settings, registry, loading)
    elif resume and not {"generator", "segmenter"} & settings.keys():
        raise UsageError(f"There is nothing to resume in {folder.path}: it has no experiment.toml.")
    else:
        experiment = complete_experiment(settings, registry, loading=loading)
    return RunRequest(experiment, folder, resume)


def _for_all_ranks(ask: Callable[[], Answer]) -> Answer:
    """What the first of several ranks finds; a process alone need not import PyTorch to ask itself."""
    if not is_launched():
        return ask()
    from transeg.core.distributed.collectives import broadcast_from_first, join_ranks

    join_ranks()
    return broadcast_from_first(ask)


def _new_folder(settings: Settings) -> Path:
    names = [settings[kind]["name"] for kind in ("generator", "segmenter") if isinstance(settings.get(kind), dict)]
    return Path("runs", "-".join([*names, time.strftime("%Y%m%d-%H%M%S")]).replace(":", "-"))


def _resumed(
    folder: RunFolder, settings: Settings, registry: Registry, loading: Callable[[Experiment], None]
) -> Experiment:
    """The stored experiment, after a check that the settings of the command that resumes it do not change it."""
    stored = load_experiment(folder.experiment, registry, stored=False)
    base = set_options(stored.model_dump(mode="json"))  # an option that came since is what was so before, not published
    if "augmentation" in settings:
        base.pop("augmentation", None)
    if any("name" in table for table in settings.get("data", {}).get("test", {}).values()):
        base["data"].pop("test", None)  # tests that are named take the place of the stored ones, which may have moved
    wanted = complete_experiment(merge(base, settings), registry, loading=loading)
    if stored.joint_batch != wanted.joint_batch:
        raise UsageError(_other_batch(folder, stored, wanted))
    changed = difference(stored, wanted)
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
