"""A plugin's ``registry.toml``: what it offers, readable without importing it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from transeg.core.conventions import Condition

OLDEST_CONTRACT = 1
"""The oldest version that is still read; docs/plugins/first.md says for how long."""
CONTRACT = 2
"""The version of the contracts in ``core.interfaces`` and of manifests that this core speaks.

Manifests of version 1 are read, too: what they do not say of a component, its class does."""


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of a manifest, read by msgspec: to import pydantic takes longer than `toolkit list` may."""


class Entry(Table, frozen=True):
    """One table of a manifest."""

    entry: Annotated[str, msgspec.Meta(pattern=r"^[\w./\\ -]+:\w+$")]
    """``package.module:Name``, or ``file.py:Name`` in a manifest named on the command line."""
    summary: str = ""
    paper: str = ""
    params: int | None = None
    """Trainable parameters at defaults."""
    tags: tuple[str, ...] = ()
    requires: str = ""
    """The extra of the plugin's package that must be installed."""


class GeneratorEntry(Entry, frozen=True):
    """``[generator.NAME]``."""

    paired: bool = False
    conditions: tuple[Condition, ...] = ("image",)
    """What it can be given of the source, the usual first; as `Generator.conditions` of its class."""


class SegmenterEntry(Entry, frozen=True):
    """``[segmenter.NAME]``."""


class LossEntry(Entry, frozen=True):
    """``[loss.NAME]``."""

    role: Literal["segmentation", "distillation"] = "segmentation"


Place = Literal["tests", "folds", "compare", "report", "card"]
"""Where a metric is shown: in the tables of test sets and of folds, where runs are compared unless other metrics are
named, in reports, and in the card of an exported model."""


class MetricEntry(Entry, frozen=True, kw_only=True):
    """``[metric.NAME]``, whose entry is a function: see :data:`transeg.core.interfaces.metrics.ImageMetricFunction`."""

    higher_is_better: bool | None
    """None, which no manifest can say, where neither is."""
    title: str = ""
    """In tables, by default the name."""
    unit: str = ""
    digits: Annotated[int, msgspec.Meta(ge=0, le=9)] = 3
    """Behind the point."""
    shown: tuple[Place, ...] = ()
    validation: bool = False
    """Whether the validations of a training measure it, too, so that a search can go by it."""
    on_request: bool = False
    """Whether it is measured only where an experiment's `metrics` or `toolkit evaluate --metric` names it."""


class Archive(Table, frozen=True):
    """A file of a dataset that anybody may download, as its authors offer it."""

    url: Annotated[str, msgspec.Meta(pattern=r"^https?://\S+/[^/\s]+$")]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?$")] = ""
    """Empty where none is published."""


class DatasetEntry(Entry, frozen=True):
    """``[dataset.NAME]``."""

    licence: str = ""
    url: str = ""
    size: str = ""
    """Of the download, for people."""
    domains: tuple[str, ...] = ()
    """As `Dataset.domains` of its class."""
    test_domains: tuple[str, ...] = ()
    """Domains that are test sets of their own: to test on the dataset means to test on each of them."""
    classes: tuple[str, ...] = ("background", "foreground")
    """Names of the classes, background first, where no option says otherwise; as `Dataset.classes` of its class."""
    needs_root: bool = True
    """Whether it reads a folder."""
    takes_file: bool = False
    """Whether it reads a single file in place of a folder, too."""
    preset: dict[str, Any] = {}
    """Options of an experiment that suit this dataset better than the published sizes, as nested tables; those under
    ``generator/NAME`` and ``segmenter/NAME`` are for that component alone."""
    archives: tuple[Archive, ...] = ()
    """What `toolkit data download` fetches; only where licence and server let a program do that."""


Ingredient = Literal["generator", "segmenter", "source", "target", "synthetic", "pairs"]
"""What a strategy may need: networks, data sets of the experiment, a source whose images have counterparts."""


class StrategyEntry(Entry, frozen=True):
    """``[strategy.NAME]``."""

    needs: tuple[Ingredient, ...] = ()
    takes: tuple[Ingredient, ...] = ()
    """What it has a use for besides, where it is named."""
    usual: bool = False
    """Whether it is meant where networks are named that are just those it needs, and no strategy is."""
    baseline: bool = False
    """Whether it can train a source-only baseline, too."""
    table: str = ""
    """The table that held its options in experiment files of format 1."""
    defaults: dict[str, Any] = {}
    """Options of an experiment that it was published with, as nested tables."""


ENTRIES: dict[str, type[Entry]] = {
    "generator": GeneratorEntry,
    "segmenter": SegmenterEntry,
    "loss": LossEntry,
    "dataset": DatasetEntry,
    "strategy": StrategyEntry,
    "metric": MetricEntry,
}
KINDS = tuple(ENTRIES)


