"""Finds plugins, reads their manifests and loads a component when it is asked for.

Nothing is imported for listing: manifests and source files are read as text.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.metadata
import importlib.util
import os
import sys
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pluggy

from transeg.core import hookspecs, interfaces
from transeg.core.errors import TransegError, UsageError, did_you_mean
from transeg.core.manifest import KINDS, CommandEntry, Component, Entry, Plugin, Status, read_manifest

GROUP = "transeg"
BUILTIN = "transeg"
MANIFEST = "registry.toml"
LOCAL = "transeg_local_"
"""What the names of modules begin with that are imported from a file beside a manifest."""
PLURALS = {"losses": "loss", "loss": "loss", "strategies": "strategy"}
"""Kinds by their plurals, where these are not made by an s alone."""
DESCRIBED_BY_CLASS = {"conditions", "paired", "domains", "test_domains", "classes", "needs_root", "preset"}
"""What a manifest says from contract 2 on, and a class before."""


@dataclass(frozen=True)
class ManifestProxy:
    """Answers ``transeg_manifest`` on behalf of one entry point, from its manifest, without importing it."""

    name: str
    package: str
    version: str
    module: str
    disabled: bool

    @hookspecs.hookimpl
    def transeg_manifest(self) -> Plugin:
        """The plugin as its manifest describes it; what is wrong with it is recorded, never raised."""
        plugin = Plugin(self.name, self.package, self.version, self.module)
        if self.disabled:
            return replace(plugin, status="disabled", reason="left out by TRANSEG_DISABLE_PLUGINS")
        try:
            folder = _package_folder(self.module)
            manifest = read_manifest(folder / MANIFEST)
        except Exception as error:
            return replace(plugin, status="broken", reason=str(error))
        root = folder.parents[self.module.count(".")]
        faults = {} if self.package == BUILTIN else _command_faults(manifest.commands, root)
        init = _fault_in_source(folder / "__init__.py", None, root)
        status: Status = "broken" if init else "ok"
        contract = manifest.contract
        components = tuple(
            _checked(Component(kind, name, self.package, self.version, entry, root, contract), init)
            for kind, name, entry in manifest.entries()
        )
        plugin = replace(plugin, status=status, reason=init, components=components, contract=manifest.contract)
        return replace(plugin, commands=manifest.commands, command_faults=faults, root=root)


class Registry:
    """All plugins that are installed here or named by the user, and what they offer.

    Args:
        files: further manifests, as `--registry` names them; their entries are ``file.py:Name``.
    """

    def __init__(self, files: Sequence[Path] = ()) -> None:
        manager = pluggy.PluginManager(GROUP)
        manager.add_hookspecs(hookspecs)
        for proxy in _proxies():
            manager.register(proxy)
        found = sorted(manager.hook.transeg_manifest(), key=lambda plugin: (plugin.package != BUILTIN, plugin.name))
        self.files: tuple[Path, ...] = ()
        self.plugins: list[Plugin] = []
        self._missing: list[Path] = []
        self._manager = manager
        self._by_name: dict[tuple[str, str], list[Component]] = defaultdict(list)
        for plugin in found:
            self._add(plugin)
        for file in files:
            self._add(_local(file))
            self.files = (*self.files, file)

    def _add(self, plugin: Plugin) -> None:
        self.plugins.append(plugin)
        for component in plugin.components:
            self._by_name[component.kind, component.name].append(component)

    def include(self, files: Iterable[Path]) -> list[Path]:
        """Offer what further manifests do, too, as far as they are there; those that are not are named where something
        is looked for in vain.

        Returns:
            Those that are new.
        """
        known = {file.resolve() for file in self.files}
        new = []
        for file in files:
            if not file.exists():
                self._missing.append(file)
            elif file.resolve() not in known:
                self._add(_local(file))
                self.files = (*self.files, file)
                new.append(file)
        return new

    def components(self, kind: str | None = None) -> Iterator[Component]:
        """Every component, or every one of a kind; those that share a name are marked as in conflict."""
        for (found_kind, _), group in self._by_name.items():
            if kind not in (None, found_kind):
                continue
            builtin = any(component.package == BUILTIN for component in group)
            for component in group:
                if len(group) > 1 and component.package != BUILTIN and component.status == "ok":
                    short = "the built-in" if builtin else "no component"
                    yield replace(
                        component,
                        status="conflict",
                        reason=f"{component.name!r} means {short}; this one is {component.package}:{component.name}",
                    )
                else:
                    yield component

    def find(self, kind: str, name: str) -> Component:
        """The usable component of that name, ``name`` or ``package:name``.

        Raises:
            UsageError: there is none, several plugins offer it, or it is broken.
        """
        package, _, short = name.rpartition(":")
        group = [c for c in self._by_name.get((kind, short), []) if package in ("", c.package)]
        if not group:
            known = {c.name for c in self.components(kind)}
            gone = ", ".join(dict.fromkeys(map(str, self._missing)))
            hint = (
                f" The run was made with {gone}, which is not there any more: say where it is with --registry FILE."
                if gone
                else did_you_mean(short, known)
            )
            raise UsageError(f"There is no {kind} {name!r}.{hint}")
        if len(group) > 1:
            builtin = [c for c in group if c.package == BUILTIN]
            if not builtin:
                choices = " or ".join(f"{c.package}:{c.name}" for c in group)
                raise UsageError(f"Several plugins offer the {kind} {name!r}; say {choices}.")
            group = builtin
        component = group[0]
        if component.status == "missing":
            raise UsageError(f"The {kind} {name!r} needs more than is installed: {component.reason}.")
        if component.status == "broken":
            raise UsageError(
                f"The {kind} {name!r} of {component.package} is broken: {component.reason}. "
                f"Mend it, or remove it with: pip uninstall {component.package}"
            )
        return component

    def load(self, component: Component) -> Any:
        """Import a component's class; what its code prints meanwhile goes to standard error.

        Raises:
            TransegError: its code cannot be imported.
        """
        module_name, _, attribute = component.entry.entry.rpartition(":")
        if not module_name.endswith(".py") and not _installed(module_name.partition(".")[0]):
            sys.path.append(str(component.root))  # of a package whose manifest was named before it is installed
            _installed.cache_clear()
        try:
            with contextlib.redirect_stdout(sys.stderr):  # standard output is the command's: JSON must stay JSON
                if module_name.endswith(".py"):
                    module = _import_file(component.root / module_name)
                else:
                    module = importlib.import_module(module_name)
            return getattr(module, attribute)
        except Exception as error:
            extra = component.entry.requires
            hint = f" It needs: pip install '{component.package}[{extra}]'" if extra else ""
            raise TransegError(
                f"{component} of {component.package} cannot be loaded: {type(error).__name__}: {error}.{hint}"
            ) from error

    def class_of(self, kind: str, name: str) -> Any:
        """The class of the usable component of that name, which derives from the interface of its kind.

        A segmentation loss may be any module: its interface adds nothing to that of PyTorch.

        Raises:
            UsageError: there is none, see :meth:`find`, or its class is of another kind.
            TransegError: its code cannot be imported.
        """
        component = self.find(kind, name)
        cls = self.load(component)
        role = getattr(component.entry, "role", "")
        if component.package != BUILTIN and role != "segmentation":
            wanted = getattr(interfaces, "DistillationLoss" if role == "distillation" else kind.capitalize())
            if not (isinstance(cls, type) and issubclass(cls, wanted)):
                raise UsageError(
                    f"The {kind} {name!r} of {component.package} is none: {component.entry.entry} does not derive from "
                    f"transeg.core.interfaces.{wanted.__name__}. Mend that plugin."
                )
        return cls

    def describe(self, component: Component) -> Any:
        """A component's entry with all that composition must know of it.

        A manifest of contract 1 need not say everything; what it leaves out is read off the class, which is imported.

        Raises:
            TransegError: its code cannot be imported.
        """
        entry = component.entry
        if component.contract > 1:
            return entry
        blank = type(entry)(entry=entry.entry)
        known = DESCRIBED_BY_CLASS & set(entry.__struct_fields__)
        unsaid = {name for name in known if getattr(entry, name) == getattr(blank, name)}
        cls = self.load(component) if unsaid else None
        return msgspec.structs.replace(entry, **{name: getattr(cls, name) for name in unsaid if hasattr(cls, name)})

    def plugin_hooks(self) -> tuple[pluggy.HookRelay, list[str]]:
        """The hooks of all enabled plugins, whose own modules are imported now; and what failed, a sentence each."""
        failures = []
        for plugin in self.plugins:
            if plugin.status != "ok" or not plugin.module or self._manager.has_plugin(f"{plugin.package} module"):
                continue
            try:
                module = importlib.import_module(plugin.module)
                self._manager.register(module, name=f"{plugin.package} module")
                self._manager.check_pending()
            except Exception as error:
                failures.append(
                    f"The hooks of the plugin {plugin.package} are left out: {type(error).__name__}: {error}"
                )
        return self._manager.hook, failures


def kind_named(name: str) -> str:
    """A kind, by its name in the singular or plural.

    Raises:
        UsageError: there is no such kind.
    """
    kind = PLURALS.get(name) or name.removesuffix("s")
    if kind not in KINDS:
        raise UsageError(f"There is no kind {name!r}; there are {', '.join(KINDS)}, and combinations.")
    return kind


def _proxies() -> Iterator[ManifestProxy]:
    disabled = {name.strip() for name in os.environ.get("TRANSEG_DISABLE_PLUGINS", "").split(",") if name.strip()}
    for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda point: point.name):
        package = point.dist.name if point.dist else point.name
        builtin = package == BUILTIN
        off = not builtin and bool({"*", point.name, package} & disabled)
        yield ManifestProxy(point.name, package, point.dist.version if point.dist else "", point.value, off)


def _package_folder(module: str) -> Path:
    """Where a package lies; only its top-level name is looked up, as looking up ``a.b`` would execute ``a``."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"its package {module!r} cannot be found")
    return Path(next(iter(spec.submodule_search_locations)), *rest)


