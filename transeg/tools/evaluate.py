"""The command `toolkit evaluate`, imported when it is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from transeg.core.registry import Registry
from transeg.tools.common.console import talk
from transeg.tools.common.options import (
    as_json,
    device,
    direction,
    flips,
    split,
    translate_with,
    window,
    with_counting,
    with_registry,
)
from transeg.tools.common.results import show_measured, show_quality


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--test", "tests", multiple=True, metavar="DATA", help="Labelled images; by default those of the run.")
@split
@translate_with
@direction
@window
@flips
@device
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), metavar="FOLDER", help="For the CSV files; by default in RUN."
)
@click.option("--features", metavar="NAME:FILE|RUN", help="Of which network FID and KID compare features.")
@click.option("--lpips", type=click.Path(path_type=Path), metavar="FILE", help="AlexNet's weights, for LPIPS.")
@click.option(
    "--consistency",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="A run whose segmenter should find again what images were made from.",
)
@with_counting
@as_json
@with_registry
def evaluate(
    registry: Registry,
    run_dir: Path,
    as_json: bool,
    features: str | None,
    lpips: Path | None,
    consistency: Path | None,
    **named: Any,
) -> None:
    """Measure what RUN has learned on labelled images.

    Prints a table over the test sets, and writes a CSV file with a line for each image. Images that a generator makes
    are compared with their true counterparts (SSIM, PSNR, L1, LPIPS), as a set with real images (FID, KID), and with
    what comes back where it has two directions.
    With --count, another table says how predicted and true numbers of objects agree; counts/ beside the CSV files has
    them and a Bland-Altman plot.
    """
    from transeg.core.api import evaluate_run
    from transeg.core.experiment.schema import QualityOptions

    quality = QualityOptions(features=features, lpips=lpips, segmenter=consistency)
    console = talk()
    metrics, judged, out = evaluate_run(run_dir, registry, console, quality=quality, **named)
    if console.quiet:
        return
    if as_json:
        click.echo(json.dumps({"tests": metrics, "quality": judged}, indent=2))
        return
    if metrics:
        show_measured(metrics, out, Console())
    if judged:
        show_quality(judged, Console())
