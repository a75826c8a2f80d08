"""The command `toolkit info`, imported when it is called."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from transeg.core.component_options import EMPTY, component_description, options
from transeg.core.errors import UsageError, did_you_mean
from transeg.core.evaluation.metrics.table import BETTER, TABLE, all_components
from transeg.core.manifest import KINDS, Component, MetricEntry, StrategyEntry
from transeg.core.registry import Registry, kind_named
from transeg.tools.common.options import as_json, with_registry


@click.command()
@click.argument("component")
@as_json
@with_registry
def info(component: str, as_json: bool, registry: Registry) -> None:
    """Show one COMPONENT, such as generator/cut, in detail.

    Its options with their meaning, paper, parameters, and an example.
    """
    kind, slash, name = component.partition("/")
    if not slash:
        kinds = [k for k in KINDS if any(c.name == component for c in registry.components(k))]
        if len(kinds) != 1:
            raise UsageError(f"Say which kind {component!r} is, as in segmenter/{component}; `toolkit list` shows all.")
        kind, name = kinds[0], component
    if kind_named(kind) == "metric":
        _show_metric(_metric(name, registry), registry, as_json)
        return
    found = registry.find(kind_named(kind), name)
    cls = registry.load(found)
    if as_json:
        from transeg.core.experiment.choices import options_of_kind
        from transeg.core.models.layer_outputs import default_layers

        rows = [
            {"name": o.name, "type": o.type_name, "default": o.default, "help": o.help}
            for o in options_of_kind(cls, found.kind)
        ]
        document = {**found.summary(), "options": rows}
        if found.kind == "segmenter":
            document["layers"] = [asdict(layer) for layer in default_layers(cls)]
        click.echo(json.dumps(document, indent=2, default=str))
    else:
        show_component(found, cls, Console())


def _metric(name: str, registry: Registry) -> Component:
    """A metric of that name, whose row is here or in a plugin's manifest."""
    if name in TABLE:
        return next(component for component in all_components(registry) if component.name == name)
    known = [component.name for component in all_components(registry)]
    if name.rpartition(":")[2] not in known:
        raise UsageError(f"There is no metric {name!r}.{did_you_mean(name, known)}")
    return registry.find("metric", name)


def _show_metric(component: Component, registry: Registry, as_json: bool) -> None:
    """A metric's row, and what its function says of itself."""
    entry = component.entry
    assert isinstance(entry, MetricEntry)
    about = component_description(registry.load(component)) if entry.entry else []
    if as_json:
        keys = ("title", "unit", "digits", "higher_is_better", "shown", "validation")
        click.echo(json.dumps({**component.summary(), **{key: getattr(entry, key) for key in keys}}, indent=2))
        return
    console = Console()
    console.print(f"[bold cyan]{component}[/]  {escape(entry.summary)}")
    _show_facts(
        {
            "title": entry.title or component.name,
            "unit": entry.unit,
            "digits": str(entry.digits),
            "better": BETTER[entry.higher_is_better],
            "shown in": ", ".join(entry.shown),
            "validation": "measured in each" if entry.validation else "",
            "paper": entry.paper,
            "plugin": f"{component.package} {component.version}",
        },
        console,
    )
    for paragraph in about:
        console.print("\n" + escape(paragraph), highlight=False)


def _show_facts(facts: dict[str, str], console: Console) -> None:
    grid = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        if value:
            grid.add_row(f"[dim]{name}[/]", escape(value))
    console.print(grid)


def show_component(component: Component, cls: type, console: Console) -> None:
    """One component with its options and an example."""
    from transeg.core.experiment.choices import options_of_kind

    entry = component.entry
    console.print(f"[bold cyan]{component}[/]  {entry.summary}")
    facts = {
        "parameters": f"{entry.params:,} at defaults" if entry.params else "",
        "paper": entry.paper,
        "plugin": f"{component.package} {component.version}",
        "needs": ", ".join(getattr(entry, "needs", ())),
        "takes": ", ".join(getattr(entry, "takes", ())),
        "tags": ", ".join(entry.tags),
        "domains": ", ".join(component.domains),
        "licence": getattr(entry, "licence", ""),
        "url": getattr(entry, "url", ""),
    }
    _show_facts(facts, console)
    for paragraph in component_description(cls)[1:]:
        console.print("\n" + escape(paragraph), highlight=False)
    known = options_of_kind(cls, component.kind)
    prefix = "data.source.{}" if component.kind == "dataset" else f"{component.kind}.{{}}"
    if getattr(entry, "role", "") == "distillation":
        prefix = "{}"
    if known:
        table = Table(title="\nOptions", title_justify="left", box=None, pad_edge=False, header_style="bold")
        table.add_column("option", style="cyan", no_wrap=True)
        table.add_column("meaning", ratio=1)
        for option in known:
            kind = option.type_name + _default(option.default)
            table.add_row(prefix.format(option.name), f"{escape(option.help)}\n[dim]{escape(kind)}[/]")
        console.print(table)
    if component.kind == "segmenter":
        _show_layers(cls, console)
    console.print(f"\n[dim]Example[/]  {example(component, cls)}", highlight=False)


def _show_layers(cls: Any, console: Console) -> None:
    """The layers that distillation may name."""
    from transeg.core.models.layer_outputs import default_layers

    layers = default_layers(cls)
    if not layers:
        return
    table = Table(title="\nLayers to distil", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("layer", style="cyan", overflow="fold")
    table.add_column("channels", justify="right")
    table.add_column("stride", justify="right")
    for layer in layers:
        table.add_row(layer.name, str(layer.channels), str(layer.stride))
    console.print(table)


def _default(value: Any) -> str:
    if value is EMPTY:
        return ", required"
    return "" if value is None else f", by default {value!r}"


EXAMPLES = {
    "generator": "--generator cut",
    "segmenter": "--segmenter unet",
    "source": "--source folder:LABELLED",
    "target": "--target folder:UNLABELLED",
}


def _strategy_example(component: Component) -> str:
    entry = component.entry
    assert isinstance(entry, StrategyEntry)
    used = [value for part, value in EXAMPLES.items() if part in (*entry.needs, *entry.takes)]
    return " ".join([f"toolkit run --strategy {component.name}", *used])


def example(component: Component, cls: Any) -> str:
    """A command that uses a component."""
    match component.kind:
        case "generator":
            return f"toolkit run --generator {component.name} --segmenter hardnet"
        case "segmenter":
            return f"toolkit run --segmenter {component.name}"
        case "strategy":
            return _strategy_example(component)
        case "loss" if getattr(component.entry, "role", "") == "distillation":
            needs = ":layer=LAYER" if "layer" in options(cls) and options(cls)["layer"].default is EMPTY else ""
            return f"toolkit run --segmenter unet --teacher RUN --distill {component.name}{needs}"
        case "loss":
            beside = "dice+0.01*" if "partner" in component.entry.tags else ""
            return f"toolkit run --segmenter unet --loss {beside}{component.name}"
        case _:
            needs_root = getattr(cls, "needs_root", getattr(component.entry, "needs_root", True))
            data = f"{component.name}:FOLDER" if needs_root else component.name
            if "unlabelled" in component.entry.tags:
                return f"toolkit run --generator cut --segmenter unet --source folder:FOLDER --target {data}"
            if "paired" in component.entry.tags:
                return f"toolkit run --generator pix2pix --set generator.condition=image --source {data}"
            return f"toolkit run --segmenter unet --source {data} --test {data}"
