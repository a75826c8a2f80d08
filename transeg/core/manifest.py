"""A plugin's ``registry.toml``: what it offers, readable without importing it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from transeg.core.conventions import Condition

CONTRACT = 2
"""The version of the contracts in ``core.interfaces`` and of manifests that this core speaks.

Manifests of version 1 are read, too: what they do not say of a component, its class does."""

KINDS = ("generator", "segmenter", "loss", "dataset")


class Entry(BaseModel):
    """One table of a manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    entry: str = Field(pattern=r"^[\w./\\ -]+:\w+$")
    """``package.module:Name``, or ``file.py:Name`` in a manifest named on the command line."""
    summary: str = ""
    paper: str = ""
    params: int | None = None
    """Trainable parameters at defaults."""
    tags: tuple[str, ...] = ()
    requires: str = ""
    """The extra of the plugin's package that must be installed."""


class GeneratorEntry(Entry):
    """``[generator.NAME]``."""

    paired: bool = False
    conditions: tuple[Condition, ...] = ("image",)
    """What it can be given of the source, the usual first; as `Generator.conditions` of its class."""


class SegmenterEntry(Entry):
    """``[segmenter.NAME]``."""


class LossEntry(Entry):
    """``[loss.NAME]``."""

    role: Literal["segmentation", "distillation"] = "segmentation"


class Archive(BaseModel):
    """A file of a dataset that anybody may download, as its authors offer it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(pattern=r"^https?://\S+/[^/\s]+$")
    sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    """Empty where none is published."""


class DatasetEntry(Entry):
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
    preset: dict[str, Any] = {}
    """Options of an experiment that suit this dataset better than the published sizes, as nested tables; those under
    ``generator/NAME`` and ``segmenter/NAME`` are for that component alone."""
    archives: tuple[Archive, ...] = ()
    """What `toolkit data download` fetches; only where licence and server let a program do that."""


class CommandEntry(BaseModel):
    """``[command.NAME]``: a further Click command, imported when it is called."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    entry: str = Field(pattern=r"^[\w.]+:\w+$")
    summary: str = ""


class PluginTable(BaseModel):
    """``[plugin]``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    contract: int


class Manifest(BaseModel):
    """A whole ``registry.toml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    plugin: PluginTable
    generator: dict[str, GeneratorEntry] = {}
    segmenter: dict[str, SegmenterEntry] = {}
    loss: dict[str, LossEntry] = {}
    dataset: dict[str, DatasetEntry] = {}
    command: dict[str, CommandEntry] = {}

    def entries(self) -> list[tuple[str, str, Entry]]:
        """(kind, name, entry) of every component."""
        return [(kind, name, entry) for kind in KINDS for name, entry in getattr(self, kind).items()]


def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest.

    Raises:
        ValueError: one sentence that says what is wrong with it.
    """
    try:
        manifest = Manifest.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from error
    except ValidationError as error:
        fault = error.errors()[0]
        raise ValueError(f"{path}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error
    if manifest.plugin.contract not in range(1, CONTRACT + 1):
        raise ValueError(
            f"{path} is written for contract {manifest.plugin.contract}, this transeg speaks contract {CONTRACT}"
        )
    return manifest


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
