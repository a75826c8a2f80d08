"""Which checks there are of what a package offers."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from transeg.core.errors import TransegError, UsageError, did_you_mean
from transeg.core.manifest import Component, Entry, Plugin
from transeg.core.registry import MANIFEST, Registry
from transeg.testing.subject import Check, Subject, Tree

MODULES = {
    "segmenter": ("segmenter_checks", "export_checks"),
    "generator": ("generator_checks", "export_checks"),
    "loss": ("loss_checks",),
    "distillation": ("distillation_checks",),
    "dataset": ("dataset_checks",),
    "metric": ("metric_checks",),
    "strategy": ("strategy_checks",),
    "command": ("command_checks",),
    "plugin": ("module_checks",),
}
"""Where the checks of a kind are."""


def checks_of(
    target: str | Path,
    *,
    kind: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    trees: Mapping[str, Tree] | None = None,
    registry: Registry | None = None,
) -> list[Check]:
    """The checks of everything that a package offers.

    Args:
        target: a package: by the name that pip knows or by the one that is imported, installed or not; or a manifest,
            as `--registry` takes it.
        kind: of the components that are checked, `command` and `plugin` (the package itself) among them; by default
            every one.
        options: by component, as in ``{"generator/mine": {"width": 4}}``: what makes it small enough for checks.
        trees: by the name of a dataset that reads a folder: a folder in its layout, or a function that writes one into
            an empty folder. One with a writer needs none.
        registry: where built-in components come from, and others that are checked beside these; by default what is
            installed.

    Raises:
        UsageError: there is no such package, its manifest cannot be read, or options are of what it does not offer.
    """
    registry, plugin = find_plugin(target, registry or Registry())
    options, trees = options or {}, trees or {}
    offered = [*_package(plugin), *_components(registry, plugin), *plugin.command_components()]
    _check_names(options, [str(component) for component in offered], "options")
    _check_names(trees, [component.name for component in offered if component.kind == "dataset"], "trees")
    return [
        check
        for component in offered
        if kind in (None, component.kind)
        for check in _checks(Subject(component, registry, options.get(str(component), {}), trees.get(component.name)))
    ]


def find_plugin(target: str | Path, registry: Registry) -> tuple[Registry, Plugin]:
    """A plugin, and a registry that has it.

    Args:
        target: see :func:`checks_of`.
        registry: what is installed.

    Raises:
        UsageError: there is none, or its manifest was named and cannot be read.
    """
    if not str(target).endswith(".toml"):
        known = {name: plugin for plugin in registry.plugins for name in (plugin.module, plugin.name, plugin.package)}
        plugin = known.get(str(target)) or known.get(str(target).replace("_", "-"))
        if plugin is not None:
            return registry, plugin
        manifest = _manifest(str(target))
        if manifest is None:
            known.pop("", None)
            raise UsageError(
                f"There is no plugin {str(target)!r}: no package of that name is installed, and no folder of that name "
                f"here has a {MANIFEST}.{did_you_mean(str(target), known)}"
            )
        target = manifest
    own = Registry([*(file for file in registry.files if file.resolve() != Path(target).resolve()), Path(target)])
    return own, own.plugins[-1]


def _manifest(package: str) -> Path | None:
    """The manifest of a package that can be imported but is not installed as a plugin."""
    if not package.isidentifier():
        return None
    spec = importlib.util.find_spec(package)
    folders = (spec.submodule_search_locations or []) if spec else []
    return next((Path(folder) / MANIFEST for folder in folders if (Path(folder) / MANIFEST).is_file()), None)


def _components(registry: Registry, plugin: Plugin) -> Iterator[Component]:
    for component in registry.components():
        if (component.package, component.version) == (plugin.package, plugin.version):
            yield component


def _package(plugin: Plugin) -> Iterator[Component]:
    """A plugin's own package, where it is installed: a run imports it for its hooks."""
    if plugin.module:
        whole = Component("plugin", plugin.name, plugin.package, plugin.version, Entry(entry=""), plugin.root)
        yield replace(whole, status=plugin.status, reason=plugin.reason)


def _check_names(given: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    for name in given:
        if name not in known:
            raise UsageError(
                f"There are {what} of {name}, which the package does not offer.{did_you_mean(name, known)}"
            )


def _checks(subject: Subject) -> Iterator[Check]:
    from transeg.testing import manifest_checks as described

    component = subject.component
    if component.status in ("missing", "broken", "disabled"):
        yield Check(subject, described.can_be_used)
        return
    if component.kind in ("command", "plugin"):
        yield from _of_kind(subject, component.kind)
        return
    general: list[Callable[[Subject], None]] = [*described.FOR_ALL]
    general += described.FOR_CLASSES if component.kind != "metric" else ()
    general += [described.parameters_are_as_stated] if component.kind in ("generator", "segmenter") else []
    yield from (Check(subject, function) for function in general)
    role = getattr(component.entry, "role", "")
    yield from _of_kind(subject, "distillation" if role == "distillation" else component.kind)


def _of_kind(subject: Subject, kind: str) -> Iterator[Check]:
    written = ("writer_checks",) if kind == "dataset" and _has_writer(subject) else ()
    for name in (*MODULES[kind], *written):
        module = import_module(f"transeg.testing.{name}")
        slow = getattr(module, "SLOW", ())
        yield from (Check(subject, function, function in slow) for function in module.CHECKS)


def _has_writer(subject: Subject) -> bool:
    try:
        return getattr(subject.load(), "writer", None) is not None
    except TransegError:  # which other checks say
        return False
