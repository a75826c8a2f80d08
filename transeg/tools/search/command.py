"""The command that searches for options, imported when it is called."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from transeg.core.errors import UsageError
from transeg.core.optional_packages import require
from transeg.core.registry import Registry
from transeg.tools.common.console import stderr_console
from transeg.tools.common.experiment_options import with_experiment
from transeg.tools.common.options import (
    COUNT,
    PATH,
    as_json,
    cluster,
    cluster_options,
    device,
    repeatable,
    with_registry,
)
from transeg.tools.common.shell_completion import complete_settings

if TYPE_CHECKING:
    from transeg.tools.search.plan import Plan

SHOWN = 10
"""Trials in the table of what was found."""
CUT = "…"
"""Stands for the front of a long name."""
LEAST = 20
"""Characters for options beside a trial."""


@click.command()
@with_experiment(several=False)
@device
@repeatable(
    "--space",
    "spaces",
    "OPTION=SPACE",
    "Option to search and its values, such as train.lr=1e-5..1e-2:log, segmenter.base=16,32 or segmenter=unet,resunet.",
    complete_settings,
)
@click.option("--preset", metavar="NAME", help="Published space to search: zh320 or zh320-unetpp.")
@click.option("--trials", type=COUNT, metavar="N", help="Trials of all workers together; by default 50.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Time after which no trial begins.",
)
@click.option(
    "--sampler",
    type=click.Choice(["tpe", "random", "qmc", "grid", "gp"]),
    help="Sampler that chooses the values of a trial; by default tpe.",
)
@click.option(
    "--pruner",
    type=click.Choice(["median", "hyperband", "successive-halving", "none"]),
    help="Pruner that stops hopeless trials early; by default median.",
)
@click.option("--metric", metavar="NAME", help="Validation metric that judges trials; by default dice.")
@click.option(
    "--search-dir",
    "folder",
    type=PATH,
    metavar="FOLDER",
    help="Folder of the search, new or to go on with; by default in searches/.",
)
@click.option(
    "--storage",
    default="",
    envvar="TRANSEG_STORAGE",
    metavar="URL",
    help="Database that workers on several machines share, such as postgresql://USER@HOST/DATABASE, by default "
    "TRANSEG_STORAGE, else a SQLite file in the folder of the search.",
)
@cluster
@cluster_options
@click.option("--jobs", type=COUNT, metavar="N", help="Jobs of the scheduler that work side by side; by default 1.")
@click.option("--study", "name", metavar="NAME", help="Name of the study in the database; by default the folder's.")
@click.option("--show", "only_show", is_flag=True, help="Show what the search has found so far, and stop.")
@click.option("--test-best", is_flag=True, help="Measure the best trial's network on the test sets in the end.")
@click.option("--dry-run", is_flag=True, help="Check everything, print the plan and stop.")
@as_json
@with_registry
def search(
    registry: Registry,
    config: Path | None,
    folder: Path | None,
    spaces: tuple[str, ...],
    preset: str | None,
    storage: str,
    cluster: str | None,
    cluster_options: tuple[str, ...],
    jobs: int | None,
    only_show: bool,
    test_best: bool,
    timeout: float | None,
    dry_run: bool,
    as_json: bool,
    more: tuple[str, ...],
    **named: Any,
) -> None:
    """Search for options with which an experiment segments or translates better.

    Optuna chooses, each trial trains in a run folder of its own and is judged by its validation images; test images are
    not looked at. What to choose from stands in the [search] table of the experiment file, with options in quotes:
    "train.lr" = {low = 1e-5, high = 1e-2, log = true}. The same command goes on where it was interrupted, and helps
    where it is started beside itself; with --cluster slurm it is started in jobs. The best experiment is left as
    best.toml, for `toolkit run --config`.

    \b
    toolkit search --config mine.toml --search-dir searches/mine --trials 50
    toolkit search --segmenter unet --source kvasir:/data/kvasir-seg --space train.lr=1e-5..1e-2:log
    toolkit search --search-dir searches/mine --show
    """
    require("optuna", "search", "toolkit search")
    from transeg.tools.search import search as core
    from transeg.tools.search.jobs import jobs_from_options
    from transeg.tools.search.plan import plan_search

    console = stderr_console()
    study = {key: named.pop(key) for key in ("name", "trials", "sampler", "pruner", "metric")}
    if only_show:
        if folder is None:
            raise UsageError("Say which search to show: --search-dir FOLDER.")
        found = core.show_search(folder, registry, storage=storage, name=study["name"])
    else:
        named["assignments"] += more
        where = jobs_from_options(cluster, cluster_options, jobs, device=named["device"], timeout=timeout)
        if where is not None:
            named["device"] = "cpu"  # this machine need not have what its jobs have
        made = plan_search(
            named, registry, config=config, folder=folder, spaces=spaces, preset=preset, storage=storage, study=study
        )
        made = made if where is None else where.fitted(made)
        if not as_json:
            _show_plan(made, Console())
        if dry_run:
            if as_json:
                click.echo(json.dumps(made.document(), indent=2))
            return
        found = core.run_search(made, registry, console, timeout=timeout, jobs=where)
    stopped = found.pop("interrupted", False)
    if test_best and not stopped:
        found["tests"] = core.test_best(found, registry, console)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        _show_found(found, Console())
    if stopped:
        from transeg.core.training.train import InterruptedRunError

        raise InterruptedRunError(f"Stopped. Go on with: toolkit search --search-dir {found['search_dir']}")


def _show_plan(made: Plan, console: Console) -> None:
    """What is searched, and how."""
    from transeg.tools.search.storage import redact_url

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("option", style="cyan", overflow="fold")
    table.add_column("is chosen from", overflow="fold")
    for option, domain in made.space.items():
        table.add_row(escape(option), escape(str(domain)))
    console.print(table)
    study = made.study
    better = "most" if made.maximize else "least"
    console.print(
        f"\n{study.trials} trials for the {better} {study.metric} in validation; sampler {study.sampler}, pruner "
        f"{study.pruner}.\nStudy {study.name} in {redact_url(made.storage)}; trials in {made.folder.trials}\n",
        highlight=False,
    )


def _show_found(found: Mapping[str, Any], console: Console) -> None:
    """The best trials, what failed, what mattered, and where everything is."""
    table = Table(title="Best trials", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("trial", justify="right")
    table.add_column(found["metric"], justify="right")
    table.add_column("state")
    table.add_column("options")
    for row in found["trials"][:SHOWN]:
        value = "" if row["value"] is None else f"{row['value']:.4f}"
        table.add_row(str(row["number"]), value, row["state"], _Chosen(row["options"]))
    console.print(table)
    console.print(", ".join(f"{count} {state}" for state, count in found["counts"].items() if count), highlight=False)
    for row in found["trials"]:
        if row["failure"]:
            console.print(f"[red]trial {row['number']} failed:[/] {escape(row['failure'])}", highlight=False)
    if found["importances"]:
        shares = Table(title="\nWhat mattered", title_justify="left", box=None, pad_edge=False, header_style="bold")
        shares.add_column("option", style="cyan", overflow="fold")
        shares.add_column("share", justify="right")
        for option, share in found["importances"].items():
            shares.add_row(escape(option), f"{share:.2f}")
        console.print(shares)
    for name, scores in found.get("tests", {}).items():
        console.print(f"\nTested on {name}: dice {_said(scores['dice'])}, iou {_said(scores['iou'])}", highlight=False)
    if found["best"] is not None:
        console.print(f"\nTrain the best with: toolkit run --config {found['search_dir']}/best.toml", highlight=False)
        console.print(f"Files: {', '.join(found['files'])}", highlight=False)


@dataclass(frozen=True)
class _Chosen:
    """Options with their values, in lines that end between two of them; names that are too long lose their fronts.

    Args:
        values: by option.
    """

    values: Mapping[str, Any]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Fit the width of a column."""
        said = [_cut(option, f"={_said(value)},", options.max_width) for option, value in self.values.items()]
        yield Text(" ".join(said).removesuffix(","), overflow="fold")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """As wide as may be: how much a name must lose follows from it."""
        return Measurement(min(LEAST, options.max_width), options.max_width)


def _cut(option: str, rest: str, width: int) -> str:
    """An option, without as many of the tables that it stands in as it takes to fit."""
    short = option
    while len(short) + len(rest) > width and "." in short.removeprefix(CUT):
        short = CUT + short.removeprefix(CUT).partition(".")[2]
    return short + rest


def _said(value: Any) -> str:
    return "not set" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
