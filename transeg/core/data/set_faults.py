"""What is wrong with a set of images as a whole, which no single one of them shows."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from transeg.core.analysis.image_facts import SEVERAL, grey_levels, is_two_valued
from transeg.core.data.checking import CheckedImage
from transeg.core.data.listing import plain_name, stem_of
from transeg.core.data.mask_values import stored_values
from transeg.core.data.unread_files import UnreadFiles
from transeg.core.interfaces import Fault

LOOKED_AT = 5
"""Files of a folder of which it is asked whether they look like masks."""
MOST = 0.5
"""Share of the images, from which on something holds for the set."""
HALF = 128
"""From which value on a mask of 8 bits that is cut at half of its range shows an object."""
OUTLINES = frozenset({"shapes", "annotations", "features", "regions"})
"""Keys of JSON files that LabelMe, COCO, GeoJSON and VIA write."""


def set_faults(images: Sequence[CheckedImage], by_half: bool) -> list[Fault]:
    """Images and masks that are swapped, masks that are photographs, masks that contradict each other, nothing in any.

    Args:
        images: of the whole set.
        by_half: whether masks are cut at half of their range, as nothing says what their values mean.
    """
    contradictions = [*_contradictions(images), *_several_values(images)] if by_half else []
    return unlike_masks(images) + contradictions + nothing_to_learn(images)


def unlike_masks(images: Sequence[CheckedImage]) -> list[Fault]:
    """Masks that look like photographs: one fault where images and masks are swapped, else one for each."""
    photographs = [each for each in images if each.mask_is_photograph]
    decoded = [each.facts for each in images if each.facts is not None]
    two_valued = sum(facts.two_valued for facts in decoded)
    if len(photographs) > MOST * len(images) and (two_valued > MOST * len(decoded) or not decoded):
        first = photographs[0].file
        also = f", and {two_valued} images like masks" if two_valued else ""
        return [
            Fault(
                first,
                f"{len(photographs)} of {len(images)} masks look like photographs{also}, such as those of {first}: are "
                "images and masks swapped? Say which folder is which with the options images and masks of the dataset, "
                "or rename them.",
            )
        ]
    return [
        Fault(
            each.file,
            f"The mask of {each.file} has {0 if each.values is None else len(each.values[0])} grey levels, spread over "
            "the range as in a photograph.",
        )
        for each in photographs
    ]


def nothing_to_learn(images: Sequence[CheckedImage]) -> list[Fault]:
    """Masks of which all are empty, or all of one class alone."""
    labelled = [each for each in images if each.facts is not None and each.facts.classes is not None]
    counts = [each.facts.classes for each in labelled if each.facts is not None and each.facts.classes is not None]
    if not counts:
        return []
    total = np.sum([np.pad(count, (0, max(map(len, counts)) - len(count))) for count in counts], axis=0)
    found = np.flatnonzero(total)
    if len(found) > 1:
        return []
    what = "of no known class" if not len(found) else "empty" if found[0] == 0 else "full"
    values = sorted({int(value) for each in labelled if each.values is not None for value in each.values[0]})
    stored = f"; their files hold the values {', '.join(map(str, values[:8]))}" if values else ""
    cure = ", and the option values says which stand for the classes" if len(values) > 1 else ""
    number = f"All {len(labelled)} masks are" if len(labelled) > 1 else "The only mask is"
    return [Fault(labelled[0].file, f"{number} {what}{stored}{cure}.")]


def _contradictions(images: Sequence[CheckedImage]) -> list[Fault]:
    """Masks of 0 and 1 beside masks of 0 and 255, of which the latter may mean what is unknown."""
    largest = {each.file: int(each.values[0].max()) for each in images if each.values is not None and each.values.size}
    ones = [file for file, value in largest.items() if value == 1]
    whites = [file for file, value in largest.items() if value >= HALF]
    if not (ones and whites):
        return []
    return [
        Fault(
            whites[0],
            f"{len(ones)} masks have 0 and 1 alone, but {len(whites)} also larger values, such as that of {whites[0]}: "
            "what these mean cannot be told; say ignore=255 if it is what is unknown, or store all masks alike.",
        )
    ]


def _several_values(images: Sequence[CheckedImage]) -> list[Fault]:
    """Masks of one class that were refused, and together look like those of several."""
    refused = [each for each in images if each.facts is None and each.values is not None and each.values.size]
    values = sorted({int(value) for each in refused if each.values is not None for value in each.values[0]})
    if not 2 < len(values) <= SEVERAL:
        return []
    shown = ",".join(map(str, values))
    return [
        Fault(
            refused[0].file,
            f"{len(refused)} masks cannot be told to be of one class; together they have the values {shown}: name the "
            f"classes of these, background first, as in values={shown} classes=background,a,b,...",
        )
    ]


def masks_elsewhere(images: Sequence[CheckedImage], unread: Sequence[UnreadFiles]) -> list[Fault]:
    """Files that look like the masks of a set that has none, and are not read."""
    names = {plain_name(stem_of(Path(each.file).name)) for each in images if each.file}
    faults = []
    for group in unread:
        if group.are_images:
            theirs = [path for path in group.files if _is_named_after(path, names)]
            if len(theirs) > MOST * len(names) and all(
                map(_looks_like_mask, theirs[:: max(1, len(theirs) // LOOKED_AT)])
            ):
                faults.append(
                    Fault(
                        str(theirs[0]),
                        f"No image has a mask, but {theirs[0].parent} holds {len(theirs)} files, such as "
                        f"{theirs[0].name}, that look like their masks; say so with masks={group.folder}, and how they "
                        "are called with mask_prefix and mask_suffix, or rename the folder to masks.",
                    )
                )
        elif any(
            path.suffix.lower() in (".json", ".geojson") and _holds_outlines(path) for path in group.files[:LOOKED_AT]
        ):
            faults.append(
                Fault(
                    str(group.files[0]),
                    f"No image has a mask, but {group.files[0]} and its like hold outlines, which are not read; choose "
                    "the dataset that reads those of the program that made them (toolkit list datasets).",
                )
            )
    return faults[:1]


def _is_named_after(path: Path, names: Collection[str]) -> bool:
    """Whether a name holds that of an image, whole."""
    name = plain_name(stem_of(path.name))
    if name in names:
        return True
    ends = [0, *(place for place, character in enumerate(name) if character in "_-. "), len(name)]
    starts = [0, *(place + 1 for place in ends[1:-1])]
    return any(name[start:end] in names for start in starts for end in ends if end > start)


def _looks_like_mask(path: Path) -> bool:
    values = stored_values((path,))
    if values is None or not values.size:
        return False
    found, counts = values
    white = 255 if found.max() <= 255 else 65535
    return len(found) <= 2 or is_two_valued(grey_levels(found, white, counts))


def _holds_outlines(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and bool(OUTLINES & set(content))
