"""From one experiment to those of all rungs: equal in everything but what a rung names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from transeg.core.builders.datasets import build_nonempty, has_masks
from transeg.core.errors import UsageError
from transeg.core.experiment.augmentation_presets import PRESETS
from transeg.core.experiment.choices import DatasetChoice
from transeg.core.experiment.command_line import drop_other_component
from transeg.core.experiment.completion import complete_experiment
from transeg.core.experiment.schema import Experiment
from transeg.core.experiment.settings import Settings, merge, set_options, spell_out_names
from transeg.core.experiment.shares import KEPT, is_shared_by_ratio
from transeg.core.registry import Registry
from transeg.tools.ladder.rungs import LOWEST, USUAL, Rung, parse_rungs

GENERATOR, SEGMENTER = "cut", "hardnet"
"""Where none is named: those of CUT-seg."""
STRATEGIES = ("joint", "sequential")
"""Those that an experiment file may name for the rung that translates."""
OWN = ("strategy", "generator", "augmentation", "seed", "device")
"""Tables and options that rungs or cells have of their own."""
DATA = ("source", "target", "synthetic", "synthetic_share", "synthetic_limit")
"""Likewise, in ``[data]``."""


@dataclass(frozen=True)
class Composition:
    """A ladder before anything is trained.

    Attributes:
        base: what all rungs have in common, spelled out.
        rungs: what each lays over it, by name, in the order of a table.
        left_out: why others are not there, by name.
        seed: the first one.
    """

    base: Settings
    rungs: dict[str, Settings]
    left_out: dict[str, str]
    seed: int


def compose(settings: Settings, names: Sequence[str], registry: Registry, device: str) -> Composition:
    """Compose a ladder.

    The experiment is completed once, as a joint training of the source and the target: this decides sizes, schedule,
    loss, augmentation, and which images of a folder are for training and for tests, for all rungs.

    Args:
        settings: of an experiment; ``[ladder]`` has by rung what is laid over that rung alone.
        names: of rungs; the usual ones where there are none.
        registry: where components come from.
        device: that trains.

    Raises:
        UsageError: there is no such experiment or rung, or the lowest rung cannot be trained.
    """
    settings = deepcopy(settings)
    own = settings.pop("ladder", {})
    _check_composable(settings, own)
    reference = _reference(settings, registry, device)
    usual = [reference.strategy.name if name == "joint" else name for name in USUAL]
    chosen = parse_rungs(list(names) or usual)
    for name in own:
        if name not in {rung.name for rung in chosen}:
            raise UsageError(f"[ladder.{name}] is there, but no rung of that name is trained; say --rungs {name},...")
    document = set_options(reference.model_dump(mode="json"))
    found: dict[str, Settings] = {}
    left_out: dict[str, str] = {}
    for rung in chosen:
        try:
            found[rung.name] = _settings(rung, reference, document, spell_out_names(own.get(rung.name, {})), registry)
        except UsageError as error:
            if rung.name == LOWEST:
                raise
            left_out[rung.name] = str(error)
    base = {**{key: value for key, value in document.items() if key not in OWN}, "baseline": "none"}
    base["data"] = {key: value for key, value in base["data"].items() if key not in DATA}
    return Composition(base, found, left_out, reference.seed)


def _check_composable(settings: Settings, own: Any) -> None:
    """Whether there is anything that only rungs may say, or nothing to measure them on."""
    if not isinstance(own, dict) or not all(isinstance(table, dict) for table in own.values()):
        raise UsageError("[ladder] has a table for each rung whose options it changes, as in [ladder.fda.generator].")
    data = settings.get("data", {})
    for role, why in (("synthetic", "a rung says what is learned from"), ("val", "target labels must choose nothing")):
        if isinstance(data, dict) and role in data:
            raise UsageError(f"A ladder takes no --{role}, for {why}; leave it out.")
    name = settings.get("strategy", {}).get("name", STRATEGIES[0])
    if name not in STRATEGIES:
        raise UsageError(f"A ladder's rungs have strategies of their own, not {name}; leave --strategy out.")
    if settings.get("folds") is not None:
        raise UsageError("A ladder compares rungs over seeds, not over folds; leave folds out.")


def _reference(settings: Settings, registry: Registry, device: str) -> Experiment:
    named = {"strategy": {"name": STRATEGIES[0]}, "generator": {"name": GENERATOR}, "segmenter": {"name": SEGMENTER}}
    reference = complete_experiment({**merge(named, settings), "device": device}, registry)
    if reference.data.target is None:
        raise UsageError("A ladder leads from the source to a target; say --target NAME:FOLDER.")
    if not reference.data.test:
        raise UsageError("Rungs are compared on labelled images of the target domain; say --test NAME:FOLDER.")
    return reference


def _settings(rung: Rung, reference: Experiment, document: Settings, own: Settings, registry: Registry) -> Settings:
    """What a rung lays over the base.

    Raises:
        UsageError: it cannot be trained here; the reason.
    """
    if rung.strategy not in {component.name for component in registry.components("strategy")}:
        raise UsageError(f"It needs the strategy {rung.strategy}, which is not installed.")
    strategy, generator = document["strategy"], document["generator"]
    made: Settings = {
        "strategy": strategy if strategy["name"] == rung.strategy else {"name": rung.strategy},
        "augmentation": {"transforms": PRESETS["strong"]} if rung.strong else document["augmentation"],
        "data": {"source": document["data"]["source"]},
    }
    if rung.adaptation != "none":
        made["test_adaptation"] = rung.adaptation
    if rung.generator:
        made["generator"] = generator if rung.generator in ("named", generator["name"]) else {"name": rung.generator}
    assert reference.data.target is not None
    if rung.target:
        made["data"]["target"] = document["data"]["target"]
    elif document["train"].get("selection") == "agreement":
        made["train"] = {"selection": "dice"}  # there is nothing to agree about
    if rung.labels == "target":
        made["data"]["source"] = _labelled(rung, reference.data.target, registry, keeps_val=True)
    if rung.inverted:
        made["data"]["source"] = {**made["data"]["source"], "invert": True}
    if rung.few:
        if reference.data.stain is not None:
            raise UsageError("data.stain does not reach images that are mixed into the source's.")
        table = _labelled(rung, reference.data.target, registry, keeps_val=False)
        made["data"] |= {"synthetic": table, "synthetic_share": 0.5, "synthetic_limit": rung.few}
    return _with_own(made, own)


def _with_own(made: Settings, own: Settings) -> Settings:
    """Settings with what the experiment file says for the rung alone; another component's options are its own."""
    for path in (("strategy",), ("generator",), ("data", "source"), ("data", "target")):
        table: Any = own
        for key in path:
            table = table.get(key, {}) if isinstance(table, Mapping) else {}
        if isinstance(table, Mapping) and "name" in table:
            drop_other_component(made, path, table["name"])
    if "augmentation" in own:
        made = {**made, "augmentation": {}}
    return merge(made, own)


def _labelled(rung: Rung, target: DatasetChoice, registry: Registry, *, keeps_val: bool) -> Settings:
    """The target's training images with their labels, as a source that may keep some of them for validation.

    Raises:
        UsageError: they have no labels.
    """
    dataset = build_nonempty(target, "target", registry)
    if not has_masks(dataset):
        raise UsageError(f"The target's training images have no labels, so there is no {rung.name}.")
    table: Settings = set_options(target.model_dump(mode="json"))
    if not keeps_val or not is_shared_by_ratio(target, registry):
        return table
    if target.split not in ("train", "all"):
        raise UsageError(
            f"The target is the split {target.split} of its folder, of which nothing can be kept for validation."
        )
    train, val, test = target.options["ratio"] if target.split == "train" else (1.0, 0.0, 0.0)
    kept = 0.0 if val else round(train * KEPT, 4)
    return {**table, "split": "train", "ratio": [round(train - kept, 4), val or kept, test]}
