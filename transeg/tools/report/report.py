"""Writes the report of a run, a sweep or a ladder."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from transeg.core.errors import UsageError
from transeg.core.registry import Registry
from transeg.tools.ladder.ladder_results import ladder_path
from transeg.tools.report import page
from transeg.tools.report.ladder_report import render_ladder_page
from transeg.tools.report.run_report import render_run_page
from transeg.tools.report.sweep_report import render_sweep_page
from transeg.tools.sweep.sweep_folder import is_sweep


def write_report(
    path: Path, out: Path, registry: Registry, console: Console, device: str | None, *, anonymous: bool = False
) -> None:
    """Write what a folder tells as one HTML file.

    Args:
        path: of a run, a sweep or a ladder.
        out: the file; an older report there is replaced.
        registry: where components come from.
        console: for progress.
        device: where the networks go that the shown images are put through; None for a GPU where there is one.
        anonymous: whether it holds no absolute path of this machine.

    Raises:
        UsageError: it is not such a folder, or something else is where the report should go.
        TransegError: a file is damaged, or the report cannot be written.
    """
    if not path.is_dir():
        raise UsageError(f"There is no folder {path}; name that of a run, as --run-dir did.")
    page.check_writable(out)
    if is_sweep(path) and ladder_path(path).exists():
        made = render_ladder_page(path, registry, console, device, anonymous=anonymous)
    elif is_sweep(path):
        made = render_sweep_page(path, registry, anonymous=anonymous)
    else:
        made = render_run_page(path, registry, console, device, anonymous=anonymous)
    page.write_page(out, made)
