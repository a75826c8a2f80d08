"""The command `toolkit list`, imported when it is called."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from transeg.core.evaluation.metrics.table import BETTER, all_components, plugin_metrics
from transeg.core.manifest import KINDS, Component, MetricEntry
from transeg.core.registry import BUILTIN, Registry, kind_named
from transeg.tools.common.options import as_json, with_registry

if TYPE_CHECKING:
    from transeg.core.experiment.combinations import Combination

COLOURS = {"ok": "green", "broken": "red", "conflict": "yellow", "disabled": "dim", "missing": "yellow"}
PLURALS = {
    "generator": "Generators",
    "segmenter": "Segmenters",
    "loss": "Losses",
    "dataset": "Datasets",
    "strategy": "Strategies",
    "metric": "Metrics",
}


@click.command("list")
@click.argument("kind", required=False)
@as_json
@with_registry
def list_components(kind: str | None, as_json: bool, registry: Registry) -> None:
    """Show every component that is offered, or those of one KIND.

    Kinds: generators, segmenters, losses, datasets, strategies, and the metrics of plugins.

    `toolkit list metrics` shows the built-in metrics, too.
    `toolkit list combinations` shows which of them go together, and what data each pair needs.
    """
    if kind == "combinations":
        _list_combinations(registry, as_json)
        return
    singular = kind and kind_named(kind)
    if as_json:
        broken = [p for p in registry.plugins if p.status in ("broken", "disabled") and not p.components]
        rows = [component.summary() for component in _components(registry, singular)]
        rows += [] if singular else [plugin.summary() for plugin in broken]
        click.echo(json.dumps(rows, indent=2))
    else:
        show_components(registry, singular, Console())


def _list_combinations(registry: Registry, as_json: bool) -> None:
    from dataclasses import asdict

    from transeg.core.experiment.combinations import combinations

    found = list(combinations(registry))
    if as_json:
        click.echo(json.dumps([{**asdict(c), "command": c.command} for c in found], indent=2))
    else:
        show_combinations(found, Console())


def show_components(registry: Registry, kind: str | None, console: Console) -> None:
    """A table for each kind, and what is wrong with plugins."""
    found = _components(registry, kind)
    for each in dict.fromkeys(component.kind for component in found):
        components = [component for component in found if component.kind == each]
        table = Table(title=PLURALS[each], title_justify="left", box=None, pad_edge=False, header_style="bold")
        table.add_column("name", style="cyan", no_wrap=True)
        table.add_column("summary", ratio=3, overflow="fold")
        columns = [name for name, cells in _cells(components).items() if any(cells)]
        for name in columns:
            table.add_column(name, justify="right" if name == "parameters" else "left", overflow="fold")
        for component, *cells in zip(components, *(_cells(components)[name] for name in columns), strict=True):
            table.add_row(component.name, component.entry.summary, *cells)
        console.print(table)
        console.print()
    for plugin in registry.plugins:
        if plugin.status != "ok":
            console.print(f"[{COLOURS[plugin.status]}]{plugin.package} is {plugin.status}[/]: {escape(plugin.reason)}")
    for component in found:
        if component.status == "missing":
            console.print(f"[yellow]{component} needs more[/]: {escape(component.reason)}")
        if component.status in ("broken", "conflict"):
            console.print(
                f"[{COLOURS[component.status]}]{component} of {component.package} is {component.status}[/]: "
                f"{escape(component.reason)}"
            )


def _components(registry: Registry, kind: str | None) -> list[Component]:
    """Components in the order of kinds; the built-in metrics only where these are asked for."""
    if kind == "metric":
        return all_components(registry)
    found = [component for each in KINDS if each != "metric" for component in registry.components(each)]
    if kind is not None:
        return [component for component in found if component.kind == kind]
    return [*found, *plugin_metrics(registry)]


def show_combinations(found: Sequence[Combination], console: Console) -> None:
    """A line for each strategy and generator: what data they need, whichever the segmenter."""
    table = Table(title="Combinations", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("strategy", no_wrap=True)
    table.add_column("generator", style="cyan", no_wrap=True)
    table.add_column("segmenter", no_wrap=True)
    table.add_column("--source", overflow="fold")
    table.add_column("--target", overflow="fold")
    rows = {(c.strategy, c.generator): c for c in found}
    for (strategy, generator), row in rows.items():
        any_of = "any" if row.segmenter else "-"
        table.add_row(strategy, generator or "-", any_of, row.source or "-", row.target or "-")
    console.print(table)
    segmenters = dict.fromkeys(c.segmenter for c in found if c.segmenter)
    console.print(f"\nSegmenters: {', '.join(segmenters)}", highlight=False)
    for reason in dict.fromkeys(c.missing for c in found if c.missing):
        console.print(f"[yellow]needs more[/]: {escape(reason)}")


def _cells(components: Sequence[Component]) -> dict[str, list[str]]:
    """Further columns of a table; one in which nothing stands is left out."""
    foreign = any(component.package != BUILTIN for component in components)
    troubled = any(component.status != "ok" for component in components)
    return {
        "unit": [getattr(c.entry, "unit", "") for c in components],
        "better": [BETTER[c.entry.higher_is_better] if isinstance(c.entry, MetricEntry) else "" for c in components],
        "parameters": [f"{c.entry.params:,}" if c.entry.params else "" for c in components],
        "paper": [c.entry.paper for c in components],
        "plugin": [c.package if foreign else "" for c in components],
        "status": [f"[{COLOURS[c.status]}]{c.status}[/]" if troubled else "" for c in components],
    }
