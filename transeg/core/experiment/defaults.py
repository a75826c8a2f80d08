"""What a user leaves open: what was published, presets, data where none are named."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from transeg.core.conventions import IGNORE
from transeg.core.device import available_cores
from transeg.core.errors import UsageError
from transeg.core.experiment.schema import Experiment
from transeg.core.experiment.settings import Settings, flat, merge, parse_sum
from transeg.core.experiment.versions import former_tables, upgrade
from transeg.core.manifest import LossEntry, StrategyEntry
from transeg.core.registry import Registry

DEFAULT_DATASET = "phantom"

NETWORKS = {"generator", "segmenter"}
DATA = {"source", "target", "synthetic"}
WITHOUT = {
    "target": "; name a generator or leave it out",
    "synthetic": " data set; it makes its own where it needs any",
}
"""What to do about a data set that a strategy has no use for."""

WORKERS = 16
"""Processes that load for a GPU, at most, where nobody says how many."""
SCALING = ("pixel_size", "rescale")
"""Options of every dataset that say how large its images become."""
OWN = ("split", "domain", "match", "invert", *SCALING)
"""Options that another role of the same folder does not take over."""


def with_defaults(settings: Settings, registry: Registry) -> Settings:
    """Settings with everything that they leave open but what follows from the device and from component classes.

    In order of weight: the settings, the preset of the dataset where source and target are the same, what was
    published for the strategy.

    Raises:
        UsageError: an unknown component, or tables that contradict each other.
    """
    settings = _with_strategy(settings, registry)
    entry = strategy_entry(settings["strategy"]["name"], registry)
    settings = _with_datasets(settings, entry, registry)
    _check_names(settings, registry)
    _check_ingredients(settings, entry, registry)
    data = settings["data"]
    for table in [data.get("val"), *data["test"].values()]:
        if isinstance(table, dict):
            for role in ("source", "target"):
                share_options(data.get(role) or {}, table)
            share_scaling(data, table, registry)
    _describe_synthetic(data, registry)
    expand_tests(data, registry)
    layers = merge(entry.defaults, _preset(settings, entry, registry))
    if "loss" in settings:
        layers.pop("loss", None)
    if {"preset", "transforms"} & set(settings.get("augmentation", {})):
        layers.pop("augmentation", None)
    return _with_tiles(merge(layers, settings), data)


def on_device(settings: Settings, device: str) -> Settings:
    """Settings with a device, and the defaults that follow from it."""
    on_cpu = device == "cpu"
    workers = 0 if on_cpu else min(WORKERS, available_cores())
    follows = {"data": {"workers": workers}, "train": {"precision": "fp32" if on_cpu else "tf32"}}
    return {**merge(follows, settings), "device": device}


def _with_tiles(merged: Settings, chosen: Settings) -> Settings:
    """What follows from ``data.tile``, where the user has not said otherwise."""
    tile = merged["data"].get("tile")
    if not isinstance(tile, int) or tile < 1:
        return merged
    follows = {"size": tile, "resize": False, "load_ratio": 1.0, "stride": max(1, tile // 2)}
    return merge(merged, {"data": {key: value for key, value in follows.items() if key not in chosen}})


def departures(experiment: Experiment, defaults: Mapping[str, Settings], registry: Registry) -> list[str]:
    """Options that differ from what was published for the strategy and its components, in words.

    Args:
        experiment: a complete one.
        defaults: of the options of its ``generator`` and ``segmenter``.
        registry: knows the strategy.
    """
    of_strategy = strategy_entry(experiment.strategy.name, registry).defaults
    published = flat({**{key: of_strategy.get(key, {}) for key in ("data", "train")}, **defaults})
    chosen = flat(experiment.model_dump())
    return [
        f"{option} {chosen[option]} (published: {'not set' if value is None else value})"
        for option, value in published.items()
        if chosen.get(option, value) != value
    ]


def _check_tables(data: Settings) -> None:
    """Raise a sentence where a dataset is no table."""
    roles = ("source", "target", "synthetic", "val")
    tables = {role: (f"data.{role}", data[role]) for role in roles if role in data}
    tables |= {f"test {label}": (f"data.test.{label}", table) for label, table in data["test"].items()}
    for role, (where, table) in tables.items():
        if not isinstance(table, dict):
            raise UsageError(
                f"{where} is a table, not {table!r}; say --{role.split()[0]} NAME:FOLDER, or set one of its options, "
                f"such as {where}.root=FOLDER."
            )


def _with_datasets(settings: Settings, entry: StrategyEntry, registry: Registry) -> Settings:
    """The phantom where no data are named; a generator that learns from pairs has but one domain of it."""
    settings = deepcopy(settings)
    data = settings.setdefault("data", {})
    tests = data.setdefault("test", {}) if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(tests, dict):
        raise UsageError("[data] and [data.test] must be tables.")
    _check_tables(data)
    for label, table in tests.items():
        table.setdefault("name", label)
    alone = "source" not in entry.needs and "name" in data.get("target", {})
    if alone or "name" in data.get("source", {}) or "source" not in {*entry.needs, *entry.takes}:
        return settings
    others = {role: data[role].get("name", DEFAULT_DATASET) for role in ("target", "val") if role in data}
    others |= {f"test {label}": table["name"] for label, table in tests.items()}
    for role, name in others.items():
        if name != DEFAULT_DATASET:
            raise UsageError(f"A {role} is named but no source; say --source NAME:FOLDER.")
    data.setdefault("source", {})["name"] = DEFAULT_DATASET
    test = {"name": DEFAULT_DATASET}
    if "generator" in settings:
        if _learns_from_pairs(settings, registry):
            test["domain"] = registry.find("dataset", DEFAULT_DATASET).domains[0]
        else:
            data.setdefault("target", {})["name"] = DEFAULT_DATASET
    elif "target" in entry.needs:
        data.setdefault("target", {})["name"] = DEFAULT_DATASET
    if "segmenter" in settings:
        tests.setdefault(DEFAULT_DATASET, test)
    return settings


def _dataset_tables(data: Settings) -> list[Settings]:
    tests = data.get("test", {})
    tables = [data.get(role) for role in ("source", "target", "synthetic", "val")]
    tables += list(tests.values()) if isinstance(tests, dict) else []
    return [table for table in tables if isinstance(table, dict)]


def _check_names(settings: Settings, registry: Registry) -> None:
    """Look every component up before anything depends on it."""
    for kind in ("generator", "segmenter"):
        if kind in settings:
            registry.find(kind, _name(settings[kind], kind))
    if "loss" in settings:
        for term in parse_sum(_name(settings["loss"], "loss")):
            find_loss(term, "segmentation", registry)
    for table in _dataset_tables(settings["data"]):
        registry.find("dataset", _name(table, "dataset"))
    _check_distillation(settings, registry)


def _check_distillation(settings: Settings, registry: Registry) -> None:
    """Fill in soft targets where only teachers are named, and look up the losses."""
    if "distillation" not in settings:
        return
    distillation = settings["distillation"]
    if not isinstance(distillation, dict) or not isinstance(distillation.get("teachers"), dict):
        raise UsageError("There is a distillation but no teacher; say --teacher RUN.")
    for table in distillation["teachers"].values():
        if isinstance(table, dict) and table.get("name"):
            registry.find("segmenter", str(table["name"]))
    terms = distillation.setdefault("terms", {"kl": {}})
    for label, table in terms.items() if isinstance(terms, dict) else ():
        if isinstance(table, dict):
            find_loss(str(table.setdefault("name", label)), "distillation", registry)


def find_loss(name: str, role: str, registry: Registry) -> None:
    """Whether there is a loss of that name and role.

    Raises:
        UsageError: there is none.
    """
    found = registry.find("loss", name).entry
    if isinstance(found, LossEntry) and found.role != role:
        other = "--distill" if found.role == "distillation" else "--loss"
        raise UsageError(f"{name} is a {found.role} loss; say {other} {name}.")


def share_options(trained_on: Settings, table: Settings) -> None:
    """Give a dataset of the source's or target's own folder the options of that one that it does not set itself.

    With another split file, or classes of its own, it would test on what was trained on, or on something else.
    """
    if table.get("name") == trained_on.get("name") and _folder(table) == _folder(trained_on):
        for key, value in trained_on.items():
            if key not in OWN:
                table.setdefault(key, value)


def share_scaling(data: Settings, table: Settings, registry: Registry) -> None:
    """Give a dataset the size of pixels at which the images of its folder are trained on, unless it sets its own.

    A factor holds for the domain that it was given to; a size of pixels is common to the source and what lies with it.
    """
    if any(key in table for key in SCALING):
        return
    for role in ("target", "source"):
        trained = data.get(role)
        if not trained or trained.get("name") != table.get("name") or _folder(trained) != _folder(table):
            continue
        domains = registry.describe(registry.find("dataset", table["name"])).domains or (None,)
        usual = domains[0] if role == "source" else domains[-1]
        same = trained.get("domain", usual) == table.get("domain", domains[-1])
        if same or role == "source":
            table.update({key: trained[key] for key in SCALING if key in trained and (same or key == "pixel_size")})
            return


def _describe_synthetic(data: Settings, registry: Registry) -> None:
    """Say of a folder of synthetic images what is true of all that are made from the source's label maps."""
    table = data.get("synthetic")
    if isinstance(table, dict) and table["name"] == "folder" and "source" in data:
        source = data["source"]
        classes = source.get("classes", registry.describe(registry.find("dataset", source["name"])).classes)
        table.setdefault("classes", list(classes))
        table.setdefault("split", "all")
        if len(classes) > 2 or Path(str(table.get("root")), "manifest.json").exists():  # else 255 may be the foreground
            table.setdefault("ignore", IGNORE)


