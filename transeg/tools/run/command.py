"""The command `toolkit run`, imported when it is called."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from transeg.core.distributed.ranks import launched
from transeg.core.registry import Registry
from transeg.tools.common.console import talk
from transeg.tools.common.options import as_json, device, with_registry
from transeg.tools.common.results import show_results
from transeg.tools.run.plan import show_loading, show_plan


@click.command()
@click.option("--generator", metavar="NAME", help="Translates images; see `toolkit list generators`.")
@click.option("--segmenter", metavar="NAME", help="Segments images; see `toolkit list segmenters`.")
@click.option("--loss", metavar="SUM", help="What the segmenter minimises, such as dice+0.5*bce.")
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    metavar="TEACHER",
    help="A run, or SEGMENTER:WEIGHTS, to distil from; repeatable.",
)
@click.option(
    "--distill",
    "distillers",
    multiple=True,
    metavar="LOSS",
    help="How, such as kl:temperature=4,weight=1 or at:layer=NAME; by default kl. Repeatable.",
)
@click.option("--source", metavar="DATA", help="Labelled images: NAME, NAME:FOLDER or NAME:DOMAIN:FOLDER.")
@click.option("--target", metavar="DATA", help="Unlabelled images of the domain where the model must work.")
@click.option("--synthetic", metavar="DATA", help="Synthetic labelled images to learn from beside the source.")
@click.option(
    "--val", metavar="DATA", help="Labelled images that select the best checkpoint; without, the source's do."
)
@click.option("--test", "tests", multiple=True, metavar="DATA", help="Labelled images to test on; repeatable.")
@click.option(
    "--strategy",
    metavar="NAME",
    help="supervised, translation, sequential or joint; by default what follows from the parts that are named.",
)
@click.option("--folds", type=click.IntRange(min=2), metavar="K", help="Cross-validate: K segmenters, then as one.")
@click.option("--baseline", metavar="NAME", help="source-only: also train on untranslated source images; or none.")
@click.option("--run-dir", type=click.Path(path_type=Path), metavar="FOLDER", help="Where to; by default in runs/.")
@click.option(
    "--tracker",
    "trackers",
    multiple=True,
    type=click.Choice(["tensorboard", "wandb", "mlflow"]),
    help="Notes scalars and pictures in the run folder and sends nothing; by default tensorboard. Repeatable.",
)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="An experiment file (TOML).")
@click.option(
    "--set", "assignments", multiple=True, metavar="OPTION=VALUE", help="Options, such as train.lr=1e-4 data.tile=128."
)
@click.argument("more", metavar="", nargs=-1)  # --set a=1 b=2
@click.option("--seed", type=click.IntRange(min=0), help="Of everything random; by default 0.")
@device
@click.option(
    "--precision",
    type=click.Choice(["fp32", "tf32", "bf16", "fp16"]),
    help="In which training computes; by default fp32, on a GPU tf32.",
)
@click.option(
    "--compile/--no-compile",
    default=None,
    help="Train with networks that torch.compile has translated, or not; by default not.",
)
@click.option(
    "--devices",
    type=click.IntRange(min=1),
    metavar="N",
    help="Train in so many processes here, each on a GPU of its own.",
)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --run-dir.")
@click.option("--dry-run", is_flag=True, help="Check and build everything, print the plan and stop.")
@as_json
@with_registry
def run(
    registry: Registry,
    run_dir: Path | None,
    config: Path | None,
    resume: bool,
    dry_run: bool,
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

    console = talk()
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
    if count > 1 and not (launched() or dry_run):
        from transeg.core.pipeline.processes import check_gpus, run_in

        check_gpus(count, request.experiment.device)
        where = [] if run_dir else ["--run-dir", str(request.folder.path)]
        begin = sys.argv.index("run") + 1
        sys.exit(run_in(count, [*sys.argv[1:begin], *where, *sys.argv[begin:]], request.folder))
    prepared = prepare(request, registry, dry_run=dry_run)
    if not console.quiet and not (as_json and dry_run):
        show_plan(prepared, console if as_json else Console())
    if dry_run:
        if as_json:
            click.echo(json.dumps(prepared.plan(), indent=2))
        return
    metrics = launch(prepared, registry, console)
    if console.quiet:
        return
    if as_json:
        click.echo(json.dumps({**metrics, "run_dir": str(prepared.folder.path)}, indent=2))
    else:
        show_results(metrics, prepared.folder, Console())