def _local(file: Path) -> Plugin:
    """The plugin that a manifest named by the user describes: one of files beside it, or that of a package."""
    file = file.resolve()
    above = file.parent
    while (above / "__init__.py").exists():
        above = above.parent
    name = file.stem if above == file.parent else file.parent.name
    try:
        manifest = read_manifest(file)
    except ValueError as error:
        raise UsageError(f"--registry: {error}.") from error

    def root(entry: Entry) -> Path:
        return file.parent if entry.entry.rpartition(":")[0].endswith(".py") else above

    components = tuple(
        _checked(Component(kind, own, name, "", entry, root(entry), manifest.contract), "")
        for kind, own, entry in manifest.entries()
    )
    faults = _command_faults(manifest.commands, above)
    plugin = Plugin(name, name, "", components=components, contract=manifest.contract, root=above)
    return replace(plugin, commands=manifest.commands, command_faults=faults)


def _import_file(path: Path) -> ModuleType:
    name = f"{LOCAL}{path.stem}"
    if name in sys.modules and sys.modules[name].__file__ != str(path):  # another file of that name
        name = f"{name}_{zlib.crc32(str(path).encode()):08x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pickling to data loader workers looks the class up by this name
    spec.loader.exec_module(module)
    return module


def _checked(component: Component, fault: str) -> Component:
    """The component, marked broken where its package or its source file can be seen to be so."""
    if component.package == BUILTIN and not component.entry.requires:
        return component  # our own tests import it, and to parse all of it would take half of `toolkit list`
    if not fault:
        module, _, attribute = component.entry.entry.rpartition(":")
        fault = _fault_in_source(_source_file(component.root, module), attribute, component.root)
    if fault.endswith("not installed") and component.entry.requires:
        install = f"pip install '{component.package}[{component.entry.requires}]'"
        return replace(component, status="missing", reason=install)
    return replace(component, status="broken", reason=fault) if fault else component


