"""Plugins that are installed, and what keeps them, or some of what they offer, from being used."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from transeg.core.manifest import Plugin
from transeg.core.registry import BUILTIN, Registry
from transeg.tools.doctor.finding import Finding


def check_plugins(registry: Registry) -> Iterator[Finding]:
    """Each plugin; those that can be imported are, as a run does for their hooks."""
    for plugin in registry.plugins:
        yield _plugin(plugin, registry)
    with contextlib.redirect_stdout(sys.stderr):  # what plugins print is not part of a document
        _, failures = registry.plugin_hooks()
    for failure in failures:
        yield Finding("plugins", "fault", f"{failure.rstrip('.')}.", "Mend the plugin, or uninstall it.")


def _plugin(plugin: Plugin, registry: Registry) -> Finding:
    name = f"{plugin.package} {plugin.version}".strip()
    if plugin.status == "disabled":
        return Finding("plugins", "note", f"{name} is {plugin.reason}.", "Unset TRANSEG_DISABLE_PLUGINS to use it.")
    if plugin.status == "broken":
        return Finding("plugins", "fault", f"{name} is broken: {plugin.reason}.", _without(plugin))
    own = [component for component in registry.components() if component.package == plugin.package]
    found = f"{name} offers {len(own)} components and {len(plugin.commands)} commands."
    broken = [f"{component} is broken: {component.reason}." for component in own if component.status == "broken"]
    if broken:
        return Finding("plugins", "fault", "\n".join([found, *broken]), _without(plugin))
    hidden = [f"{component}: {component.reason}." for component in own if component.status == "conflict"]
    missing = [f"{component} needs: {component.reason}" for component in own if component.status == "missing"]
    if hidden or (missing and plugin.package != BUILTIN):  # what ours lack, the extras say
        return Finding("plugins", "note", "\n".join([found, *hidden, *missing]))
    return Finding("plugins", "ok", found)


def _without(plugin: Plugin) -> str:
    if plugin.package == BUILTIN:
        return "Install transeg again: pip install --force-reinstall --no-deps transeg"
    if not plugin.module:
        return "Mend what --registry names."
    return (
        f"Mend it, install it again, or go without it: pip uninstall {plugin.package}, or "
        f"TRANSEG_DISABLE_PLUGINS={plugin.package}"
    )
