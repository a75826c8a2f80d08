"""From the options of a command line to the folder of a sweep, every cell of which could begin."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import tomli_w
from rich.console import Console

from transeg.core.claims import check_new
from transeg.core.distributed.progress_bar import progress_bar
from transeg.core.errors import UsageError
from transeg.core.experiment.command_line import drop_other_component, parse_dataset, settings_of
from transeg.core.experiment.completion import complete_experiment
from transeg.core.experiment.schema import Experiment
from transeg.core.experiment.settings import Settings, flat, merge, read_settings
from transeg.core.experiment.versions import upgrade
from transeg.core.files import sweep_unfinished, write_json, write_text
from transeg.core.registry import Registry
from transeg.core.training.parts import build_parts
from transeg.tools.sweep.grid import parse_axes
from transeg.tools.sweep.sweep_folder import (
    Cell,
    Sweep,
    build_sweep,
    definition_path,
    is_sweep,
    left_out_path,
    read_sweep,
)

AXES = {
    "generator": "generator",
    "segmenter": "segmenter",
    "loss": "loss",
    "strategy": "strategy",
    "source": "data.source",
    "target": "data.target",
    "synthetic": "data.synthetic",
    "val": "data.val",
    "seed": "seed",
}
"""Options of the command line that are axes where they are repeated, and what they set."""
COMPONENTS = [option.split(".") for option in AXES.values() if option not in ("strategy", "seed")]
"""Tables that another component's replaces whole."""
SHOWN = 5
"""Reasons that an error names before it only counts them."""


def sweep_settings(named: Mapping[str, Any], config: Path | None, registry: Registry) -> Settings:
    """The options of `toolkit sweep` as an experiment file with a table ``[sweep]``.

    Args:
        named: by name: those of `toolkit run`, the ones in :data:`AXES` as tuples; ``axes``, assignments of lists.
        config: an experiment file, under the options.
        registry: knows which datasets have domains.

    Raises:
        UsageError: an option or the file cannot be read.
    """
    settings = upgrade(read_settings(config), registry) if config else {}
    axes = settings.pop("sweep", {})
    single = dict(named)
    for key, option in AXES.items():
        values: Sequence[Any] = named[key]
        single[key] = values[0] if len(values) == 1 else None
        if values:
            axes.pop(option, None)
        if len(values) > 1:
            axes[option] = list(values)
    settings = merge(settings, settings_of(single, settings, registry))
    for text in named["axes"]:
        axes |= parse_axis(text)
    if named["folds"] is not None:
        axes["fold"] = list(range(1, named["folds"] + 1))
    for option, values in axes.items():
        if option in AXES.values() and option.startswith("data.") and isinstance(values, list):
            axes[option] = [parse_dataset(v, registry) if isinstance(v, str) else v for v in values]
    return {**settings, "sweep": axes}


def parse_axis(text: str) -> dict[str, list[Any]]:
    """``train.lr=1e-3,1e-4`` as an axis; what is no TOML value is a string.

    Raises:
        UsageError: it is not such a list.
    """
    option, equals, rest = text.partition("=")
    if not equals or not all(option.strip().split(".")) or not rest.strip():
        raise UsageError(f"--axis {text!r} is not of the form option.name=value,value.")
    try:
        values = tomllib.loads(f"values = [{rest}]")["values"]
    except tomllib.TOMLDecodeError:
        values = [part.strip() for part in rest.split(",")]
    return {option.strip(): values}


def define_sweep(
    path: Path,
    settings: Settings,
    registry: Registry,
    console: Console,
    *,
    device: str,
    skip_unfit: bool,
    command: str = "toolkit sweep",
) -> Sweep:
    """Check that every combination of a sweep could be trained; nothing is written.

    Args:
        path: of the folder; where it is a sweep already, axes may have more values now.
        settings: see :func:`sweep_settings`.
        registry: where components come from.
        console: for progress.
        device: that cells are made for.
        skip_unfit: whether combinations that cannot be trained are left out.
        command: with which a user goes on, before the folder.

    Returns:
        The sweep.

    Raises:
        UsageError: it is another sweep than the folder holds, or a combination cannot be trained.
    """
    left_out: dict[str, str] = {}
    if is_sweep(path):
        left_out = read_sweep(path).left_out
        _check_extends(path, read_settings(definition_path(path)), settings, command)
    else:
        sweep_unfinished(path)
        check_new(path, "is no sweep", "choose another folder")
    sweep = build_sweep(path, settings, left_out)
    unfit = _unfit(sweep, registry, device, console)
    if len(unfit) == len(sweep.cells) and len(set(unfit.values())) == 1:
        raise UsageError(next(iter(unfit.values())))
    if unfit and (not skip_unfit or len(unfit) == len(sweep.cells)):
        raise UsageError(f"{_in_words(unfit, len(sweep.cells))} Change the axes, or leave them out with --skip-unfit.")
    return build_sweep(path, settings, left_out | unfit)


