"""The command that makes a run's networks usable elsewhere, imported when it is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from transeg.core.registry import Registry
from transeg.tools.common.console import stderr_console
from transeg.tools.common.options import (
    PATH,
    CommandWithSettings,
    anonymous,
    as_json,
    assignments,
    direction,
    out,
    repeatable,
    run_dir,
    translate_with,
    with_registry,
)


@click.command(cls=CommandWithSettings)
@run_dir
@out
@repeatable(
    "--format",
    "formats",
    None,
    "Format to write; by default onnx.",
    type=click.Choice(["onnx", "torchscript", "torch-export", "safetensors"]),
)
@click.option("--int8", is_flag=True, help="Write an ONNX file in 8 bits, too, and measure what that costs.")
@click.option("--fp16", is_flag=True, help="Write an ONNX file in float16, too, and measure what that costs.")
@translate_with
@direction
@click.option("--generator", is_flag=True, help="Export the generator, even where the run has a segmenter.")
@click.option(
    "--images", type=PATH, metavar="FOLDER", help="Images to check the written files on; by default those of the run."
)
@assignments("Set an option of the generator that changes no weights, such as generator.noise=false.")
@anonymous
@as_json
@with_registry
def export(registry: Registry, run_dir: Path, out: Path, as_json: bool, formats: tuple[str, ...], **named: Any) -> None:
    """Make what RUN has learned usable without transeg.

    Writes the segmenter of RUN (or the generator of a run that has no segmenter) as a file of another format, with its
    preprocessing described in preprocessing.json and a model card in README.md. Each file is run in its own runtime on
    real images of several sizes; one that differs from the original is not kept.

    With --translate-with, generator and segmenter are one graph. safetensors are weights, to begin a run with.

    \b
    toolkit export runs/mine -o model
    toolkit export runs/mine -o model --format onnx --int8 --fp16
    toolkit export runs/tem -o model --translate-with runs/sem-to-tem
    """
    from transeg.tools.export.export_request import ExportRequest
    from transeg.tools.export.exporting import export_run

    wanted = ExportRequest(formats or ("onnx",), **named)
    report = export_run(run_dir, registry, stderr_console(), out, wanted)
    if as_json:
        click.echo(json.dumps({"folder": str(out), **report}, indent=2))
    else:
        _show(report, out, Console())


def _show(report: dict[str, Any], out: Path, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("file", style="cyan", overflow="fold")
    for name in ("MB", "differs by", "Dice", "ms"):
        table.add_column(name, justify="right")
    original = report["original"]
    table.add_row("as trained", "", "", _number(original["dice"], ".3f"), _number(original["ms"], ",.1f"))
    for row in report["files"]:
        table.add_row(
            row["file"],
            f"{row['bytes'] / 1e6:.2f}",
            f"{row['difference']:.1e}",
            _number(row["dice"], ".3f"),
            _number(row["ms"], ",.1f"),
        )
    console.print(table)
    size = report["files"][0]["compared"][0]
    threads = "1 thread" if report["threads"] == 1 else f"{report['threads']} threads"
    console.print(f"[dim]Times: one image of {size['width']}x{size['height']} pixels, {threads}.[/]", highlight=False)
    if report["measured_on"]:
        images = "1 labelled image" if report["measured_on"] == 1 else f"{report['measured_on']} labelled images"
        console.print(f"[dim]Dice: mean over {images}.[/]", highlight=False)
    if report["not_measured"]:
        console.print(f"Dice was not measured: {report['not_measured']}", highlight=False, markup=False)
    console.print(f"How to use it: {out / 'README.md'}, {out / 'preprocessing.json'}", highlight=False, markup=False)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
