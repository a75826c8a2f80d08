"""The options of `toolkit run` as tables of an experiment file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transeg.core.errors import UsageError, did_you_mean
from transeg.core.experiment.settings import (
    COMPONENTS,
    Settings,
    merge,
    parse_assignment,
    parse_distiller,
    read_settings,
    spell_out_names,
)
from transeg.core.experiment.versions import upgrade
from transeg.core.manifest import DatasetEntry
from transeg.core.registry import Registry

VIEW = ("size", "resize", "load_ratio", "tile", "stride")
"""Options of ``[data]`` that say how a network sees images."""
UNTELLING = frozenset({"train", "val", "validation", "test", "data", "images"})
"""Names of folders that say nothing of what is in them."""


def parse_dataset(text: str, registry: Registry, assignments: Iterable[str] = ()) -> Settings:
    """``name``, ``name:ROOT``, ``name:DOMAIN`` or ``name:DOMAIN:ROOT``, and options of it, as a table.

    Raises:
        UsageError: there is no such dataset, or one of the options is no assignment.
    """
    name, _, rest = text.partition(":")
    offered = {(component.package, component.name) for component in registry.components("dataset")}
    second = rest.partition(":")[0]
    if (name, second) in offered and name not in {known for _, known in offered}:
        name, rest = f"{name}:{second}", rest.partition(":")[2]
    table: Settings = {"name": name}
    domain, _, after = rest.partition(":")
    domains = registry.find("dataset", name).domains
    if domain and (domain in domains or ("*" in domains and after)):
        table["domain"], rest = domain, after
    if rest:
        table["root"] = rest
    for assignment in assignments:
        table = merge(table, parse_assignment(assignment))
    return table


def parse_teacher(text: str, registry: Registry) -> Settings:
    """A run folder, or ``NAME:WEIGHTS``, as a table of ``[distillation.teachers]``.

    Raises:
        UsageError: it is neither.
    """
    if Path(text, "experiment.toml").exists():
        return {"run": text}
    known = {name for c in registry.components("segmenter") for name in (c.name, f"{c.package}:{c.name}")}
    for name in sorted(known, key=len, reverse=True):
        if text == name or text.startswith(f"{name}:"):
            weights = text[len(name) + 1 :]
            return {"name": name, "weights": weights} if weights else {"name": name}
    raise UsageError(
        f"--teacher {text!r} is neither a run folder nor a segmenter with its weights, as in unet:FILE."
        f"{did_you_mean(text.partition(':')[0], known)}"
    )


def settings_of(named: Mapping[str, Any], under: Settings, registry: Registry) -> Settings:
    """The options of `toolkit run` as tables of an experiment file.

    Args:
        named: by name.
        under: the file that they are laid over; a component of another name replaces its whole table there.
        registry: knows which datasets have domains.
    """
    plain = ("baseline", "folds", "transductive", "seed", "device", "devices")
    settings: Settings = {key: named[key] for key in plain if named.get(key) is not None}
    settings |= _components(named, under, registry)
    data: Settings = {}
    for role in ("source", "target", "synthetic", "val"):
        if named.get(role):
            data[role] = parse_dataset(named[role], registry)
            drop_other_component(under, ("data", role), data[role]["name"])
    tests = [parse_dataset(text, registry) for text in named.get("tests") or ()]
    if tests:
        data["test"] = label_tests(tests, registry)
        under.get("data", {}).pop("test", None)
    data |= _splits(named, data, under)
    if data:
        settings["data"] = merge(settings.get("data", {}), data)
    settings |= _computing(named)
    if named.get("trackers"):
        settings["tracking"] = {"trackers": list(named["trackers"])}
    distillation = _distillation(named, registry)
    for part, tables in distillation.items():
        settings.setdefault("distillation", {})[part] = tables
        under.get("distillation", {}).pop(part, None)
    for text in named.get("assignments") or ():
        settings = merge(settings, _for_tests(spell_out_names(parse_assignment(text)), merge(under, settings)))
    return settings


def _components(named: Mapping[str, Any], under: Settings, registry: Registry) -> Settings:
    """The tables of the components that are named, and of a run that one goes on from."""
    settings: Settings = {}
    for kind in COMPONENTS:
        if named.get(kind):
            settings[kind] = {"name": named[kind]}
            drop_other_component(under, (kind,), named[kind])
    if not named.get("begin"):
        return settings
    if "strategy" not in settings:
        raise UsageError("--from RUN is for a strategy that goes on from a run; say which with --strategy NAME.")
    return merge(_going_on(Path(named["begin"]), registry), settings)


def _going_on(run: Path, registry: Registry) -> Settings:
    """What a strategy that begins with a run's segmenter takes over: the network, and how it sees images.

    Raises:
        UsageError: it is no run with a segmenter.
    """
    path = run / "experiment.toml"
    if not path.exists():
        raise UsageError(f"--from {run} is no run folder: it has no experiment.toml.")
    stored = upgrade(read_settings(path), registry, stored=True)
    if "segmenter" not in stored:
        raise UsageError(f"--from {run}: this run trained a generator alone, so there is no segmenter to begin with.")
    segmenter = {name: value for name, value in stored["segmenter"].items() if name != "weights"}
    data = {name: stored["data"][name] for name in VIEW if name in stored["data"]}
    return {"strategy": {"begin": str(run.resolve())}, "segmenter": segmenter, "data": data}


def _for_tests(assigned: Settings, settings: Settings) -> Settings:
    """An option of `data.test.NAME`, where that is the name of datasets and of no test set, for each of these."""
    given = assigned.get("data", {}).get("test") if isinstance(assigned.get("data"), dict) else None
    known = settings.get("data", {}).get("test", {})
    if not isinstance(given, dict):
        return assigned
    spread: Settings = {}
    for label, options in given.items():
        of_name = [other for other, table in known.items() if label not in known and table.get("name") == label]
        spread |= dict.fromkeys(of_name or [label], options)
    return {**assigned, "data": {**assigned["data"], "test": spread}}


def _splits(named: Mapping[str, Any], data: Settings, under: Settings) -> Settings:
    """Targets and tests with what `--target-split` and `--test-split` say."""
    found: Settings = {}
    if named.get("target_split"):
        found["target"] = {**data.get("target", {}), "split": named["target_split"]}
    if named.get("test_split"):
        tests = data.get("test", {})
        labels = tests or under.get("data", {}).get("test", {})
        if not labels:
            raise UsageError("--test-split says which images the tests are, but none is named; say --test NAME:FOLDER.")
        found["test"] = {label: {**tests.get(label, {}), "split": named["test_split"]} for label in labels}
    return found


def _computing(named: Mapping[str, Any]) -> Settings:
    """What `--precision` and `--compile` say."""
    train = {key: named[key] for key in ("precision", "compile") if named.get(key) is not None}
    return {"train": train} if train else {}


def _distillation(named: Mapping[str, Any], registry: Registry) -> Settings:
    """What `--teacher` and `--distill` say; soft targets where only teachers are named."""
    teachers = [parse_teacher(text, registry) for text in named.get("teachers") or ()]
    terms = [parse_distiller(text) for text in named.get("distillers") or ()]
    found = {"teachers": label_tables(teachers), "terms": label_tables(terms)}
    return {part: tables for part, tables in found.items() if tables}


def drop_other_component(under: Settings, path: tuple[str, ...], name: str) -> None:
    """Drop a component's table where another component takes its place: its options were for the first.

    Those of a table without a name are for whichever is named.
    """
    table: Any = under
    for key in path[:-1]:
        table = table.get(key, {})
    if isinstance(table, dict) and isinstance(table.get(path[-1]), dict) and table[path[-1]].get("name", name) != name:
        table.pop(path[-1])


def label_tests(tables: Sequence[Settings], registry: Registry) -> dict[str, Settings]:
    """Tables of test sets by what they are called: one's own images by their folder, published sets by their name.

    What recurs gets its domain, its folder or a number besides.
    """
    labels: dict[str, Settings] = {}
    for table in tables:
        entry = registry.find("dataset", table["name"]).entry
        assert isinstance(entry, DatasetEntry)
        folder = _folder_name(table["root"]) if table.get("root") else ""
        base = folder if folder and not entry.licence else table["name"]
        more = [str(table["domain"])] if "domain" in table else []
        more += [folder] if folder not in ("", base) else []
        label = base
        for addition in more:
            label = f"{base}-{addition}" if label in labels else label
        number = 2
        while label in labels:
            label, number = f"{base}-{number}", number + 1
        labels[label] = table
    return labels


def _folder_name(root: str | Path) -> str:
    """What a folder is called, in letters, digits and hyphens: with the one above it, where it is called as a split."""
    path = Path(root).expanduser().resolve()
    name = f"{path.parent.name}-{path.name}" if path.name.lower() in UNTELLING else path.name
    return re.sub(r"[^\w-]+", "-", name).strip("-")


def label_tables(tables: Sequence[Settings]) -> dict[str, Settings]:
    """Tables by the name of their component or run, with a number where that recurs."""
    labels: dict[str, Settings] = {}
    for table in tables:
        label = table["name"] if "name" in table else Path(table["run"]).resolve().name
        number = 2
        base = label
        while label in labels:
            label = f"{base}-{number}"
            number += 1
        labels[label] = table
    return labels
