"""The command `toolkit report`, imported when it is called."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from transeg.core.registry import Registry
from transeg.tools.common.console import stderr_console
from transeg.tools.common.options import PATH, anonymous, device, with_registry
from transeg.tools.common.shell_completion import complete_run_folders


@click.command()
@click.argument("path", metavar="RUN|SWEEP|LADDER", type=PATH, shell_complete=complete_run_folders)
@click.option(
    "-o", "--out", type=PATH, metavar="FILE", help="HTML file to write; by default report.html in the folder."
)
@device
@anonymous
@with_registry
def report(path: Path, out: Path | None, device: str | None, anonymous: bool, registry: Registry) -> None:
    """Write what a run, a sweep or a ladder was and came to as one HTML file.

    It needs no other file and no network, is readable on a phone, and can be printed. What there is of the run is
    shown: an unfinished one has a report, too. The images with the best, median and worst results are put through the
    networks again; an older report is replaced. Of a sweep: the leaderboard, its axes against each other, its cells.
    Of a ladder: what closes how much of the gap, and the same images as each rung segments them.

    \b
    toolkit report runs/mine -o report.html
    toolkit report runs/sweep
    toolkit report ladders/mine
    toolkit report runs/mine -o report.html --anonymous
    """
    from transeg.tools.report.report import write_report

    place = out or path / "report.html"
    write_report(path, place, registry, stderr_console(), device, anonymous=anonymous)
    size = place.stat().st_size / 1e6
    Console().print(f"{place} ({size:.1f} MB)", highlight=False, soft_wrap=True)
