"""From the options of a command line to a sweep that has been worked on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from transeg.core.device import check_device_name, pick_device
from transeg.core.distributed.ranks import launched_rank_and_world_size
from transeg.core.errors import TransegError, UsageError
from transeg.core.evaluation.metrics.table import all_rows
from transeg.core.experiment.settings import Settings, read_settings
from transeg.core.registry import Registry
from transeg.tools.common.scheduler import Cluster
from transeg.tools.sweep.cluster import run_on_cluster
from transeg.tools.sweep.definition import define_sweep, sweep_settings, write_sweep
from transeg.tools.sweep.results import sweep_results, write_results
from transeg.tools.sweep.sweep_folder import Sweep, definition_path, is_sweep
from transeg.tools.sweep.work import run_cells


def run_sweep(
    path: Path,
    named: Mapping[str, Any],
    registry: Registry,
    console: Console,
    *,
    config: Path | None,
    devices: Sequence[str],
    jobs: int,
    retry: bool,
    skip_unfit: bool,
    dry_run: bool,
    cluster: Cluster | None = None,
) -> Sweep:
    """Define a sweep, or go on with one, and train what is left of it.

    Args:
        path: of its folder.
        named: see :func:`~transeg.tools.sweep.definition.sweep_settings`; a folder alone goes on with what is there.
        registry: where components come from.
        console: for progress.
        config: an experiment file, under the options.
        devices: that cells are trained on, side by side; a GPU where there is one if none is named.
        jobs: cells at a time on each.
        retry: whether cells that have failed are begun once more.
        skip_unfit: whether combinations that cannot be trained are left out.
        dry_run: whether nothing is to be written.
        cluster: a scheduler whose jobs train; None for processes of this machine.

    Returns:
        The sweep; ``results.json`` in its folder says what has become of it.

    Raises:
        UsageError: it cannot begin.
        TransegError: a signal ended it.
    """
    check_not_launched()
    settings = sweep_settings(named, config, registry)
    if settings == {"sweep": {}} and is_sweep(path):
        settings = read_settings(definition_path(path))
    places = pick_places(devices, settings, cluster)
    settings.pop("device", None)
    made = define_sweep(path, settings, registry, console, device=places[0], skip_unfit=skip_unfit)
    if dry_run:
        return made
    write_sweep(made, settings, registry, places[0])
    if train_sweep(made, registry, console, devices=places * jobs, retry=retry, cluster=cluster):
        raise TransegError(f"Stopped. Go on with: toolkit sweep {path}")
    return made


def check_not_launched() -> None:
    """Whether this process may start others.

    Raises:
        UsageError: it is one of several itself.
    """
    if launched_rank_and_world_size()[1] > 1:
        raise UsageError("A sweep starts each cell's process itself; name several with --device rather than torchrun.")


def pick_places(devices: Sequence[str], settings: Settings, cluster: Cluster | None = None) -> list[str]:
    """The devices that cells are trained on, side by side.

    Args:
        devices: that the user names; the experiment's, or a GPU where there is one, if none.
        settings: of the experiment.
        cluster: where they are; None for this machine.

    Raises:
        UsageError: one of them is not there.
    """
    if cluster is not None:  # this machine need not have what its jobs have
        for name in devices:
            check_device_name(name)
        return [*devices] or [cluster.device]
    return [pick_device(name) for name in devices or [settings.get("device", "auto")]]


def train_sweep(
    sweep: Sweep,
    registry: Registry,
    console: Console,
    *,
    devices: Sequence[str],
    retry: bool,
    cluster: Cluster | None = None,
) -> bool:
    """Train what is left of a sweep whose folder is written, and write what has come of it.

    Args:
        sweep: the sweep.
        registry: where components come from.
        console: for progress.
        devices: see :func:`~transeg.tools.sweep.work.run_cells`.
        retry: likewise.
        cluster: a scheduler whose jobs train, one for each of the devices; None for processes of this machine.

    Returns:
        Whether a signal ended it.
    """
    if cluster is not None:
        workers, device = len(devices), devices[0]
        run_on_cluster(sweep, registry, console, cluster, device=device, workers=workers, retry=retry)
        interrupted = False
    else:
        interrupted = run_cells(sweep, registry, console, devices=devices, retry=retry)
    write_results(sweep.path, sweep_results(sweep, all_rows(registry)))
    return interrupted
