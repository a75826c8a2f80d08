"""What a set of images is like, in a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from transeg.core.analysis.image_facts import ImageFacts


def summarise(images: Sequence[ImageFacts], classes: Sequence[str]) -> dict[str, Any]:
    """Numbers about a set, as JSON holds them.

    Args:
        images: of the set.
        classes: their names, background first.

    Returns:
        ``images``, ``groups``, ``masks``: how many; ``sizes`` and ``types``: how many images of each, the commonest
        first; ``intensities``: least and greatest as they are, by type; ``mean`` and ``deviation`` of intensities,
        between 0 and 1; ``pixel_sizes`` in micrometres, likewise counted. Of the masks ``classes``, each one's share of
        the known pixels; ``unknown``, the share of unknown ones; ``empty`` and ``full``, how many have no foreground
        or no background; ``objects`` in an image, and ``object_area`` in pixels, as ``[5 %, median, 95 %]``.
    """
    if not images:
        return {"images": 0, "groups": 0, "masks": 0}
    table: dict[str, Any] = {
        "images": len(images),
        "groups": len({image.group for image in images}),
        "masks": sum(image.classes is not None for image in images),
        "sizes": _counted(f"{image.size[1]}x{image.size[0]}" for image in images),
        "types": _counted(image.dtype for image in images),
        "intensities": {
            dtype: [
                min(image.least for image in images if image.dtype == dtype),
                max(image.most for image in images if image.dtype == dtype),
            ]
            for dtype in sorted({image.dtype for image in images})
        },
        "mean": float(np.mean([image.mean for image in images])),
        "deviation": float(np.mean([image.deviation for image in images])),
        "pixel_sizes": _counted(
            "x".join(f"{side:g}" for side in image.pixel_size) for image in images if image.pixel_size
        ),
    }
    return table | _labels(images, classes)


def _labels(images: Sequence[ImageFacts], classes: Sequence[str]) -> dict[str, Any]:
    counts = [image.classes for image in images if image.classes is not None]
    if not counts:
        return {}
    length = max(len(classes), *(len(count) for count in counts))
    total = np.sum([np.pad(count, (0, length - len(count))) for count in counts], axis=0)
    unknown = sum(image.unknown for image in images)
    known = max(1, int(total.sum()))
    labelled = [image for image in images if image.classes is not None]
    areas = np.concatenate([image.objects for image in labelled])
    return {
        "classes": {name: float(total[number]) / known for number, name in enumerate(classes)},
        "unknown": unknown / (known + unknown),
        "empty": sum(not count[1:].any() for count in counts),
        "full": sum(bool(count[1:].any()) and not count[0] for count in counts),
        "objects": quantiles(np.array([len(image.objects) for image in labelled])),
        "object_area": quantiles(areas) if len(areas) else None,
    }


def quantiles(numbers: np.ndarray) -> list[float]:
    """The 5 % quantile, the median and the 95 % quantile of ``(N,)`` numbers, N > 0."""
    return [float(value) for value in np.quantile(numbers, [0.05, 0.5, 0.95])]


def _counted(values: Any) -> dict[str, int]:
    return dict(Counter(values).most_common())