def _command_faults(commands: Mapping[str, CommandEntry], root: Path) -> dict[str, str]:
    """What keeps commands from being used, as far as their source shows it, by their names."""
    found = {}
    for name, entry in commands.items():
        module, _, attribute = entry.entry.rpartition(":")
        if fault := _fault_in_source(_source_file(root, module), attribute, root):
            found[name] = fault
    return found


def _source_file(root: Path, module: str) -> Path:
    if module.endswith(".py"):
        return root / module
    base = root.joinpath(*module.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def _fault_in_source(path: Path, attribute: str | None, root: Path) -> str:
    """What keeps a module from being imported, as far as its text shows: '' where nothing does.

    Seen are missing files, syntax errors, a ``raise`` at the top level, imports of packages that are not installed,
    and a missing attribute. Compiled modules are not looked into.
    """
    if not path.exists():
        compiled = any(path.parent.glob(f"{path.stem}.*.so")) or any(path.parent.glob(f"{path.stem}.*.pyd"))
        return "" if compiled else f"its file {path.name} is missing"
    try:
        statements = ast.parse(path.read_text(encoding="utf-8")).body
    except (SyntaxError, UnicodeDecodeError, ValueError) as error:
        return f"{path.name} is not valid Python: {error}"
    for statement in statements:
        if isinstance(statement, ast.Raise):
            return f"{path.name} raises an exception when it is imported (line {statement.lineno})"
        for package in _imports(statement):
            if not _installed(package) and not (root / package / "__init__.py").exists():
                return f"{path.name} imports {package}, which is not installed"
    if attribute is not None and not _binds(statements, attribute):
        return f"{path.name} has no {attribute!r}"
    return ""


def _imports(statement: ast.stmt) -> list[str]:
    """Top-level packages that a statement imports."""
    if isinstance(statement, ast.Import):
        return [alias.name.partition(".")[0] for alias in statement.names]
    if isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
        return [statement.module.partition(".")[0]]
    return []


@cache
def _installed(package: str) -> bool:
    try:
        return package in sys.modules or importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _binds(statements: Iterable[ast.stmt], name: str) -> bool:
    """Whether top-level statements may bind a name; anything less plain than a definition counts as a maybe."""
    for statement in statements:
        match statement:
            case ast.ClassDef(name=bound) | ast.FunctionDef(name=bound):
                if bound == name:
                    return True
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                if any((alias.asname or alias.name) in (name, "*") for alias in aliases):
                    return True
            case ast.Assign(targets=targets):
                if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                    return True
            case ast.Expr() | ast.AnnAssign():
                continue
            case _:
                return True
    return False
