"""The command `toolkit evaluate`, imported when it is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from transeg.core.errors import Failures
from transeg.core.evaluation.metrics.table import all_rows
from transeg.core.registry import Registry
from transeg.tools.common import options as common
from transeg.tools.common.console import stderr_console
from transeg.tools.common.result_tables import show_measured, show_quality
from transeg.tools.common.shell_completion import complete_components, complete_run_folders


@click.command(cls=common.CommandWithSettings)
@common.run_dir
@common.repeatable(
    "--test", "tests", "DATA", "Labelled images; by default the test sets of the run.", complete_components("dataset")
)
@common.assignments("Set an option of the test sets that are named, such as masks=labels.")
@common.split
@common.translate_with
@common.direction
@common.transductive
@common.window
@common.flips
@common.adapt
@common.device
@click.option(
    "-o",
    "--out",
    type=common.PATH,
    metavar="FOLDER",
    help="Folder to write CSV files to; by default a new one in RUN/evaluations.",
)
@click.option("--features", metavar="NAME:FILE|RUN", help="Network whose features FID and KID compare.")
@click.option("--lpips", type=common.PATH, metavar="FILE", help="Weights of AlexNet, which LPIPS needs.")
@click.option(
    "--consistency",
    type=common.PATH,
    metavar="RUN",
    shell_complete=complete_run_folders,
    help="Run whose segmenter should find in generated images the labels that they were made from.",
)
@common.repeatable("--metric", "metrics", "NAME", "Metric to measure that is measured on request alone: cldice.")
@click.option(
    "--frames-per-second",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Of test images that are frames, whose groups are videos: count false alarms and what was found.",
)
@click.option(
    "--alarm-pixels",
    type=click.IntRange(min=1),
    metavar="PIXELS",
    help="Smallest area of a false alarm in a video; by default 100.",
)
@click.option(
    "--alarm-frames",
    type=click.IntRange(min=1),
    metavar="N",
    help="Frames one after the other that a false alarm lasts at least; by default 5.",
)
@common.with_counting
@common.as_json
@common.with_registry
def evaluate(
    registry: Registry,
    run_dir: Path,
    as_json: bool,
    features: str | None,
    lpips: Path | None,
    consistency: Path | None,
    frames_per_second: float | None,
    alarm_pixels: int | None,
    alarm_frames: int | None,
    **named: Any,
) -> None:
    """Measure what RUN has learned on labelled images.

    Prints a table over the test sets, and writes a CSV file with a line for each image. Images that a generator makes
    are compared with their true counterparts (SSIM, PSNR, L1, LPIPS), as a set with real images (FID, KID), and with
    what comes back where it has two directions.
    With --count, another table says how predicted and true numbers of objects agree; counts/ beside the CSV files has
    them and a Bland-Altman plot.
    With --adapt, the model follows each group of images, such as a patient's or a video's, and begins anew with the
    next.
    With --frames-per-second, the groups of the test sets are videos, whose frames are in the natural order of their
    names: a line says how many false alarms there were per minute without an object in view, and how many objects were
    found at least once; videos/ beside the CSV files has a line for each video.
    """
    from transeg.core.analysis.video_alarms import alarm_rule_from_options
    from transeg.core.api.evaluating import evaluate_run
    from transeg.core.experiment.schema import QualityOptions

    quality = QualityOptions(features=features, lpips=lpips, segmenter=consistency)
    console = stderr_console()
    failures = Failures()
    alarms = alarm_rule_from_options(frames_per_second, alarm_pixels, alarm_frames)
    metrics, judged, out = evaluate_run(
        run_dir, registry, console, quality=quality, failures=failures, alarms=alarms, **named
    )
    if console.quiet:
        return
    if as_json:
        click.echo(json.dumps({"tests": metrics, "quality": judged}, indent=2))
    else:
        if metrics:
            show_measured(metrics, out, Console(), all_rows(registry))
        if judged:
            show_quality(judged, Console())
    failures.conclude("measured")
