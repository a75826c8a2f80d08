"""The command `toolkit benchmark`, imported when it is called."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from rich.console import Console

from transeg.commands.console import talk
from transeg.commands.options import as_json, device, with_registry
from transeg.core.registry import Registry


@click.command()
@click.argument("segmenters", metavar="[SEGMENTER]...", nargs=-1)
@click.option(
    "--size", default=352, type=click.IntRange(min=1), metavar="PIXELS", help="Of the images; by default 352."
)
@click.option("--batch", type=click.IntRange(min=1), help="Images at a time; by default 1, with --train 2.")
@click.option("--threads", type=click.IntRange(min=1), help="Of the CPU; by default as many as PyTorch takes.")
@device
@click.option("--train", is_flag=True, help="Measure training steps in place of inference.")
@click.option(
    "--set", "assignments", multiple=True, metavar="OPTION=VALUE", help="Of the segmenter, such as segmenter.base=64."
)
@as_json
@with_registry
def benchmark(registry: Registry, segmenters: tuple[str, ...], as_json: bool, **named: Any) -> None:
    """Measure how fast segmenters are on this machine.

    And how much memory they need. Each runs in a process of its own, with weights as they are before a training.
    Without a name, all are measured.

    \b
    toolkit benchmark
    toolkit benchmark unet hardnet --size 512
    toolkit benchmark unet --set segmenter.base=64 --train --batch 4
    """
    from transeg import tables
    from transeg.core import benchmark

    report = benchmark.benchmark(segmenters, registry, talk(), **named)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        tables.show_benchmark(report, Console())
    if any("error" in row for row in report["segmenters"]):
        sys.exit(1)
