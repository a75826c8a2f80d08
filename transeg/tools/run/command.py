"""The command `toolkit run`, imported when it is called."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from transeg.core.distributed.ranks import is_launched
from transeg.core.errors import UsageError
from transeg.core.evaluation.metrics.table import all_rows
from transeg.core.registry import Registry
from transeg.tools.common.console import stderr_console
from transeg.tools.common.experiment_options import with_experiment
from transeg.tools.common.options import COUNT, PATH, as_json, device, with_registry
from transeg.tools.common.result_tables import show_results
from transeg.tools.common.shell_completion import complete_run_folders
from transeg.tools.run.plan_tables import describe_times, show_loading, show_plan

if TYPE_CHECKING:
    from transeg.core.pipeline.launch import Prepared
    from transeg.core.pipeline.time_estimate import StageEstimate


@click.command()
@with_experiment()
@device
@click.option(
    "--precision",
    type=click.Choice(["fp32", "tf32", "bf16", "fp16"]),
    help="Precision of the arithmetic in training; by default fp32 on a CPU and tf32 on a GPU.",
)
@click.option(
    "--compile/--no-compile",
    default=None,
    help="Whether to train with networks compiled by torch.compile; by default not.",
)
@click.option(
    "--devices",
    type=COUNT,
    metavar="N",
    help="Number of processes on this machine, each with a GPU of its own; by default 1.",
)
@click.option(
    "--run-dir",
    type=PATH,
    metavar="FOLDER",
    shell_complete=complete_run_folders,
    help="Folder of the run; by default in runs/.",
)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --run-dir.")
@click.option("--dry-run", is_flag=True, help="Check and build everything, print the plan and stop.")
@click.option(
    "--timing/--no-timing",
    default=None,
    help="Whether a few steps of each stage are tried first, to say how long the run takes; by default they are where "
    "they are few beside the run's, but not with --dry-run.",
)
@click.option("--shared", type=PATH, hidden=True)
@as_json
@with_registry
def run(
    registry: Registry,
    run_dir: Path | None,
    config: Path | None,
    resume: bool,
    dry_run: bool,
    timing: bool | None,
    shared: Path | None,
    as_json: bool,
    more: tuple[str, ...],
    **named: Any,
) -> None:
    """Train, test and compare; the plan is printed first.

    \b
    toolkit run --generator cut --segmenter hardnet
    toolkit run --segmenter unet --source kvasir:/data/kvasir-seg --test etis:/data/etis
    toolkit run --generator cut --segmenter hardnet --source synth-colon:/data/synth \\
        --target kvasir:/data/kvasir-seg --test kvasir:/data/kvasir-seg
    """
    from transeg.core.experiment.request import read_request

    console = stderr_console()
    named["assignments"] += more
    request = read_request(
        named,
        registry,
        config=config,
        run_dir=run_dir,
        resume=resume,
        dry_run=dry_run,
        loading=lambda experiment: show_loading(experiment, console),
    )
    from transeg.core.pipeline.launch import launch, prepare

    count = request.experiment.devices
    if timing and count > 1:
        raise UsageError("Steps are timed in one process; leave --timing out, or say --devices 1.")
    if count > 1 and not (is_launched() or dry_run):
        from transeg.core.pipeline.processes import check_gpus, run_processes

        check_gpus(count, request.experiment.device)
        where = [] if run_dir else ["--run-dir", str(request.folder.path)]
        begin = sys.argv.index("run") + 1
        sys.exit(run_processes(count, [*sys.argv[1:begin], *where, *sys.argv[begin:]], request.folder))
    prepared = prepare(request, registry, dry_run=dry_run)
    plain = not console.quiet and not (as_json and dry_run)
    shown = console if as_json else Console()
    if plain:
        show_plan(prepared, registry, shown)
    asked = timing or (timing is None and plain and not dry_run and shared is None)
    times = _timed(prepared, registry, console, anyway=bool(timing)) if asked else None
    if plain and (times is not None or timing):
        shown.print(describe_times(times), highlight=False, soft_wrap=True)
    if dry_run:
        if as_json:
            seconds = None if times is None else {each.name: round(each.seconds, 1) for each in times}
            click.echo(json.dumps(prepared.plan() | ({"seconds": seconds} if timing else {}), indent=2))
        return
    metrics = launch(prepared, registry, console, shared=shared)
    if console.quiet:
        return
    if as_json:
        click.echo(json.dumps({**metrics, "run_dir": str(prepared.folder.path)}, indent=2))
    else:
        segments = prepared.experiment.segmenter is not None
        show_results(metrics, prepared.folder, Console(), all_rows(registry), segments=segments)


def _timed(prepared: Prepared, registry: Registry, console: Console, *, anyway: bool) -> list[StageEstimate] | None:
    """How long the stages take; None where that cannot be said or, if not to be timed anyway, is not worth its time."""
    from transeg.core.pipeline.time_estimate import estimate_times, is_worth_timing

    if not (anyway or is_worth_timing(prepared)):
        return None
    with console.status("Timing a few steps"):
        return estimate_times(prepared, registry)
