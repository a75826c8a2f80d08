"""From what a user asks for to a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from transeg.core.builders.looked_at import ClassShares, look_at_few
from transeg.core.device import keep_freed_memory
from transeg.core.distributed.collectives import join_ranks, leave_ranks, rank_and_world_size, rank_device
from transeg.core.errors import UsageError
from transeg.core.experiment.planned_stages import PlannedStage, plan_stages
from transeg.core.experiment.request import RunRequest
from transeg.core.experiment.schema import Experiment
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.core.training.parts import Networks, Parts, build_parts
from transeg.core.training.precision import precision_warning
from transeg.core.training.trackers import check_installed

if TYPE_CHECKING:
    from mmengine.hooks import Hook


@dataclass(frozen=True)
class Prepared:
    """A run that could begin now."""

    experiment: Experiment
    stages: list[PlannedStage]
    parts: Parts
    networks: Networks
    folder: RunFolder
    resume: bool
    class_shares: Mapping[str, ClassShares] = field(default_factory=dict)

    def plan(self) -> dict[str, Any]:
        """The whole experiment, how many images and parameters it has, and where it goes."""
        return {
            "experiment": self.experiment.model_dump(mode="json"),
            "images": self.parts.images(),
            "class_shares": {label: asdict(shares) for label, shares in self.class_shares.items()},
            "parameters": self.networks.sizes(),
            "stages": [
                {
                    "name": each.stage.name,
                    "trains": list(each.stage.trains),
                    "begins": {network: f"{place}/{kind}" for network, (place, kind) in each.stage.begins.items()},
                    "uses": list(each.stage.uses),
                    "trainings": each.trainings(),
                }
                for each in self.stages
            ],
            "run_dir": str(self.folder.path),
        }


def prepare(request: RunRequest, registry: Registry, *, dry_run: bool) -> Prepared:
    """Build everything that a run names.

    Args:
        request: what was asked for.
        registry: where components come from.
        dry_run: whether nothing is to be written.

    Raises:
        UsageError: anything that keeps the run from beginning.
    """
    join_ranks()
    if not dry_run and request.experiment.devices != rank_and_world_size()[1]:
        raise UsageError(
            f"The experiment is for {request.experiment.devices} processes; start it with `toolkit run`, or say "
            "--devices 1."
        )
    check_installed(request.experiment.tracking)
    device = rank_device(torch.device(request.experiment.device))  # before anything is put there, such as the judge
    own = request.experiment.model_copy(update={"device": str(device)})
    parts, networks = build_parts(own, registry)
    stages = plan_stages(request.experiment, registry)
    labelled = {"source": parts.source, "synthetic": parts.synthetic, **parts.tests}
    shares = look_at_few({label: dataset for label, dataset in labelled.items() if dataset is not None}, "source")
    if not dry_run and rank_and_world_size()[0] == 0:
        request.folder.create()
    return Prepared(request.experiment, stages, parts, networks, request.folder, request.resume, shares)


def launch(
    prepared: Prepared,
    registry: Registry,
    console: Console,
    own_hooks: Callable[[PlannedStage], Sequence[Hook]] = lambda _: (),
    shared: Path | None = None,
) -> dict[str, Any]:
    """Run what was prepared, and give back what ``metrics.json`` holds.

    Args:
        prepared: the run.
        registry: where components come from.
        console: for progress.
        own_hooks: makes those that the trainings of a stage get from the caller, besides the plugins'.
        shared: where runs of a sweep note which trainings they have in common; None for a run by itself.
    """
    from transeg.core.pipeline.run import Run
    from transeg.core.training.build import check_batch_norms

    device = rank_device(torch.device(prepared.experiment.device))
    if prepared.experiment.train.sync_batch_norm and rank_and_world_size()[1] > 1:
        check_batch_norms(prepared.networks.generator, prepared.networks.segmenter)
    if device.type == "cpu":
        keep_freed_memory()
    experiment = prepared.experiment.model_copy(update={"device": str(device)})
    relay, failures = registry.plugin_hooks()
    slow = precision_warning(experiment.train.precision, device)
    for warning in (*failures, *([slow] if slow else [])):
        console.print(f"[yellow]Warning:[/] {warning}", highlight=False)

    def hooks(planned: PlannedStage) -> Sequence[Hook]:
        of_plugins = [hook for made in relay.transeg_runner_hooks(experiment=planned.experiment) for hook in made]
        return [*of_plugins, *own_hooks(planned)]

    parts, networks = prepared.parts, prepared.networks
    run = Run(prepared.folder, experiment, parts, networks, registry, console, prepared.resume, hooks, shared)
    metrics = run()
    leave_ranks()
    return metrics
