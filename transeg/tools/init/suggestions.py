"""Which experiment fits what was found, and why."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from transeg.core.component_options import options
from transeg.core.device import pick_device
from transeg.core.evaluation.numbers import pluralise
from transeg.core.experiment.settings import Settings
from transeg.core.registry import Registry
from transeg.tools.common.control_groups import memory_limit
from transeg.tools.common.main_memory import main_memory
from transeg.tools.init.findings import Findings

MULTIPLE = 32
"""Of which sides are, since networks here halve images up to five times."""
WHOLE, TRANSLATED = 352, 256
"""Sides of images that are seen whole: of the polyp literature's segmenters, and of the generators' publications."""
TRANSLATED_ON_CPU = 96
"""The latter in the ladders of docs/results.md, which were trained on one core."""
WINDOW = 256
"""Side of windows, at most."""
SMALL_OBJECT = 12
"""Pixels below which an object that is scaled down with its image is hard to find."""
FEW, MANY = 60, 600
"""Labelled images below which a narrow network is proposed, and from which a large one is."""
RARE = 0.03
"""Share of the foreground below which windows are drawn where objects are."""
BATCHES = {"cpu": (2, 1), "gpu": (16, 8, 4, 2, 1)}
"""Images of a step; on a CPU, more of them take as much longer."""
SHARE_OF_MEMORY = 0.5
"""Of what is available: weights, optimizer, gradients on the way and the loader need the rest."""
UNMEASURED_MEMORY = 8 * 2**30
"""Bytes that are assumed where the system does not say how many there are."""
CPU_ITERATIONS = 1000
ALONE = (
    "Each image counts as a group of its own. If several are of one patient, slide or video, put them into\n"
    "subfolders, or say so with groups = FILE: else images are tested on whose like was trained on."
)


@dataclass(frozen=True)
class Suggestion:
    """An option of an experiment.

    Attributes:
        table: of the experiment file, as in ``data.source``; '' for none.
        name: of the option.
        value: as TOML has it.
        why: a sentence for the file; '' where the value says all.
    """

    table: str
    name: str
    value: Any
    why: str = ""


def suggest(
    source: Findings, target: Findings | None, test: Findings | None, device: str, registry: Registry
) -> list[Suggestion]:
    """An experiment for these images.

    Args:
        source: labelled images to learn from.
        target: unlabelled ones of where the model must work.
        test: labelled ones to measure on; by default a share of the source's, where there is no target.
        device: as on the command line.
        registry: where components come from.
    """
    found = [each for each in (source, target, test) if each is not None]
    grey = all(each.grey for each in found) and all(_has_channels(each, registry) for each in found)
    place = pick_device(device)
    segmenter = list(_segmenter(source, place))
    largest = WHOLE if target is None else TRANSLATED
    least = TRANSLATED_ON_CPU if target is not None and place == "cpu" else largest
    view = list(_view(source, least, largest))
    chosen = list(_datasets(source, target, test, grey=grey))
    if target is not None:
        chosen += _generator(place)
    chosen += [*segmenter, *_loss(source), *view, *_augmentation(target is not None)]
    if target is None:
        chosen.append(_batch(source, segmenter, view, 1 if grey else 3, place, registry))
    return chosen + (list(_first_answer(target)) if place == "cpu" else [])


def _has_channels(found: Findings, registry: Registry) -> bool:
    return "channels" in options(registry.load(registry.find("dataset", found.table["name"])))


def _datasets(source: Findings, target: Findings | None, test: Findings | None, *, grey: bool) -> Iterator[Suggestion]:
    roles = {"data.source": source, "data.target": target, "data.test.test": test}
    if target is None and test is None:
        roles["data.test.test"] = source
    for table, found in roles.items():
        if found is None:
            continue
        labels = f", {found.masks} with labels" if found.masks else ", without labels"
        size = f"typically {found.short} x {found.long} pixels"
        yield Suggestion(table, "name", found.table["name"], f"{pluralise(found.images, 'image')}{labels}; {size}.")
        if "domain" in found.table:
            yield Suggestion(table, "domain", found.table["domain"])
        if "root" in found.table:
            why = ALONE if found.masks and found.groups == found.images else ""
            yield Suggestion(table, "root", found.table["root"], why)
        if grey:
            yield Suggestion(table, "channels", 1, "All images that were looked at are grey.")


def _generator(place: str) -> Iterator[Suggestion]:
    yield Suggestion(
        "generator",
        "name",
        "cut",
        "Translates the source into the look of the target. Whether that helps, and more than strong augmentation\n"
        "alone, `toolkit ladder --config` with this file says.",
    )
    if place == "cpu":
        why = "Narrow, since there is no GPU here: leave both out for the published network."
        yield Suggestion("generator", "width", 24, why)
        yield Suggestion("generator", "blocks", 6)


def _segmenter(source: Findings, place: str) -> Iterator[Suggestion]:
    labelled = pluralise(source.masks, "labelled image")
    if source.masks < FEW:
        yield Suggestion("segmenter", "name", "unet", f"Plain and narrow, since there are only {labelled}.")
        yield Suggestion("segmenter", "base", 16)
    elif source.masks < MANY or len(source.classes) > 2:
        yield Suggestion("segmenter", "name", "unet", f"The plain, reliable choice for {labelled}.")
        if place == "cpu":
            why = "Narrow, since there is no GPU here: leave it out for the published network."
            yield Suggestion("segmenter", "base", 16, why)
    else:
        yield Suggestion("segmenter", "name", "hardnet", f"{labelled} are enough for a larger network.")


def _loss(source: Findings) -> Iterator[Suggestion]:
    shares = ", ".join(f"{name} {share:.1%}" for name, share in source.shares.items())
    name = "dice+bce" if len(source.classes) == 2 else "dice+ce"
    yield Suggestion("loss", "name", name, f"Dice does not mind that classes are uneven: {shares}.")


def _view(source: Findings, least: int, largest: int) -> Iterator[Suggestion]:
    """How images are brought to the size that the network sees.

    Args:
        source: the images.
        least: side of large images that are seen whole, where objects allow it.
        largest: that at most.
    """
    if source.long <= least:
        side = max(MULTIPLE * 2, _rounded_up(source.short))
        yield Suggestion("data", "size", side, f"About the images' own size, as a multiple of {MULTIPLE}.")
        return
    object_side = source.long if source.object_side is None else source.object_side
    # at least SMALL_OBJECT pixels of each object, or windows twice as wide as one: whichever is less to compute
    whole = min(max(least, _rounded_up(SMALL_OBJECT * source.long / object_side)), _rounded_up(source.long))
    window = max(min(WINDOW, least), _rounded_up(2 * object_side))
    if whole == least or whole <= min(largest, window):
        yield Suggestion("data", "size", whole, f"Whole images, made smaller; they have {source.long} pixels.")
        return
    yield Suggestion(
        "data",
        "tile",
        min(WINDOW, window, source.short // MULTIPLE * MULTIPLE or source.short),
        f"Windows at full resolution: objects are typically {object_side:.0f} pixels across, and would be\n"
        f"{object_side * least / source.long:.0f} in whole images of {least}.",
    )
    if 1 - next(iter(source.shares.values())) < RARE:
        yield Suggestion("data", "tile_sampling", "foreground", "Most windows show background alone.")


def _rounded_up(side: float) -> int:
    """To a multiple that networks take."""
    return math.ceil(side / MULTIPLE) * MULTIPLE


def _augmentation(translated: bool) -> Iterator[Suggestion]:
    why = "What generalises best to other scanners, at no cost."
    if translated:
        why += " Geometry changes before, appearance after the translation."
    yield Suggestion("augmentation", "preset", "strong", why)


def _batch(
    source: Findings,
    segmenter: list[Suggestion],
    view: list[Suggestion],
    channels: int,
    place: str,
    registry: Registry,
) -> Suggestion:
    """As many images as memory holds, and not more than a quarter of all."""
    from transeg.core.builders.networks import build_segmenter
    from transeg.core.experiment.choices import SegmenterChoice
    from transeg.tools.init.training_memory import kept_for_backward

    chosen: Settings = {option.name: option.value for option in segmenter}
    network = build_segmenter(SegmenterChoice(**chosen), channels, len(source.classes), 0, registry, pretrained=False)
    side = next(option.value for option in view if option.name in {"size", "tile"})
    each, there = kept_for_backward(network, channels, side), _available_memory(place)
    sizes = BATCHES["cpu" if place == "cpu" else "gpu"]
    fits = next((count for count in sizes if count * each <= SHARE_OF_MEMORY * there), 1)
    need = f"An image of {side} pixels keeps {each / 2**20:,.0f} MiB for the backward pass"
    why = f"{need}; {there / 2**30:.0f} GiB are free."
    return Suggestion("train", "batch_size", min(fits, max(1, source.masks // 4)), why)


def _first_answer(target: Findings | None) -> Iterator[Suggestion]:
    """What a CPU can do in minutes."""
    if target is not None:
        why = "On a CPU, more images a step take as much longer."
        yield Suggestion("train", "batch_size", BATCHES["cpu"][0], why)
    why = "There is no GPU here: for a first answer. Leave it out for the published length."
    yield Suggestion("train", "iterations", CPU_ITERATIONS, why)


def _available_memory(device: str) -> int:
    """Bytes."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    total, available = main_memory()
    known = [size for size in (available or total, memory_limit()) if size is not None]
    return min(known, default=UNMEASURED_MEMORY)
