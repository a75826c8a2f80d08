"""The command `toolkit list`, imported when it is called."""

from __future__ import annotations

import json

import click
from rich.console import Console

from transeg.commands.options import as_json, with_registry
from transeg.core.registry import Registry, kind_named


@click.command("list")
@click.argument("kind", required=False)
@as_json
@with_registry
def list_components(kind: str | None, as_json: bool, registry: Registry) -> None:
    """Show generators, segmenters, losses and datasets, or one KIND.

    `toolkit list combinations` shows which of them go together, and what data each pair needs.
    """
    from transeg import tables

    if kind == "combinations":
        _list_combinations(registry, as_json)
        return
    singular = kind and kind_named(kind)
    if as_json:
        broken = [p for p in registry.plugins if p.status in ("broken", "disabled") and not p.components]
        rows = [component.summary() for component in registry.components(singular)]
        rows += [] if singular else [plugin.summary() for plugin in broken]
        click.echo(json.dumps(rows, indent=2))
    else:
        tables.show_components(registry, singular, Console())


def _list_combinations(registry: Registry, as_json: bool) -> None:
    from dataclasses import asdict

    from transeg import tables
    from transeg.core.combinations import combinations

    found = list(combinations(registry))
    if as_json:
        click.echo(json.dumps([{**asdict(c), "command": c.command} for c in found], indent=2))
    else:
        tables.show_combinations(found, Console())
