"""The command `toolkit info`, imported when it is called."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from rich.console import Console

from transeg.commands.options import as_json, with_registry
from transeg.core.errors import UsageError
from transeg.core.manifest import KINDS
from transeg.core.registry import Registry, kind_named


@click.command()
@click.argument("component")
@as_json
@with_registry
def info(component: str, as_json: bool, registry: Registry) -> None:
    """Show one COMPONENT, such as generator/cut, in detail.

    Its options with their meaning, paper, parameters, and an example.
    """
    from transeg import tables
    from transeg.core.experiment import offered
    from transeg.core.taps import layers_of

    kind, slash, name = component.partition("/")
    if not slash:
        kinds = [k for k in KINDS if any(c.name == component for c in registry.components(k))]
        if len(kinds) != 1:
            raise UsageError(f"Say which kind {component!r} is, as in segmenter/{component}; `toolkit list` shows all.")
        kind, name = kinds[0], component
    found = registry.find(kind_named(kind), name)
    cls = registry.load(found)
    if as_json:
        rows = [
            {"name": o.name, "type": o.type_name, "default": o.default, "help": o.help}
            for o in offered(cls, found.kind)
        ]
        document = {**found.summary(), "options": rows}
        if found.kind == "segmenter":
            document["layers"] = [asdict(layer) for layer in layers_of(cls)]
        click.echo(json.dumps(document, indent=2, default=str))
    else:
        tables.show_component(found, cls, Console())
