"""The commands around datasets, imported when one of them is called."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from transeg.core.errors import UsageError
from transeg.core.evaluation.numbers import pluralise
from transeg.core.registry import Registry
from transeg.tools.common.console import stderr_console
from transeg.tools.common.options import PATH, CommandWithSettings, as_json, assignments, with_registry
from transeg.tools.common.shell_completion import complete_components
from transeg.tools.data.certificate import show_certificate, show_gap


@click.group()
def data() -> None:
    """List, import, download, check and convert datasets; what is kept of them."""


with_root = click.option(
    "--root", type=PATH, metavar="FOLDER", help="Folder that holds a folder for each dataset; by default TRANSEG_DATA."
)


@data.command("list")
@with_root
@as_json
@with_registry
def list_datasets(root: Path | None, as_json: bool, registry: Registry) -> None:
    """Show terms and size of every dataset, and what is here."""
    from transeg.tools.data.inventory import inventory

    rows = inventory(registry, root)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        show_inventory(rows, Console())


@data.command("import")
@click.argument("name", shell_complete=complete_components("dataset"))
@click.argument("sources", metavar="ARCHIVE_OR_FOLDER...", nargs=-1, required=True, type=PATH)
@with_root
@as_json
@with_registry
def import_dataset(name: str, sources: tuple[Path, ...], root: Path | None, as_json: bool, registry: Registry) -> None:
    """Unpack, check and keep a dataset as downloaded.

    It goes to ROOT/NAME, whole or not at all. Archives are zip or tar; what is there already stays.

    \b
    toolkit data import kvasir kvasir-seg.zip --root /data
    toolkit data import pannuke fold_1.zip fold_2.zip fold_3.zip
    """
    from transeg.tools.data import acquire

    report = acquire.acquire_dataset(name, sources, registry, stderr_console(), root=root)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        show_import(report, Console())


@data.command()
@click.argument("name", shell_complete=complete_components("dataset"))
@with_root
@as_json
@with_registry
def download(name: str, root: Path | None, as_json: bool, registry: Registry) -> None:
    """Fetch the dataset NAME from its authors and import it.

    Where they let nobody do that but a person, this says where it is and under which terms.
    """
    from transeg.tools.data import acquire

    report = acquire.download_dataset(name, registry, stderr_console(), root=root)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        show_import(report, Console())


@data.command(cls=CommandWithSettings)
@click.argument("dataset", metavar="NAME[:DOMAIN][:FOLDER]", shell_complete=complete_components("dataset"))
@assignments("Set an option of the dataset, such as masks=labels.")
@click.option(
    "--preview",
    type=PATH,
    metavar="FILE",
    help="Picture (PNG) to write: some images of each split with the outlines of their masks.",
)
@click.option(
    "--against",
    metavar="DATASET",
    shell_complete=complete_components("dataset"),
    help="Target domain to set beside the dataset: what a generator that learns without pairs would change.",
)
@as_json
@with_registry
def verify(
    dataset: str,
    assignments: tuple[str, ...],
    preview: Path | None,
    against: str | None,
    as_json: bool,
    registry: Registry,
) -> None:
    """Count, open and check every image and mask of a dataset.

    Says what was understood of them, names the files that were not read, and reports each fault by file.

    \b
    toolkit data verify folder:/data/renders --preview renders.png
    toolkit data verify folder:/data/renders --against kvasir:/data/kvasir-seg
    """
    console = stderr_console()
    if against is not None:
        if preview is not None:
            raise UsageError("--preview shows one dataset; leave it out with --against.")
        from transeg.core.api.domain_gap import compare_domains

        gap = compare_domains(dataset, against, assignments, registry, console)
        if as_json:
            click.echo(json.dumps(gap, indent=2))
        else:
            show_gap(gap, Console())
        return
    from transeg.core.api.verification import verify_dataset

    report = verify_dataset(dataset, assignments, registry, console, preview)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        show_certificate(report, Console())
    if report["faults"]:
        sys.exit(1)


@data.command()
@click.option("--clear", is_flag=True, help="Remove all images that are kept.")
@as_json
def cache(clear: bool, as_json: bool) -> None:
    """Show how much is kept of decoded images.

    Trainings keep them where data.cache says how much they may.
    """
    from transeg.core.data import cache

    removed = cache.clear_cache() if clear else 0
    folder, kept = cache.image_cache(), cache.cache_size()
    if as_json:
        click.echo(json.dumps({"folder": str(folder), "bytes": kept, "removed": removed}, indent=2))
    else:
        freed = f" ({removed / 1e6:,.1f} MB removed)" if clear else ""
        click.echo(f"{kept / 1e6:,.1f} MB{freed} in {folder}")


@data.command(cls=CommandWithSettings)
@click.argument("origin", metavar="FROM", shell_complete=complete_components("dataset"))
@click.argument("destination", metavar="TO", shell_complete=complete_components("dataset"))
@assignments("Set an option of FROM.")
@as_json
@with_registry
def convert(origin: str, destination: str, assignments: tuple[str, ...], as_json: bool, registry: Registry) -> None:
    """Write the dataset FROM in the layout of TO.

    Both are NAME[:DOMAIN]:FOLDER. Each image stays in its split; what is there already stays, too.

    \b
    toolkit data convert axon:SEM:axon-sem nnunet:Dataset001_SEM
    toolkit data convert axon:TEM:axon-tem folder:tem --set pixel_size=0.1
    """
    from transeg.tools.data.convert import convert_dataset

    console = stderr_console()
    report = convert_dataset(origin, destination, assignments, registry, console)
    if console.quiet:
        return
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        show_conversion(report, Console())


def show_inventory(rows: list[dict[str, Any]], console: Console) -> None:
    """Every dataset, and whether it is here."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("dataset", style="cyan", no_wrap=True)
    table.add_column("here")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("download", no_wrap=True)
    table.add_column("terms", overflow="fold")
    for row in rows:
        how = "by command" if row["download"] else "by hand" if row["url"] else ""
        table.add_row(row["name"], "[green]yes[/]" if row["present"] else "", row["size"], how, row["licence"])
    console.print(table)
    console.print(
        "[dim]`toolkit data download NAME` fetches a dataset, or says where it is and on which terms; "
        "`toolkit data import` keeps what was downloaded by hand.[/]",
        highlight=False,
    )


def show_import(report: dict[str, Any], console: Console) -> None:
    """What was imported, and what is wrong with it."""
    added = f"{report['added']} files added" if report["added"] else "all of it was there already"
    console.print(
        f"{pluralise(report['images'], 'image')} in {report['folder']}; {added}.", highlight=False, soft_wrap=True
    )
    for fault in report["faults"]:
        console.print(f"[red]fault[/]  {escape(fault['reason'])}", highlight=False, soft_wrap=True)


def show_conversion(report: dict[str, Any], console: Console) -> None:
    """What was converted."""
    counts = ", ".join(f"{count} {split}" for split, count in report["splits"].items() if count)
    console.print(f"{report['images']} images ({counts}) in {report['to']}", highlight=False, soft_wrap=True)
