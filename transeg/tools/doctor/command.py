"""The command `toolkit doctor`, imported when it is called."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from transeg import __version__
from transeg.core.registry import Registry
from transeg.tools.common.options import as_json, with_registry
from transeg.tools.doctor.accelerators import check_devices
from transeg.tools.doctor.finding import Finding, without_user
from transeg.tools.doctor.installed_packages import check_extras, check_imports, check_requirements, check_versions
from transeg.tools.doctor.machine import check_cores, check_descriptors, check_memory, check_shared_memory
from transeg.tools.doctor.places import check_cache, check_current_folder, check_data_root
from transeg.tools.doctor.plugin_faults import check_plugins

COLOURS = {"ok": "green", "note": "yellow", "fault": "red"}
Findings = Finding | Iterable[Finding]
CHECKS: tuple[Callable[[], Findings], ...] = (
    check_versions,
    check_requirements,
    check_imports,
    check_extras,
    check_devices,
    check_cores,
    check_memory,
    check_shared_memory,
    check_descriptors,
    check_cache,
    check_current_folder,
)
CHECKS_OF_REGISTRY: tuple[Callable[[Registry], Findings], ...] = (check_plugins, check_data_root)


@click.command()
@as_json
@with_registry
@click.pass_context
def doctor(ctx: click.Context, as_json: bool, registry: Registry) -> None:
    """Look over what is installed and this machine, and say what to do.

    Versions, extras, GPUs, cores, memory, plugins, datasets, cache, rights and disk. Nothing is changed or sent.

    The exit code is 1 where there is a fault: something that does not work. Notes are worth knowing, and runs go on.

    For a report of a fault: toolkit doctor --json. It has neither your name nor your home folder in it.
    """
    findings = [without_user(finding) for finding in _examine(registry)]
    if as_json:
        document = {"transeg": __version__, "findings": [asdict(finding) for finding in findings]}
        click.echo(json.dumps(document, indent=2))
    else:
        _show(findings, Console())
    ctx.exit(any(finding.state == "fault" for finding in findings))


def _examine(registry: Registry) -> Iterator[Finding]:
    """All checks; one that fails itself stops no other, since whoever asks a doctor has faults."""
    checks: list[Callable[[], Findings]] = [*CHECKS, *(partial(check, registry) for check in CHECKS_OF_REGISTRY)]
    for check in checks:
        try:
            said = check()
            yield from [said] if isinstance(said, Finding) else said
        except Exception as error:
            yield Finding(
                "doctor",
                "fault",
                f"A check failed itself: {type(error).__name__}: {error}.",
                "This is a fault of transeg: please report it.",
            )


def _show(findings: Sequence[Finding], console: Console) -> None:
    """A row for each; what to do is under what was found."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        advice = f"\n[cyan]{escape(finding.advice)}[/]" if finding.advice else ""
        state = f"[{COLOURS[finding.state]}]{finding.state}[/]"
        table.add_row(state, finding.name, f"{escape(finding.found)}{advice}")
    console.print(table, highlight=False)
    counts = {state: sum(finding.state == state for finding in findings) for state in ("fault", "note")}
    words = (f"{count} {state}{'' if count == 1 else 's'}" for state, count in counts.items())
    console.print(f"\n{', '.join(words)}.", highlight=False)
