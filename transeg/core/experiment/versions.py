"""What experiment files of other versions mean today: tables that have moved, options that came or went since."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transeg.core.errors import UsageError
from transeg.core.experiment.settings import Settings, merge, spell_out_names
from transeg.core.manifest import StrategyEntry
from transeg.core.registry import Registry

FORMAT = 2
"""Of experiment files. In those of format 1, which state none, the strategy is a name and its options have a table of
another name."""
NEUTRAL: Settings = {}
"""Options that came after format 2 and whose default is not what was so before, as nested tables: what they are in
runs that do not name them."""
RETIRED: dict[str, Any] = {"strategy/joint.pseudo_labels": "off", "joint.pseudo_labels": "off"}
"""Options that are no more, dotted, each with the value that left a training as it is without them. Those of a
component are named by it: ``segmenter/unet.base``."""
INSTEAD = dict.fromkeys(RETIRED, ", or say --strategy self-training --set strategy.labels=epoch")
"""What a retired option has become, as the end of a sentence that says to leave it out."""


def upgrade(settings: Settings, registry: Registry, *, stored: bool = False) -> Settings:
    """An experiment file's tables as they are written today.

    Args:
        settings: complete or not; where no strategy is named, tables that strategies had stay.
        registry: where strategies come from.
        stored: whether it is that of a run which nobody trains on: retired options may then have any value.

    Raises:
        UsageError: it is of a newer version, has a table that its strategy does not take, or a retired option.
    """
    settings = dict(settings)
    version = settings.pop("format", 1)
    if version not in range(1, FORMAT + 1):
        raise UsageError(
            f"The experiment file has format {version}, but this transeg reads formats up to {FORMAT}: a newer one "
            "wrote it, so install that."
        )
    settings = _with_sum(_without_retired(spell_out_names(settings), stored))
    if stored:
        settings = merge({key: table for key, table in NEUTRAL.items() if key in settings}, settings)
    strategy = settings.get("strategy", {})
    if "name" in strategy:
        for table in former_tables(registry) & settings.keys():
            strategy = merge(strategy, _former(settings.pop(table), table, str(strategy["name"]), registry))
    return {**settings, "strategy": strategy} if strategy else settings


def former_tables(registry: Registry) -> set[str]:
    """The tables in which strategies had their options in files of format 1."""
    entries = (component.entry for component in registry.components("strategy"))
    return {entry.table for entry in entries if isinstance(entry, StrategyEntry) and entry.table}


def _former(options: Any, table: str, strategy: str, registry: Registry) -> Settings:
    if not isinstance(options, dict):
        raise UsageError(f"[{table}] must be a table.")
    entry = registry.find("strategy", strategy).entry
    if not isinstance(entry, StrategyEntry) or entry.table != table:
        raise UsageError(f"The strategy {strategy} has no use for [{table}].")
    return options


def _with_sum(settings: Settings) -> Settings:
    """The loss that was called `hybrid` as the sum of losses that it stood for."""
    loss = settings.get("loss", {})
    if loss.get("name") != "hybrid":
        return settings
    given = loss.get("hybrid", {})
    terms = loss.get("terms", given.get("terms", "ce+dice") if isinstance(given, dict) else "ce+dice")
    return {**settings, "loss": {"name": terms}}


def retired_values(components: Mapping[str, str]) -> Settings:
    """The neutral values of retired options, dotted.

    Args:
        components: those whose own options are meant, by their kinds; others' are left out.
    """
    parts = ((_parts(option), neutral) for option, neutral in RETIRED.items())
    return {
        f"{kind}.{name}": neutral
        for (kind, component, name), neutral in parts
        if component in ("", components.get(kind))
    }


def _parts(option: str) -> tuple[str, str, str]:
    """Table, component ('' for none) and name of a retired option."""
    where, _, name = option.rpartition(".")
    kind, _, component = where.partition("/")
    return kind, component, name


def _without_retired(settings: Settings, stored: bool) -> Settings:
    for option, neutral in RETIRED.items():
        kind, component, name = _parts(option)
        table = settings
        for key in kind.split("."):
            table = table.get(key, {}) if isinstance(table, dict) else {}
        if not isinstance(table, dict) or name not in table or (component and table.get("name") != component):
            continue
        if not stored and table[name] != neutral:
            raise UsageError(
                f"The option {kind}.{name} has been retired, so nothing can be trained with {table[name]!r}; leave it "
                f"out{INSTEAD.get(option, '')}. A run that was trained with it still predicts."
            )
        settings = _without(settings, [*kind.split("."), name])
    return settings


def _without(table: Settings, path: list[str]) -> Settings:
    first, *rest = path
    if not rest:
        return {key: value for key, value in table.items() if key != first}
    return {**table, first: _without(table[first], rest)}
