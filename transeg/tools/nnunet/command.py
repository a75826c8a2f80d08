"""The commands that drive nnU-Net, imported when one of them is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from transeg.core.registry import Registry
from transeg.tools.common.console import talk
from transeg.tools.common.options import as_json, direction, pixel_size, rescale, translate_with, with_registry
from transeg.tools.common.results import show_measured

fold = click.Choice(["0", "1", "2", "3", "4", "all"])
device = click.option("--device", metavar="NAME", help="cpu, cuda or cuda:1; by default a GPU where there is one.")
assignments = click.option(
    "--set", "assignments", multiple=True, metavar="OPTION=VALUE", help="An option of the datasets."
)


@click.group()
def nnunet() -> None:
    """Train and use nnU-Net itself (Isensee et al., Nature Methods 2021).

    It needs: pip install 'transeg[nnunet]'. To train its networks as one of ours, and with a generator, say
    `toolkit run --segmenter nnunet`.
    """


@nnunet.command()
@click.argument("data", metavar="DATA")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="Where to.")
@assignments
@click.option("--fold", "wanted", multiple=True, type=fold, help="Which to train; by default 0. Repeatable.")
@click.option(
    "--planner",
    default="ExperimentPlanner",
    type=click.Choice(["ExperimentPlanner", "nnUNetPlannerResEncM", "nnUNetPlannerResEncL", "nnUNetPlannerResEncXL"]),
    help="Of nnU-Net's; by default ExperimentPlanner.",
)
@click.option("--configuration", default="2d", metavar="NAME", help="Of its plans; by default 2d.")
@click.option("--epochs", default=1000, type=click.IntRange(min=1), metavar="N", help="By default 1000.")
@click.option(
    "--iterations", default=250, type=click.IntRange(min=1), metavar="N", help="In each epoch; by default 250."
)
@device
@as_json
@with_registry
def train(registry: Registry, data: str, wanted: tuple[str, ...], as_json: bool, out: Path, **named: Any) -> None:
    """Train nnU-Net on DATA (NAME, NAME:FOLDER or NAME:DOMAIN:FOLDER).

    Writes the dataset as nnU-Net reads it, checks, plans and preprocesses it, trains the folds one after another, and
    measures the images that each fold kept back. Training and validation images are divided into five folds; a group
    (subject, slide) stays in one. Everything is below --out, and the same command goes on where it was interrupted.

    \b
    toolkit nnunet train axon:SEM:/data/axon -o runs/nnunet --fold 0 --fold 1
    """
    from transeg.tools.nnunet.training import train

    metrics = train(data, registry, talk(), out=out, wanted=wanted or ("0",), **named)
    if as_json:
        click.echo(json.dumps({"folds": metrics}, indent=2))
    elif metrics:
        show_measured(metrics, out / "measured", Console())


@nnunet.command()
@click.argument("model_folder", metavar="MODEL", type=click.Path(path_type=Path))
@click.argument("images", metavar="[IMAGES]", required=False, type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="Where to.")
@click.option("--fold", "folds", multiple=True, type=fold, help="By default all that are there. Repeatable.")
@click.option(
    "--checkpoint", default="final", type=click.Choice(["final", "best"]), help="Of each fold; by default final."
)
@click.option("--test", "tests", multiple=True, metavar="DATA", help="Labelled images, to measure on. Repeatable.")
@click.option("--split", type=click.Choice(["train", "val", "test", "all"]), help="Of the test sets; by default test.")
@assignments
@translate_with
@direction
@pixel_size
@rescale
@device
@as_json
@with_registry
def predict(
    registry: Registry, model_folder: Path, images: Path | None, as_json: bool, out: Path, **named: Any
) -> None:
    """Segment IMAGES, a file or a folder, with MODEL; or measure it with --test.

    MODEL is what `toolkit nnunet train` or nnU-Net itself has written. Its predictor does the work: windows that
    overlap by half, blended and mirrored, and the folds averaged. Writes masks and outlines as `toolkit predict` does.
    nnU-Net would run code that somebody has hidden in a checkpoint; here such a file is refused.

    \b
    toolkit nnunet predict runs/nnunet photos -o masks
    toolkit nnunet predict runs/nnunet --test axon:SEM:/data/axon -o measured
    """
    from transeg.tools.nnunet.prediction import predict

    count, metrics = predict(model_folder, images, registry, talk(), out=out, **named)
    if as_json:
        click.echo(json.dumps({"masks": count, "tests": metrics}, indent=2))
    elif metrics:
        show_measured(metrics, out, Console())
    else:
        Console().print(f"{count} masks in {out / 'masks'}, outlines in {out / 'overlays'}", highlight=False)