def _folder(table: Settings) -> Path | None:
    return Path(str(table["root"])).expanduser().resolve() if table.get("root") else None


def expand_tests(data: Settings, registry: Registry) -> None:
    """One test for each domain of a dataset that is a collection of test sets."""
    for label, table in list(data.get("test", {}).items()):
        domains = registry.describe(registry.find("dataset", table["name"])).test_domains
        if domains and "domain" not in table:
            del data["test"][label]
            data["test"].update({domain: {**table, "domain": domain} for domain in domains})


def _name(table: Any, kind: str) -> str:
    if not isinstance(table, dict) or not isinstance(table.get("name"), str):
        raise UsageError(f"The {kind} has options but no name; say --{kind} NAME or {kind}.name.")
    return str(table["name"])


def strategy_entry(name: str, registry: Registry) -> StrategyEntry:
    """What a strategy's manifest says of it.

    Raises:
        UsageError: there is no such strategy.
    """
    entry = registry.find("strategy", name).entry
    assert isinstance(entry, StrategyEntry)
    return entry


def _with_strategy(settings: Settings, registry: Registry) -> Settings:
    """Settings with the strategy as a table: where none is named, the usual one for the networks that are."""
    strategy = settings.get("strategy", {})
    if isinstance(strategy, dict) and "name" not in strategy:
        settings = {**settings, "strategy": {**strategy, "name": _usual_strategy(settings, registry)}}
    return upgrade(settings, registry)


