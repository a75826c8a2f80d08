"""Datasets from one layout into another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from transeg.core.builders.datasets import build_splits, dataset_writer
from transeg.core.claims import read_note
from transeg.core.data.rewriting import write_splits
from transeg.core.data.splits import SPLITS
from transeg.core.distributed.collectives import broadcast_from_first, join_ranks
from transeg.core.errors import UsageError
from transeg.core.experiment.command_line import parse_dataset
from transeg.core.experiment.settings import Settings
from transeg.core.files import sweep_unfinished, write_json
from transeg.core.interfaces import About
from transeg.core.registry import Registry

NOTE = "conversion.json"
"""Says what was converted into a folder: a conversion goes on only where it began."""


def convert_dataset(
    origin: str, destination: str, assignments: Sequence[str], registry: Registry, console: Console
) -> dict[str, Any]:
    """Write all splits of a dataset in the layout of another.

    What is in the folder already stays, so that an interrupted conversion goes on; processes that torchrun starts share
    the images.

    Args:
        origin: a dataset as on the command line.
        destination: likewise; its folder need not exist.
        assignments: options of the first.
        registry: where datasets come from.
        console: for progress.

    Returns:
        ``from`` and ``to``; ``splits``, the number of images in each; ``images``, their sum.

    Raises:
        UsageError: one of them cannot be used, or the folder holds something else.
        DataError: an image cannot be read, or the layout cannot hold it.
    """
    join_ranks()
    table, target = parse_dataset(origin, registry, assignments), parse_dataset(destination, registry)
    if "root" not in target:
        raise UsageError(f"Say where to: {destination}:FOLDER.")
    out = Path(target["root"]).expanduser().resolve()
    domain = _domain(table, target, registry)
    parts = build_splits(table, registry, origin)
    if not parts:
        raise UsageError(f"The dataset {origin} has no image.")
    some = next(iter(parts.values()))
    writer = dataset_writer(target["name"], out, About(some.classes, some.channels, out.name, domain), registry)
    place = f"{target['name']}:{domain}"
    broadcast_from_first(lambda: _claim(out, place, {"from": origin, "options": sorted(assignments)}))
    written = write_splits(parts, writer, console, "converting")
    counts = {split: sum(sample.split == split for sample in written) for split in SPLITS}
    return {"from": origin, "to": destination, "splits": counts, "images": len(written)}


def _domain(table: Settings, target: Settings, registry: Registry) -> str:
    """The domain under which images are written: the one that is named, else their own where the layout knows it.

    Raises:
        UsageError: the origin has several, and none is named.
    """
    domains = registry.find("dataset", table["name"]).domains
    if len(domains) > 1 and "domain" not in table:
        raise UsageError(
            f"{table['name']} has the domains {', '.join(domains)}; say which, as in {table['name']}:DOMAIN:FOLDER."
        )
    own = str(table.get("domain", ""))
    known = registry.find("dataset", target["name"]).domains
    return str(target.get("domain") or (own if own in known or "*" in known else ""))


def _claim(out: Path, place: str, made_of: dict[str, Any]) -> None:
    """Note in a folder what is converted into it, unless it is there already.

    Raises:
        UsageError: it holds something else.
    """
    there = read_note(out / NOTE, "conversion", "choose another folder")
    layout = place.partition(":")[0]
    others = [other for other in there if other.partition(":")[0] != layout]
    if others or there.get(place, made_of) != made_of:
        before = others[0] if others else place
        raise UsageError(
            f"{out} holds {there[before]['from']} as {before.strip(':')} "
            f"(with {', '.join(there[before]['options']) or 'no options'}); choose another folder."
        )
    sweep_unfinished(out)
    write_json(out / NOTE, {**there, place: made_of})
