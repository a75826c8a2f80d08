"""Sets two domains side by side, and says where they differ so much that a generator will invent or remove objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from transeg.core.analysis.image_facts import ImageFacts
from transeg.core.analysis.set_facts import summarise
from transeg.core.api.verification import check_domain
from transeg.core.errors import UsageError
from transeg.core.experiment.command_line import parse_dataset
from transeg.core.experiment.settings import Settings
from transeg.core.registry import Registry

TWICE = 2.0
"""Objects in a domain that are as many times as numerous, or as large, as in the other, are told from what is real."""
FARTHER = 1.5
"""Likewise of the sizes of pixels, as far as a rescaling cannot be left to a generator."""
SHARE = 2.0
"""Likewise of a class's share of the pixels."""
BRIGHTER = 0.25
"""By how much of the range from black to white means may differ before that is worth a word."""


def compare_domains(
    source: str, target: str, assignments: Sequence[str], registry: Registry, console: Console
) -> dict[str, Any]:
    """Open the images of two domains and compare what they show.

    Args:
        source: a dataset as on the command line.
        target: likewise.
        assignments: options of both.
        registry: where they come from.
        console: for progress.

    Returns:
        ``source`` and ``target``, what :func:`~.set_facts.summarise` says of each, and ``differences``, sentences.

    Raises:
        UsageError: one of them does not exist, or has no image that can be read.
    """
    facts, tables = [], []
    for text in (source, target):
        table = _one_domain(parse_dataset(text, registry, assignments), registry)
        domain = check_domain(table, registry, console)
        if not domain.facts:
            raise UsageError(f"No image of {text} can be read; see toolkit data verify {text}.")
        facts.append(domain.facts)
        tables.append(summarise(domain.facts, domain.whole.classes))
    return {"source": tables[0], "target": tables[1], "differences": list(_differences(*facts))}


def _one_domain(table: Settings, registry: Registry) -> Settings:
    domains = registry.find("dataset", table["name"]).domains
    if len(domains) > 1 and "domain" not in table:
        raise UsageError(
            f"{table['name']} has the domains {', '.join(domains)}; say which, as in {table['name']}:DOMAIN:FOLDER."
        )
    return table


def _differences(source: Sequence[ImageFacts], target: Sequence[ImageFacts]) -> Iterator[str]:
    """What is so different that a generator which is to make one domain look like the other changes objects, too."""
    yield from _of_scale(source, target)
    means = [float(np.mean([image.mean for image in images])) for images in (source, target)]
    if abs(means[0] - means[1]) > BRIGHTER:
        brighter = "source" if means[0] > means[1] else "target"
        yield (
            f"The {brighter} is much brighter (means {means[0]:.2f} and {means[1]:.2f} of 1): where objects are bright "
            "in one domain and dark in the other, an unpaired generator may swap them with the background; look at its "
            "images before trusting it."
        )
    labelled = [[image for image in images if image.classes is not None] for images in (source, target)]
    if not all(labelled):
        which = "target" if labelled[0] else "source" if labelled[1] else "source nor the target"
        yield (
            (
                f"The {which} has no labels here, so that number and size of objects were not compared: see for "
                "yourself whether its images show as many objects, as large, as the other's."
            )
            if any(labelled)
            else ("Neither domain has labels here, so that number and size of objects were not compared.")
        )
        return
    yield from _of_objects(*labelled)


def _of_scale(source: Sequence[ImageFacts], target: Sequence[ImageFacts]) -> Iterator[str]:
    sizes = [[max(image.pixel_size) for image in images if image.pixel_size] for images in (source, target)]
    if all(sizes):
        found = [float(np.median(size)) for size in sizes]
        if _ratio(*found) > FARTHER:
            yield (
                f"A pixel is {found[0]:g} um wide in the source and {found[1]:g} in the target: objects differ in size "
                f"by as much. Bring both to one with data.source.pixel_size={max(found):g} and the same for the target."
            )
    elif any(sizes):
        yield (
            f"Only the {'source' if sizes[0] else 'target'} says how large its pixels are, so that scales were not "
            "compared."
        )


def _of_objects(source: Sequence[ImageFacts], target: Sequence[ImageFacts]) -> Iterator[str]:
    """What differs in number, size and share of objects, per area of an image."""
    densities = [_density(images) for images in (source, target)]
    if _ratio(*densities) > TWICE:
        more, verb = ("target", "invent") if densities[1] > densities[0] else ("source", "remove")
        yield (
            f"The {more} has {_ratio(*densities):.1f} times as many objects on the same number of pixels: an unpaired "
            f"generator is rewarded for images like the target's, so it will {verb} objects, and the masks will not "
            "show that. Choose or crop images with as many in both."
        )
    areas = [np.concatenate([image.objects for image in images]) for images in (source, target)]
    if all(map(len, areas)):
        medians = [float(np.median(area)) for area in areas]
        if _ratio(*medians) > TWICE**2:
            larger = "source" if medians[0] > medians[1] else "target"
            yield (
                f"Objects of the {larger} cover {_ratio(*medians):.1f} times as many pixels ({medians[0]:,.0f} and "
                f"{medians[1]:,.0f}): a generator will grow, shrink, join or split them. Bring both to one scale with "
                "rescale or pixel_size."
            )
    yield from _of_shares(source, target)


def _of_shares(source: Sequence[ImageFacts], target: Sequence[ImageFacts]) -> Iterator[str]:
    shares = [_foreground(images) for images in (source, target)]
    if _ratio(*shares) > SHARE:
        more, verb = ("target", "invent") if shares[1] > shares[0] else ("source", "remove")
        yield (
            f"Foreground takes {shares[0]:.1%} of the source and {shares[1]:.1%} of the target: an unpaired generator "
            f"evens this out where it can, and will {verb} what the {more} has more of."
        )
    empty = [
        float(np.mean([not (image.classes is not None and image.classes[1:].any()) for image in images]))
        for images in (source, target)
    ]
    if abs(empty[0] - empty[1]) > BRIGHTER:
        yield (
            f"{empty[0]:.0%} of the source's images and {empty[1]:.0%} of the target's show no object: a generator "
            "will put objects into the empty ones of one domain, or take them out."
        )


def _density(images: Sequence[ImageFacts]) -> float:
    """Objects on a pixel."""
    return sum(len(image.objects) for image in images) / sum(image.size[0] * image.size[1] for image in images)


def _foreground(images: Sequence[ImageFacts]) -> float:
    counts = [image.classes for image in images if image.classes is not None]
    return float(sum(count[1:].sum() for count in counts)) / max(1.0, float(sum(count.sum() for count in counts)))


def _ratio(first: float, second: float) -> float:
    """How many times as large the larger is."""
    low, high = sorted((first, second))
    return high / low if low else np.inf if high else 1.0