def _usual_strategy(settings: Settings, registry: Registry) -> str:
    named = {kind for kind in NETWORKS if kind in settings}
    if not named:
        raise UsageError("Name what to train: --generator, --segmenter or both; `toolkit list` shows them.")
    for component in registry.components("strategy"):
        entry = component.entry
        if isinstance(entry, StrategyEntry) and entry.usual and named == NETWORKS & set(entry.needs):
            return component.name
    raise UsageError(f"Say how to train {' and '.join(sorted(named))}: --strategy NAME.")


def _learns_from_pairs(settings: Settings, registry: Registry) -> bool:
    """Whether the generator that is named does."""
    return registry.describe(registry.find("generator", _name(settings["generator"], "generator"))).paired


def _check_ingredients(settings: Settings, entry: StrategyEntry, registry: Registry) -> None:
    """Whether the networks and data that are named are those that the strategy needs."""
    name, data = settings["strategy"]["name"], settings["data"]
    named = {kind for kind in NETWORKS if kind in settings} | {role for role in DATA if role in data}
    allowed: set[str] = {*entry.needs, *entry.takes}
    if "target" in entry.needs and "generator" in named & allowed and _learns_from_pairs(settings, registry):
        raise UsageError(
            f"The strategy {name} needs images of the target domain, and the generator {settings['generator']['name']} "
            "learns from pairs alone; name another generator, or leave it out."
        )
    for part in entry.needs:
        if part == "target" and part not in named:
            raise UsageError(f"The strategy {name} needs images of the target domain; say --target NAME:ROOT.")
        if part in NETWORKS | DATA and part not in named:
            raise UsageError(f"The strategy {name} needs a {part}; say --{part} NAME.")
    for surplus in sorted(named - allowed):
        what = f"[{surplus}]" if surplus in NETWORKS else f"a {surplus}"
        raise UsageError(f"The strategy {name} has no use for {what}{WITHOUT.get(surplus, '')}.")
    if settings.get("baseline", "none") != "none" and not entry.baseline:
        raise UsageError(f"A source-only baseline compares with translation; {name} needs none.")


def _preset(settings: Settings, entry: StrategyEntry, registry: Registry) -> Settings:
    """The options that suit a dataset which the whole training is made of."""
    data = settings["data"]
    names = {table["name"] for role in ("source", "target") if isinstance(table := data.get(role), dict)}
    if len(names) != 1:
        return {}
    preset: Settings = deepcopy(dict(registry.describe(registry.find("dataset", names.pop())).preset))
    if "source" not in data:
        preset.pop("baseline", None)
    for kind in ("generator", "segmenter", "strategy"):
        for_one = {key: preset.pop(key) for key in list(preset) if key.startswith(f"{kind}/")}
        if kind in settings:
            preset[kind] = for_one.get(f"{kind}/{settings[kind]['name']}", {})
    for table in former_tables(registry) & preset.keys():
        of_strategy = preset.pop(table)
        if table == entry.table:
            preset["strategy"] = merge(of_strategy, preset["strategy"])
    if not entry.baseline:
        preset.pop("baseline", None)
    if "segmenter" not in settings:
        preset.pop("loss", None)
    return preset
