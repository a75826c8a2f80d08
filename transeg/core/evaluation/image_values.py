"""One metric of several runs, image by image, on the images that all of them were tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from transeg.core.evaluation.comparison import Lines


@dataclass(frozen=True)
class ImageValues:
    """One metric of all entries on the images that they share; an entry is a run, or several that repeat each other.

    Attributes:
        names: of the entries.
        values: ``(images, entries)``, averaged over each entry's runs.
        of_runs: of each entry ``(images, runs)``, NaN where a run has no such image.
        groups: of the images.
    """

    names: list[str]
    values: np.ndarray
    of_runs: list[np.ndarray]
    groups: list[str]


def shared_images(lines: Mapping[str, Sequence[Lines]]) -> dict[str, str]:
    """The group of each image on which every entry has a run that was tested, in the order of the first entry.

    Args:
        lines: of each entry those of its runs.
    """
    seen = [dict.fromkeys(name for run in runs for name in run) for runs in lines.values()]
    first = next(iter(lines.values()))
    return {
        name: next(run[name]["group"] for run in first if name in run)
        for name in seen[0]
        if all(name in each for each in seen)
    }


def image_values(lines: Mapping[str, Sequence[Lines]], shared: Mapping[str, str], metric: str) -> ImageValues:
    """A metric where every run that has an image defines it.

    Args:
        lines: of each entry those of its runs.
        shared: see :func:`shared_images`.
        metric: the column.
    """
    means = np.empty((len(shared), len(lines)))
    of_runs = []
    for column, runs in enumerate(lines.values()):
        cells = [[run[name][metric] or "nan" if name in run else None for run in runs] for name in shared]
        means[:, column] = [np.mean([float(cell) for cell in line if cell is not None]) for line in cells]
        of_runs.append(np.array([[float(cell or "nan") for cell in line] for line in cells]).reshape(-1, len(runs)))
    defined = np.flatnonzero(~np.isnan(means).any(1))
    groups = list(shared.values())
    return ImageValues(list(lines), means[defined], [each[defined] for each in of_runs], [groups[at] for at in defined])
