"""The command `toolkit measure`, imported when it is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from transeg.core.registry import Registry
from transeg.tools.common.console import talk
from transeg.tools.common.options import as_json, split, with_counting, with_registry
from transeg.tools.common.results import show_measured


@click.command()
@click.argument("masks", metavar="MASKS", type=click.Path(path_type=Path))
@click.option("--test", "tests", multiple=True, required=True, metavar="DATA", help="Labelled images; repeatable.")
@split
@click.option("--set", "assignments", multiple=True, metavar="OPTION=VALUE", help="An option of the test sets.")
@click.option(
    "--values",
    metavar="0,127,255",
    help="What stands for the classes in the masks, in their order; by default 0, 1, 2, ..., and for two classes what "
    "lies above half of the range is the foreground.",
)
@click.option("--suffix", default="", metavar="TEXT", help="Of the masks' names, behind those of the images.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="For CSV files.")
@with_counting
@as_json
@with_registry
def measure(registry: Registry, masks: Path, as_json: bool, **named: Any) -> None:
    """Measure MASKS, a folder of mask files.

    They were made by anything, of labelled images; each has the name of its image and, if any, --suffix. Prints and
    writes what `toolkit evaluate` does, but for what takes probabilities; `toolkit compare` reads it.

    \b
    toolkit measure predicted --test axon:SEM:/data/axon --values 0,127,255 -o measured
    """
    from transeg.core.api import evaluate_masks

    metrics = evaluate_masks(masks, registry, talk(), **named)
    if as_json:
        click.echo(json.dumps({"tests": metrics}, indent=2))
        return
    show_measured(metrics, named["out"], Console())
