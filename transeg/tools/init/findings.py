"""What a folder of images holds, as far as an experiment depends on it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from transeg.core.api.verification import CheckedDomain, check_domains
from transeg.core.errors import DataError, UsageError
from transeg.core.experiment.command_line import parse_dataset
from transeg.core.experiment.paths import dataset_root
from transeg.core.experiment.settings import Settings
from transeg.core.experiment.validation import chosen_dataset
from transeg.core.registry import Registry

LOOKED_AT = 16
"""Images whose colours are compared."""


@dataclass(frozen=True)
class Findings:
    """Of one dataset.

    Attributes:
        table: the dataset, as an experiment names it.
        images: how many there are.
        masks: how many of them are labelled.
        groups: how many subjects, slides or videos they are of.
        short: median of the shorter sides, in pixels.
        long: median of the longer sides.
        grey: whether the images have one channel, or three that are equal.
        classes: names, background first.
        shares: of each class among the known pixels; empty without masks.
        object_side: square root of the median area of an object, in pixels; None without objects.
        faults: how many files have a fault.
    """

    table: Settings
    images: int
    masks: int
    groups: int
    short: int
    long: int
    grey: bool
    classes: tuple[str, ...]
    shares: dict[str, float]
    object_side: float | None
    faults: int


def look_at(text: str, registry: Registry, console: Console) -> Findings:
    """Open every image of a dataset.

    Args:
        text: a folder, or a dataset as on the command line.
        registry: where datasets come from.
        console: for progress.

    Raises:
        UsageError: there is no such dataset, it has several domains, or no image in it can be read.
    """
    table = parse_dataset(text, registry)
    domains = check_domains(table, registry, console)
    if len(domains) > 1:
        raise UsageError(f"{text} has several domains; name one, as in {table['name']}:{domains[0].name}:FOLDER.")
    (domain,) = domains
    if not domain.facts:
        raise UsageError(f"No image of {text} can be read; see: toolkit data verify {text}")
    root = dataset_root(chosen_dataset(table), registry)
    if root is not None:
        table["root"] = str(root)
    return _found(domain, table)


def _found(domain: CheckedDomain, table: Settings) -> Findings:
    facts, classes = domain.facts, tuple(domain.whole.classes)
    labelled = [image for image in facts if image.classes is not None]
    counts = np.zeros(len(classes), np.int64)
    for image in facts:
        if image.classes is not None:
            counts[: len(image.classes)] += image.classes[: len(classes)]
    areas = np.concatenate([image.objects for image in labelled]) if labelled else np.empty(0)
    return Findings(
        table=table,
        images=len(facts),
        masks=len(labelled),
        groups=len({image.group for image in facts}),
        short=int(np.median([min(image.size) for image in facts])),
        long=int(np.median([max(image.size) for image in facts])),
        grey=_is_grey(domain),
        classes=classes,
        shares=dict(zip(classes, (counts / max(1, counts.sum())).tolist(), strict=True)) if labelled else {},
        object_side=float(np.sqrt(np.median(areas))) if len(areas) else None,
        faults=len(list(domain.faults())),
    )


def _is_grey(domain: CheckedDomain) -> bool:
    """Whether some images, evenly among all, are equal in all channels; those that cannot be read say nothing."""
    for index in np.linspace(0, len(domain.whole) - 1, min(LOOKED_AT, len(domain.whole))).round().astype(int):
        with suppress(DataError):
            if np.ptp(domain.whole[index].image, axis=2).any():
                return False
    return True
