"""The command that trains a grid of combinations, imported when it is called."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape

from transeg.core.registry import Registry
from transeg.tools.common.comparison_tables import show_leaderboard
from transeg.tools.common.console import stderr_console
from transeg.tools.common.experiment_options import with_experiment
from transeg.tools.common.options import COUNT, PATH, as_json, cluster, cluster_options, repeatable, with_registry
from transeg.tools.common.shell_completion import complete_settings

if TYPE_CHECKING:
    from transeg.tools.sweep.sweep_folder import Cell, State, Sweep


@click.command()
@click.argument("folder", metavar="SWEEP", type=PATH)
@with_experiment(axes=True)
@repeatable(
    "--axis",
    "axes",
    "OPTION=VALUE,...",
    "Axis over values of any option, such as train.lr=1e-3,1e-4.",
    complete_settings,
)
@click.option(
    "--device",
    "devices",
    multiple=True,
    metavar="NAME",
    help="Device to train on: cpu, cuda or cuda:1; by default a GPU. Repeat it to use several side by side.",
)
@click.option(
    "--jobs", default=1, type=COUNT, metavar="N", help="Cells to train at a time on each device; by default 1."
)
@cluster
@cluster_options
@click.option("--retry", is_flag=True, help="Train cells again that have failed.")
@click.option("--skip-unfit", is_flag=True, help="Leave out combinations that do not fit together.")
@click.option("--status", is_flag=True, help="Show which cells are done, running, failed and waiting, and stop.")
@click.option("--dry-run", is_flag=True, help="Check every combination, show the cells and stop.")
@as_json
@with_registry
def sweep(
    registry: Registry,
    folder: Path,
    status: bool,
    dry_run: bool,
    as_json: bool,
    more: tuple[str, ...],
    cluster: str | None,
    cluster_options: tuple[str, ...],
    **named: Any,
) -> None:
    """Train every combination of what is repeated, and rank the results.

    Each is a cell: a run folder in SWEEP/cells, trained in a process of its own. The [sweep] table of an experiment
    file has axes, too. The same command, or SWEEP alone, goes on after an interruption, and values may be added to
    axes: what is done stays, what was interrupted goes on from its checkpoint, what has failed waits for --retry.
    Several processes may work on one SWEEP; with --cluster slurm they are jobs, which are queued again
    when their time is up. Seeds and folds are averaged in the leaderboard; results.json and sweep.csv
    keep it.

    \b
    toolkit sweep runs/sweep --segmenter unet --segmenter hardnet --seed 0 --seed 1 --source kvasir:/data/kvasir-seg
    toolkit sweep runs/lr --segmenter unet --axis train.lr=1e-3,1e-4 --folds 5 --device cuda:0 --device cuda:1
    toolkit sweep runs/sweep --status
    """
    from transeg.tools.sweep.sweep_folder import read_sweep

    named["assignments"] += more
    how = {key: named.pop(key) for key in ("config", "devices", "jobs", "retry", "skip_unfit")}
    if status:
        _show_status(read_sweep(folder), as_json)
        return
    from transeg.tools.common.scheduler import cluster_from_options
    from transeg.tools.sweep.execution import run_sweep

    where = cluster_from_options(cluster, cluster_options)
    made = run_sweep(folder, named, registry, stderr_console(), dry_run=dry_run, cluster=where, **how)
    if dry_run:
        _show_status(made, as_json)
        return
    _show_results(made, registry, as_json)


def _show_status(made: Sweep, as_json: bool) -> None:
    from transeg.tools.sweep.live import build_table, cell_states, format_counts

    states = cell_states(made)
    if as_json:
        click.echo(json.dumps({"cells": [_about(cell, states[cell.name]) for cell in made.cells]}, indent=2))
        return
    console = Console()
    console.print(build_table(made.cells, states))
    console.print(format_counts(states), highlight=False)
    for name, reason in made.left_out.items():
        console.print(f"[yellow]left out[/]  {escape(name)}: {escape(reason)}", highlight=False)


def _about(cell: Cell, state: State) -> dict[str, Any]:
    return {"name": cell.name, "values": cell.values, "state": state, "reason": cell.reason()}


def _show_results(made: Sweep, registry: Registry, as_json: bool) -> None:
    """The leaderboard; exits with 1 where a cell has failed."""
    from transeg.core.evaluation.metrics.table import all_rows
    from transeg.tools.sweep.live import cell_states, format_counts
    from transeg.tools.sweep.results import sweep_results

    rows, console = all_rows(registry), Console()
    found = sweep_results(made, rows)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        if found["leaderboard"] is not None:
            show_leaderboard(found["leaderboard"], console, rows)
        console.print(f"\n{format_counts(cell_states(made))}: {made.path}", highlight=False, soft_wrap=True)
    failed = [cell for cell in found["cells"] if cell["state"] == "failed"]
    for cell in failed:
        Console(stderr=True).print(f"[red]failed[/]  {cell['name']}: {escape(cell['reason'])}", highlight=False)
    if failed:
        sys.exit(1)
