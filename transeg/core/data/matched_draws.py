"""How often source images are drawn, so that what they show is on average like what the target is said to show.

docs/decisions/matched-draws.md says why probabilities are tilted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from transeg.core.analysis.counting import Counting, ObjectMap
from transeg.core.data.cache import CachedDataset, SampleCache
from transeg.core.data.windows import RegionReader, Windows
from transeg.core.errors import UsageError
from transeg.core.interfaces import IGNORE, Dataset, Sample

Matched = Literal["share", "size"]
"""What is matched: the share of pixels that are not background, or the diameter of objects in pixels."""


def shown_values(
    dataset: Dataset,
    count: int,
    matched: Matched,
    advance: Callable[[], None],
    *,
    windows: Windows | None = None,
    load_size: int | None = None,
    cache: SampleCache | None = None,
) -> np.ndarray:
    """What each image, or each window on the images, shows.

    Args:
        dataset: labelled.
        count: how many of its images, from the first on.
        matched: what is looked at.
        advance: called after each image or window.
        windows: on these images, which then count in their place.
        load_size: height and width that images are resized to before anything else; None for their own.
        cache: keeps decoded images.

    Returns:
        ``(images,)`` or ``(windows,)``: the share of foreground in what is known, or the median diameter, in pixels
        after resizing, of a disk of the area of each object that no edge cuts; NaN where nothing is known, or no object
        is whole.

    Raises:
        UsageError: images have no masks.
    """
    if windows is None:
        images = CachedDataset(dataset, cache)
        samples = (images(index) for index in range(count))
    else:
        regions = RegionReader(dataset, cache=cache)
        samples = (regions(*windows[number]) for number in range(len(windows)))
    values = []
    for sample in samples:
        if sample.mask is None:
            raise UsageError("data.source.match is for a labelled source: this one has no masks to look at.")
        values.append(_share(sample.mask) if matched == "share" else _diameter(sample, sample.mask, load_size))
        advance()
    return np.array(values)


def matching_probabilities(values: np.ndarray, matched: Matched, wanted: float) -> np.ndarray:
    """Probabilities with which the mean of what is drawn is the wanted one.

    Of all that do so these are closest to drawing evenly, in the sense of Kullback and Leibler: the probability of a
    value v is in proportion to exp(t v), where t is what the wanted mean asks for (Csiszár,
    doi:10.1214/aop/1176996454). Where there is no value, it stays as it is in even draws.

    Args:
        values: as :func:`shown_values` gives them.
        matched: what they are.
        wanted: mean of the values that are drawn.

    Returns:
        As many, in [0, 1]; their sum is 1.

    Raises:
        UsageError: the values do not lie on both sides of what is wanted.
    """
    from scipy.optimize import brentq

    known = ~np.isnan(values)
    some = values[known]
    if not len(some) or not (some.min() < wanted < some.max() or some.min() == wanted == some.max()):
        raise UsageError(_out_of_reach(some, matched, wanted))
    distances = (some - wanted) / max(some.max() - wanted, wanted - some.min(), np.finfo(float).tiny)

    def tilted(tilt: float) -> np.ndarray:
        exponents = tilt * distances
        weights = np.exp(exponents - exponents.max())
        return np.asarray(weights / weights.sum())

    def excess(tilt: float) -> float:
        return float((tilted(tilt) * distances).sum())

    reach = 1.0
    while excess(-reach) > 0 or excess(reach) < 0:
        reach *= 2
    probabilities = np.full(len(values), 1 / len(values))
    probabilities[known] = tilted(brentq(excess, -reach, reach)) * known.mean()
    return probabilities


def effective_number(probabilities: np.ndarray) -> float:
    """Of how many evenly drawn images an average would be as certain (Kish's effective sample size)."""
    return float(1 / np.square(probabilities).sum())


def _share(mask: np.ndarray) -> float:
    known = mask != IGNORE
    return float((mask[known] > 0).mean()) if known.any() else math.nan


def _diameter(sample: Sample, mask: np.ndarray, load_size: int | None) -> float:
    instances = sample.instances
    found = Counting().map_of(mask) if instances is None else Counting().numbered(instances, mask)
    assert found is not None  # components never overlap
    areas = found.areas[~_cut(found)]
    scale = 1.0 if load_size is None else load_size / math.sqrt(mask.size)
    return float(np.median(np.sqrt(4 * areas / math.pi))) * scale if len(areas) else math.nan


def _cut(objects: ObjectMap) -> np.ndarray:
    """``(n,)`` bool: which objects reach the edge of the image."""
    numbers = objects.numbers
    edge = np.concatenate([numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]])
    return np.isin(np.arange(1, len(objects.labels) + 1), edge)


def _out_of_reach(values: np.ndarray, matched: Matched, wanted: float) -> str:
    option = f"data.source.match={matched}:{wanted:g}"
    if not len(values):
        return f"{option} finds no object in the source whose size could be told; leave the option out."
    ends = f"{values.min():.3g} to {values.max():.3g}"
    if matched == "share":
        return f"{option} is out of reach: the source shows {ends} of foreground; say a share between these."
    factor = wanted / float(values.mean())
    return (
        f"{option} is out of reach: objects of the source have diameters of {ends} pixels; "
        f"data.source.rescale={factor:.2g} would change their size itself."
    )
