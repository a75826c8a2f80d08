"""The commands for those who write plugins, imported when one of them is called."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from rich.console import Console

from transeg.core.component_options import check_options
from transeg.core.errors import TransegError, UsageError, did_you_mean
from transeg.core.experiment.settings import parse_assignment
from transeg.core.manifest import Component
from transeg.core.registry import BUILTIN, Registry
from transeg.tools.common.console import stderr_console
from transeg.tools.common.options import PATH, as_json, repeatable, with_registry
from transeg.tools.plugin.new_package import LICENCES, Kind, write_package

if TYPE_CHECKING:
    from transeg.testing import Check


@click.group()
def plugin() -> None:
    """Write, check and list plugins."""


@plugin.command("new")
@click.argument("name")
@click.option(
    "--kind",
    required=True,
    type=click.Choice(get_args(Kind)),
    help="What the package offers; more can be added to it afterwards.",
)
@click.option(
    "-o",
    "--out",
    type=PATH,
    metavar="FOLDER",
    help="Folder to write to, new or empty; by default one of its name here.",
)
@click.option(
    "--licence",
    type=click.Choice(sorted(LICENCES)),
    default="Apache-2.0",
    show_default=True,
    help="Licence of the package.",
)
@click.option("--author", default="", metavar="NAME", help="Whose it is, for the package's description.")
def new(name: str, kind: Kind, out: Path | None, licence: str, author: str) -> None:
    """Write a package that pip can install, with a component that works and tests that pass.

    \b
    toolkit plugin new my-unet --kind segmenter
    toolkit plugin check my-unet/my_unet/registry.toml
    pip install -e my-unet
    """
    package = write_package(name, kind, out or Path(name), licence=licence, author=author)
    manifest = package.manifest.as_posix()
    click.echo(f"Wrote {package.folder} with a {kind} called {package.component}. Next:\n")
    for line in (
        f"toolkit plugin check {manifest}",
        f"pip install -e {package.folder.as_posix()}",
        "toolkit plugin list",
    ):
        click.echo(f"    {line}")


@plugin.command("check")
@click.argument("target", metavar="[PACKAGE | MANIFEST.toml]", required=False)
@repeatable(
    "--set", "assignments", "KIND/NAME.OPTION=VALUE", "Option that makes a component small enough to be checked."
)
@repeatable("--data", "data", "NAME=FOLDER", "Folder that the dataset NAME reads, in its layout.")
@click.option("--fast", is_flag=True, help="Leave out exports and trainings, which may take a minute each.")
@as_json
@with_registry
def check(
    target: str | None,
    assignments: tuple[str, ...],
    data: tuple[str, ...],
    fast: bool,
    as_json: bool,
    registry: Registry,
) -> None:
    """Check everything that a package offers against its contract.

    PACKAGE is a plugin that is installed; without one, all that are installed are checked. What
    fails is said in a sentence that says what to mend.

    \b
    toolkit plugin check my-unet
    toolkit plugin check my-unet/my_unet/registry.toml --set segmenter/my-unet.width=4
    """
    from transeg.core.distributed.progress_bar import progress_bar
    from transeg.tools.plugin.check_report import as_document, run_checks, show_outcomes

    targets = [target] if target else [each.package for each in registry.plugins if each.package != BUILTIN]
    if not targets:
        raise UsageError("There is no plugin but transeg itself; name a manifest, or write one: toolkit plugin new.")
    given, trees = _given(assignments), dict(_folder(text) for text in data)
    checks = [each for name in targets for each in _checks(name, registry, given, trees) if not (fast and each.slow)]
    offered = {str(each.subject.component) for each in checks}
    for name in [*given, *(f"dataset/{name}" for name in trees)]:
        if name not in offered:
            raise UsageError(f"There is no {name} among what is checked.{did_you_mean(name, offered)}")
    with progress_bar(stderr_console(), "checking", len(checks), "checks") as advance:
        outcomes = run_checks(checks, advance)
    if as_json:
        click.echo(json.dumps(as_document(outcomes), indent=2))
    else:
        show_outcomes(outcomes, Console())
    failed = sum(outcome.state == "failed" for outcome in outcomes)
    if failed:
        raise TransegError(f"{failed} of {len(outcomes)} checks failed; each says above what to mend.")


def _given(assignments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Options by component, from ``KIND/NAME.OPTION=VALUE``."""
    given: dict[str, dict[str, Any]] = {}
    for text in assignments:
        for name, table in parse_assignment(text).items():
            if not isinstance(table, dict):
                raise UsageError(f"--set {text!r} is not of the form KIND/NAME.OPTION=VALUE.")
            given.setdefault(name, {}).update(table)
    return given


def _checks(
    target: str, registry: Registry, given: Mapping[str, dict[str, Any]], trees: Mapping[str, Path]
) -> list[Check]:
    """The checks of a package, each component with its own options, in the types that it declares."""
    from transeg.testing.collecting import checks_of, find_plugin

    found, plugin = find_plugin(target, registry)
    options = {str(each): _options(each, given[str(each)], found) for each in plugin.components if str(each) in given}
    own = {each.name: trees[each.name] for each in plugin.components if each.kind == "dataset" and each.name in trees}
    return checks_of(target, options=options, trees=own, registry=registry)


def _options(component: Component, table: dict[str, Any], registry: Registry) -> dict[str, Any]:
    full = check_options(registry.load(component), table, str(component))
    return {name: full[name] for name in table}


def _folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not equals or not Path(folder).is_dir():
        raise UsageError(f"--data {text!r} is not of the form NAME=FOLDER, with a folder that is there.")
    return name, Path(folder)


@plugin.command("list")
@as_json
@with_registry
def list_plugins(as_json: bool, registry: Registry) -> None:
    """Show every plugin: what it offers, how long it takes to load, and what is broken.

    Plugins of others are imported for that; transeg itself is not.
    """
    from transeg.tools.plugin.inventory_of_plugins import describe_plugins, show_plugins

    rows = describe_plugins(registry)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        show_plugins(rows, Console())
