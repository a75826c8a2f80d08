"""Every plugin: what it offers, how long it takes to load, and what is broken."""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from transeg.core.errors import TransegError
from transeg.core.manifest import CONTRACT, KINDS, Plugin
from transeg.core.registry import BUILTIN, Registry

PLURALS = {"loss": "losses", "strategy": "strategies"}


def describe_plugins(registry: Registry) -> list[dict[str, Any]]:
    """A row for each plugin, as `--json` has it; those of others are imported.

    ``faults`` are what is broken, ``missing`` what awaits a package that is not installed, by name, with the reason.
    ``seconds`` are what its own modules take to be imported, once PyTorch is there; None for what is not imported.
    """
    if any(plugin.package != BUILTIN and plugin.status == "ok" for plugin in registry.plugins):
        importlib.import_module("torch")  # else the first plugin would pay for it
    return [_row(plugin, registry) for plugin in registry.plugins]


def _row(plugin: Plugin, registry: Registry) -> dict[str, Any]:
    own = [each for each in registry.components() if (each.package, each.version) == (plugin.package, plugin.version)]
    faults = {str(each): each.reason for each in own if each.status in ("broken", "conflict")}
    missing = {str(each): each.reason for each in own if each.status == "missing"}
    faults |= {f"command/{name}": reason for name, reason in plugin.command_faults.items()}
    seconds = None
    if plugin.package != BUILTIN and plugin.status != "disabled":
        began = time.perf_counter()
        faults = _load(plugin, registry) | faults
        seconds = time.perf_counter() - began
    offers = {kind: [each.name for each in own if each.kind == kind] for kind in KINDS}
    offers["command"] = list(plugin.commands)
    if plugin.reason:
        faults = {plugin.package: plugin.reason} | (faults if plugin.status == "ok" else {})
    return {
        "package": plugin.package,
        "version": plugin.version,
        "contract": plugin.contract,
        "status": "broken" if faults and plugin.status == "ok" else plugin.status,
        "offers": {kind: names for kind, names in offers.items() if names},
        "seconds": None if seconds is None else round(seconds, 3),
        "faults": faults,
        "missing": missing,
    }


def _load(plugin: Plugin, registry: Registry) -> dict[str, str]:
    """Import what a plugin offers; what fails, by its name."""
    faults = {}
    with contextlib.redirect_stdout(sys.stderr):
        if plugin.module and plugin.status == "ok":
            try:
                importlib.import_module(plugin.module)
            except Exception as error:
                faults[plugin.package] = f"it cannot be imported: {type(error).__name__}: {error}"
        commands = [each for each in plugin.command_components() if each.name not in plugin.command_faults]
        for component in [*plugin.components, *commands]:
            if component.status == "ok":
                try:
                    registry.load(component)
                except TransegError as error:
                    faults[str(component)] = str(error)
    return faults


def show_plugins(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """A table, then what is wrong."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("plugin", "version", "contract", "offers", "load", "status"):
        table.add_column(name, overflow="fold", justify="right" if name == "load" else "left")
    for row in rows:
        counted = [_counted(kind, names, row["package"]) for kind, names in row["offers"].items()]
        load = "-" if row["seconds"] is None else f"{row['seconds']:.2f} s"
        colour = {"ok": "green", "broken": "red"}.get(row["status"], "yellow")
        contract = "-" if row["contract"] is None else str(row["contract"])
        table.add_row(
            row["package"], row["version"], contract, "; ".join(counted), load, f"[{colour}]{row['status']}[/]"
        )
    console.print(table)
    for row in rows:
        for name, reason in row["faults"].items():
            whose = "" if name == row["package"] else f" of {row['package']}"
            console.print(f"[red]{escape(name)}{whose}[/]: {escape(reason)}", highlight=False)
        for reason in dict.fromkeys(row["missing"].values()):
            names = ", ".join(name for name, each in row["missing"].items() if each == reason)
            console.print(f"[yellow]{escape(names)}[/]: {escape(reason)}", highlight=False)
        if row["contract"] is not None and row["contract"] < CONTRACT:
            console.print(
                f"[yellow]{row['package']}[/] is written for contract {row['contract']}, which is still read; this "
                f"transeg speaks {CONTRACT}: docs/plugins/first.md says what changed.",
                highlight=False,
            )


def _counted(kind: str, names: Sequence[str], package: str) -> str:
    """``2 losses (a, b)``; of ours, whose names `toolkit list` shows, the number alone."""
    what = kind if len(names) == 1 else PLURALS.get(kind, f"{kind}s")
    return f"{len(names)} {what}" + ("" if package == BUILTIN else f" ({', '.join(names)})")
