"""The command that trains the rungs of a ladder, imported when it is called."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from transeg.core.errors import UsageError
from transeg.core.registry import Registry
from transeg.tools.common.console import stderr_console
from transeg.tools.common.experiment_options import with_experiment
from transeg.tools.common.options import COUNT, PATH, as_json, cluster, cluster_options, repeatable, with_registry
from transeg.tools.ladder.rungs import ADAPTED, INVERTED, RUNGS, STRONG


@click.command()
@with_experiment(several=False)
@click.option(
    "--rungs",
    metavar="NAME,...",
    help=f"Rungs to train: {', '.join(RUNGS)}, few=N, each with {INVERTED}, {STRONG} and {' or '.join(ADAPTED)} "
    f"behind it, in this order, if wanted; by default all but stain, sequential and few=N.",
)
@click.option("--seeds", type=COUNT, metavar="N", help="Number of seeds, from --seed on; by default 1.")
@click.option(
    "--ladder-dir",
    "folder",
    type=PATH,
    metavar="FOLDER",
    help="Folder of the ladder, new or to go on with; by default in ladders/.",
)
@repeatable("--device", "devices", "NAME", "Device to train on: cpu, cuda or cuda:1; by default a GPU.")
@click.option(
    "--jobs", default=1, type=COUNT, metavar="N", help="Rungs to train at a time on each device; by default 1."
)
@cluster
@cluster_options
@click.option("--retry", is_flag=True, help="Train rungs again that have failed.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Check every rung, time a few steps and validation images of it, show what would be trained in how many "
    "hours, and stop.",
)
@as_json
@with_registry
def ladder(
    registry: Registry,
    config: Path | None,
    folder: Path | None,
    rungs: str | None,
    seeds: int | None,
    devices: tuple[str, ...],
    jobs: int,
    retry: bool,
    dry_run: bool,
    as_json: bool,
    more: tuple[str, ...],
    cluster: str | None,
    cluster_options: tuple[str, ...],
    **named: Any,
) -> None:
    """Say what closes how much of the gap to target labels.

    Rungs differ in what they learn from and in nothing else: source-only, strong augmentation, translations without
    training and with it, pseudo-labels, a few target labels, and all of them (oracle). Each is tested on the same
    images; the table gives its share of the gap from source-only to oracle. A ladder is a sweep: the same command, or
    --ladder-dir alone, goes on after an interruption, and `toolkit sweep FOLDER --status` says how far it is.

    \b
    toolkit ladder --source folder:/data/renders --target folder:/data/video --test folder:/data/labelled --dry-run
    toolkit ladder --ladder-dir ladders/mine --rungs fda,joint,few=10,oracle --seeds 3 --config mine.toml
    """
    from transeg.tools.common.scheduler import cluster_from_options
    from transeg.tools.ladder.ladder import define_ladder, run_ladder
    from transeg.tools.ladder.ladder_tables import show_ladder, show_ladder_plan

    console = stderr_console()
    named["assignments"] += more
    names = [] if rungs is None else rungs.split(",")
    where = cluster_from_options(cluster, cluster_options)
    if where is not None and dry_run:
        raise UsageError("--dry-run times steps on this machine, not on those of the cluster; leave --cluster out.")
    made = define_ladder(
        folder,
        named,
        registry,
        console,
        config=config,
        rungs=names,
        seeds=seeds,
        devices=devices,
        jobs=jobs,
        cluster=where,
    )
    if dry_run:
        from transeg.tools.ladder.estimate import estimate_hours

        hours = estimate_hours(made, registry, console)
        if as_json:
            click.echo(json.dumps({"hours": asdict(hours), "left_out": made.left_out}, indent=2))
        else:
            show_ladder_plan(made, Console(), hours)
        return
    if not as_json:
        show_ladder_plan(made, console)
    found = run_ladder(made, registry, console, retry=retry)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        show_ladder(found, Console())
        Console().print(f"\nFolder: {made.sweep.path}", highlight=False, soft_wrap=True)
        Console().print(f"Pictures: toolkit report {made.sweep.path}", highlight=False, soft_wrap=True)
    failed = [cell for cell in found["cells"] if cell["state"] == "failed"]
    for cell in failed:
        Console(stderr=True).print(f"[red]failed[/]  {cell['name']}: {escape(cell['reason'])}", highlight=False)
    if failed:
        sys.exit(1)