def write_sweep(sweep: Sweep, settings: Settings, registry: Registry, device: str) -> None:
    """Make the folder of a sweep: its definition, and the experiment of each cell that has none yet.

    Raises:
        UsageError: the folder cannot be written to.
    """
    write_text(definition_path(sweep.path), tomli_w.dumps(settings))
    if sweep.left_out:
        write_json(left_out_path(sweep.path), sweep.left_out)
    for cell in sweep.cells:
        if not cell.definition.exists():
            cell.folder.create()
            write_text(cell.definition, cell_experiment(sweep, cell, registry, device).to_toml())


def cell_experiment(sweep: Sweep, cell: Cell, registry: Registry, device: str) -> Experiment:
    """The complete experiment of a cell.

    Raises:
        UsageError: there is none.
    """
    base = deepcopy(sweep.base)
    for path in COMPONENTS:
        before, name = _name(base, path), _name(cell.settings, path)
        if before is not None and name is not None:
            drop_other_component(base, tuple(path), name)
    settings = merge(merge(base, cell.settings), {"device": device})
    return complete_experiment(settings, registry)


def _name(settings: Settings, path: Sequence[str]) -> str | None:
    """Of the component whose table lies there."""
    table: Any = settings
    for key in (*path, "name"):
        table = table.get(key) if isinstance(table, dict) else None
    return table


def _unfit(sweep: Sweep, registry: Registry, device: str, console: Console) -> dict[str, str]:
    """Cells that could not begin, and why; of those that are repeats of each other, one is built and all are read."""
    new = [cell for cell in sweep.cells if not cell.definition.exists()]
    reasons: dict[str, str] = {}
    built: dict[str, str] = {}
    with progress_bar(console, "checking", len(new), "cells") as advance:
        for cell in new:
            try:
                experiment = cell_experiment(sweep, cell, registry, device)
                if cell.combination not in built:
                    built[cell.combination] = _fault(experiment, registry)
                reason = built[cell.combination]
            except UsageError as error:
                reason = str(error)
            if reason:
                reasons[cell.name] = reason
            advance()
    return reasons


def _fault(experiment: Experiment, registry: Registry) -> str:
    """Why an experiment cannot begin; '' where it can."""
    try:
        build_parts(experiment, registry)
    except UsageError as error:
        return str(error)
    return ""


def _in_words(unfit: Mapping[str, str], total: int) -> str:
    by_reason: dict[str, list[str]] = {}
    for name, reason in unfit.items():
        by_reason.setdefault(reason, []).append(name)
    told = [f"{_names(names)}: {reason}" for reason, names in list(by_reason.items())[:SHOWN]]
    more = f" {len(by_reason) - SHOWN} more reasons." if len(by_reason) > SHOWN else ""
    return f"{len(unfit)} of {total} combinations cannot be trained. {' '.join(told)}{more}"


def _names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _check_extends(path: Path, stored: Settings, wanted: Settings, command: str) -> None:
    """Whether a definition is the stored one, or has more values on its axes.

    Raises:
        UsageError: it is another.
    """
    other = f"{path} holds another sweep: {{}}. Choose another folder, or go on with: {command} {path}"
    before, after = parse_axes(stored.get("sweep", {})), parse_axes(wanted["sweep"])
    if list(before) != list(after):
        raise UsageError(other.format(f"its axes are {', '.join(before)}"))
    for option, values in before.items():
        missing = [label for label, settings in values.items() if after[option].get(label) != settings]
        if missing:
            raise UsageError(other.format(f"its axis {option} has {missing[0]}, too"))
    changed = _changed({**stored, "sweep": {}}, {**wanted, "sweep": {}})
    if changed:
        raise UsageError(other.format(f"{changed} is not the same"))


def _changed(stored: Settings, wanted: Settings) -> str:
    """The first option in which two definitions differ; '' where they agree."""
    left, right = flat(stored), flat(wanted)
    return next((key for key in sorted(left.keys() | right.keys()) if left.get(key) != right.get(key)), "")
