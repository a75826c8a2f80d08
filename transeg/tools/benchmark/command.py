"""The command `toolkit benchmark`, imported when it is called."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from transeg.core.evaluation.numbers import pluralise
from transeg.core.registry import Registry
from transeg.tools.common.console import stderr_console
from transeg.tools.common.options import COUNT, CommandWithSettings, as_json, assignments, device, with_registry
from transeg.tools.common.shell_completion import complete_components


@click.command(cls=CommandWithSettings)
@click.argument("segmenters", metavar="[SEGMENTER]...", nargs=-1, shell_complete=complete_components("segmenter"))
@click.option(
    "--size", default=352, type=COUNT, metavar="PIXELS", help="Height and width of the images; by default 352."
)
@click.option("--batch", type=COUNT, help="Images at a time; by default 1, with --train 2.")
@click.option("--threads", type=COUNT, help="Threads on a CPU; by default as PyTorch chooses.")
@device
@click.option("--train", is_flag=True, help="Measure training steps instead of inference.")
@assignments("Set an option of the segmenter, such as segmenter.base=64.")
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
    from transeg.tools.benchmark import benchmark

    report = benchmark.benchmark_segmenters(segmenters, registry, stderr_console(), **named)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        show_benchmark(report, Console())
    if any("error" in row for row in report["segmenters"]):
        sys.exit(1)


def show_benchmark(report: dict[str, Any], console: Console) -> None:
    """Size, cost and speed of each segmenter."""
    done = [row for row in report["segmenters"] if "error" not in row]
    if done:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("segmenter", style="cyan", overflow="fold")
        for name in ("M params", "GMAC", "ms", "images/s", "GB peak", "of peak"):
            table.add_column(name, justify="right")
        for row in done:
            memory = "-" if row["peak_memory"] is None else f"{row['peak_memory'] / 1e9:.2f}"
            table.add_row(
                row["name"],
                f"{row['parameters'] / 1e6:.2f}",
                f"{row['gmacs']:.1f}",
                f"{row['seconds'] * 1e3:,.1f}",
                f"{row['images_per_second']:.2f}",
                memory,
                f"{row['gmacs_per_second'] / row['peak_gmacs_per_second']:.0%}",
            )
        console.print(table)
        console.print(f"[dim]{_conditions(report, done)}[/]", highlight=False)
    for row in report["segmenters"]:
        if "error" in row:
            console.print(f"[red]failed[/]  {escape(row['error'])}", highlight=False)


def _conditions(report: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    work = "Training steps" if report["train"] else "Inference"
    threads = f", {pluralise(rows[0]['threads'], 'thread')}" if report["device"] == "cpu" else ""
    reached = max(row["peak_gmacs_per_second"] for row in rows)
    return (
        f"{work}, {report['size']}x{report['size']} pixels, {report['device']}{threads}. GMAC are those of an image, "
        f"ms those of a batch ({pluralise(report['batch'], 'image')}). The peak is one large convolution's, "
        f"{reached:,.0f} GMAC/s."
    )
