"""The command `toolkit measure`, imported when it is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from transeg.core.registry import Registry
from transeg.tools.common.console import stderr_console
from transeg.tools.common.options import (
    PATH,
    CommandWithSettings,
    as_json,
    assignments,
    out,
    repeatable,
    split,
    with_counting,
    with_registry,
)
from transeg.tools.common.result_tables import show_measured
from transeg.tools.common.shell_completion import complete_components


@click.command(cls=CommandWithSettings)
@click.argument("masks", metavar="MASKS", type=PATH)
@repeatable(
    "--test",
    "tests",
    "DATA",
    "Labelled images that the masks were made of.",
    complete_components("dataset"),
    required=True,
)
@split
@assignments("Set an option of the test sets, such as masks=labels.")
@click.option(
    "--values",
    metavar="0,127,255",
    help="Values that stand for the classes in the masks, in order; by default 0, 1, 2, ..., or, of two classes, "
    "what lies above half of the range is the foreground.",
)
@click.option("--suffix", default="", metavar="TEXT", help="Text that the name of a mask has behind that of its image.")
@out
@with_counting
@as_json
@with_registry
def measure(registry: Registry, masks: Path, as_json: bool, **named: Any) -> None:
    """Measure MASKS, a folder of mask files.

    They were made by anything, of labelled images; each has the name of its image and, if any, --suffix. Prints and
    writes what `toolkit evaluate` does, but for what takes probabilities; `toolkit compare` reads it.

    \b
    toolkit measure predicted --test axon:SEM:/data/axon --values 0,127,255 -o measured

    Of NIfTI volumes, NAME_volumes.csv has a line for each volume: Dice, HD95 and surface Dice in three dimensions.
    """
    from transeg.core.api.evaluating import evaluate_masks

    metrics = evaluate_masks(masks, registry, stderr_console(), **named)
    if as_json:
        click.echo(json.dumps({"tests": metrics}, indent=2))
        return
    show_measured(metrics, named["out"], Console())