class CommandEntry(Table, frozen=True):
    """``[command.NAME]``: a further Click command, imported when it is called."""

    entry: Annotated[str, msgspec.Meta(pattern=r"^[\w.]+:\w+$")]
    summary: str = ""


class PluginTable(Table, frozen=True):
    """``[plugin]``."""

    contract: int


Read = TypeVar("Read", bound=Table)


@dataclass(frozen=True)
class Manifest:
    """A whole ``registry.toml``: entries by kind and name."""

    contract: int
    components: dict[str, dict[str, Entry]]
    commands: dict[str, CommandEntry]

    def entries(self) -> list[tuple[str, str, Entry]]:
        """(kind, name, entry) of every component."""
        return [(kind, name, entry) for kind, named in self.components.items() for name, entry in named.items()]


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest.

    Raises:
        ValueError: one sentence that says what is wrong with it.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from error
    unknown = document.keys() - {"plugin", "command", *ENTRIES}
    if unknown:
        raise ValueError(f"{path}: there is no table [{min(unknown)}] in a manifest")
    if "plugin" not in document:
        raise ValueError(f"{path}: the table [plugin] is missing")
    contract = _read(path, "plugin", document["plugin"], PluginTable).contract
    if contract > CONTRACT:
        raise ValueError(
            f"{path} is written for contract {contract}, but this transeg speaks contract {CONTRACT}: install a newer "
            "transeg, or an older release of the plugin"
        )
    if contract < OLDEST_CONTRACT:
        raise ValueError(
            f"{path} is written for contract {contract}, but this transeg speaks contract {CONTRACT} and reads from "
            f"{OLDEST_CONTRACT} on: install a newer release of the plugin, or an older transeg"
        )
    components = {kind: _read_all(path, kind, document, entry) for kind, entry in ENTRIES.items()}
    return Manifest(contract, components, _read_all(path, "command", document, CommandEntry))


def _read_all(path: Path, kind: str, document: dict[str, Any], into: type[Read]) -> dict[str, Read]:
    tables = document.get(kind, {})
    if not isinstance(tables, dict):
        raise ValueError(f"{path}: {kind} is not a table")
    return {name: _read(path, f"{kind}.{name}", table, into) for name, table in tables.items()}


def _read(path: Path, where: str, table: Any, into: type[Read]) -> Read:
    try:
        return msgspec.convert(table, into)
    except msgspec.ValidationError as error:
        raise ValueError(
            f"{path}: {where}: {error}".replace(" - at `$.", " - at `").replace("Object", "The table")
        ) from error


Status = Literal["ok", "disabled", "broken", "conflict", "missing"]


@dataclass(frozen=True)
class Component:
    """Something a plugin offers."""

    kind: str
    name: str
    package: str
    version: str
    entry: Entry
    root: Path
    """The folder that the entry's first module lies in."""
    contract: int = CONTRACT
    """The version that its manifest is written for."""
    status: Status = "ok"
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"

    @property
    def domains(self) -> tuple[str, ...]:
        """A dataset's domains."""
        return self.entry.domains if isinstance(self.entry, DatasetEntry) else ()

    def summary(self) -> dict[str, Any]:
        """What `toolkit list --json` says of it."""
        return {
            "kind": self.kind,
            "name": self.name,
            "package": self.package,
            "version": self.version,
            "status": self.status,
            "reason": self.reason,
            "summary": self.entry.summary,
            "params": self.entry.params,
            "paper": self.entry.paper,
            "tags": list(self.entry.tags),
        }


@dataclass(frozen=True)
class Plugin:
    """An installed package, or a file named on the command line, that offers components."""

    name: str
    package: str
    version: str
    module: str = ""
    status: Status = "ok"
    reason: str = ""
    components: tuple[Component, ...] = ()
    commands: dict[str, CommandEntry] = field(default_factory=dict)
    command_faults: dict[str, str] = field(default_factory=dict)
    """What keeps commands from being used, as far as that can be seen without importing them, by their names."""
    contract: int | None = None
    """The version that its manifest is written for; None where it cannot be read."""
    root: Path = Path()
    """The folder that its top-level package lies in."""

    def command_components(self) -> list[Component]:
        """Its commands as components: of what a table of these holds, they have entry and summary."""
        rows = {name: Entry(entry=each.entry, summary=each.summary) for name, each in self.commands.items()}
        return [Component("command", n, self.package, self.version, row, self.root) for n, row in rows.items()]

    def summary(self) -> dict[str, Any]:
        """What `toolkit list --json` says of a plugin whose components are not known."""
        return {
            "kind": "plugin",
            "name": self.name,
            "package": self.package,
            "version": self.version,
            "status": self.status,
            "reason": self.reason,
            "summary": "",
            "params": None,
            "paper": "",
            "tags": [],
        }
