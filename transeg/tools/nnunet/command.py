"""The commands that drive nnU-Net, imported when one of them is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from transeg.core.errors import Failures
from transeg.core.registry import Registry
from transeg.tools.common import options as common
from transeg.tools.common.console import stderr_console
from transeg.tools.common.result_tables import show_measured
from transeg.tools.common.shell_completion import complete_components

fold = click.Choice(["0", "1", "2", "3", "4", "all"])


@click.group()
def nnunet() -> None:
    """Train and use nnU-Net itself (Isensee et al., Nature Methods 2021).

    It needs: pip install 'transeg[nnunet]'. To train its networks as one of ours, and with a generator, say
    `toolkit run --segmenter nnunet`.
    """


@nnunet.command(cls=common.CommandWithSettings)
@click.argument("data", metavar="DATA")
@common.out
@common.assignments("Set an option of the datasets, such as masks=labels.")
@common.repeatable("--fold", "wanted", None, "Fold to train; by default 0.", type=fold)
@click.option(
    "--planner",
    default="ExperimentPlanner",
    type=click.Choice(["ExperimentPlanner", "nnUNetPlannerResEncM", "nnUNetPlannerResEncL", "nnUNetPlannerResEncXL"]),
    help="Planner of nnU-Net; by default ExperimentPlanner.",
)
@click.option("--configuration", default="2d", metavar="NAME", help="Configuration of nnU-Net; by default 2d.")
@click.option("--epochs", default=1000, type=common.COUNT, metavar="N", help="Epochs to train; by default 1000.")
@click.option(
    "--iterations", default=250, type=common.COUNT, metavar="N", help="Iterations of an epoch; by default 250."
)
@common.device
@common.as_json
@common.with_registry
def train(registry: Registry, data: str, wanted: tuple[str, ...], as_json: bool, out: Path, **named: Any) -> None:
    """Train nnU-Net on DATA (NAME, NAME:FOLDER or NAME:DOMAIN:FOLDER).

    Writes the dataset as nnU-Net reads it, checks, plans and preprocesses it, trains the folds one after another, and
    measures the images that each fold kept back. Training and validation images are divided into five folds; a group
    (subject, slide) stays in one. Everything is below --out, and the same command goes on where it was interrupted.

    \b
    toolkit nnunet train axon:SEM:/data/axon -o runs/nnunet --fold 0 --fold 1
    """
    from transeg.tools.nnunet.training import train_nnunet

    metrics = train_nnunet(data, registry, stderr_console(), out=out, wanted=wanted or ("0",), **named)
    if as_json:
        click.echo(json.dumps({"folds": metrics}, indent=2))
    elif metrics:
        show_measured(metrics, out / "measured", Console())


@nnunet.command(cls=common.CommandWithSettings)
@click.argument("model_folder", metavar="MODEL", type=common.PATH)
@click.argument("images", metavar="[IMAGES]", required=False, type=common.PATH)
@common.out
@common.repeatable("--fold", "folds", None, "Fold that predicts; by default all.", type=fold)
@click.option(
    "--checkpoint",
    default="final",
    type=click.Choice(["final", "best"]),
    help="Checkpoint of each fold; by default final.",
)
@common.repeatable("--test", "tests", "DATA", "Labelled images to measure on.", complete_components("dataset"))
@common.split
@common.assignments("Set an option of the datasets, such as masks=labels.")
@common.translate_with
@common.direction
@common.pixel_size
@common.rescale
@common.device
@common.as_json
@common.with_registry
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
    from transeg.tools.nnunet.predictor import predict_with_nnunet

    failures = Failures()
    count, metrics = predict_with_nnunet(
        model_folder, images, registry, stderr_console(), out=out, failures=failures, **named
    )
    if as_json:
        click.echo(json.dumps({"masks": count, "tests": metrics}, indent=2))
    elif metrics:
        show_measured(metrics, out, Console())
    else:
        Console().print(f"{count} masks in {out / 'masks'}, outlines in {out / 'overlays'}", highlight=False)
    failures.conclude("segmented")
