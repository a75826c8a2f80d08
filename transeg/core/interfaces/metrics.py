"""What a metric of a plugin must be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

ImageMetricFunction = Callable[[np.ndarray, np.ndarray, float | None], float | None]
"""``f(probabilities, labels, pixel_size)`` of one image: a finite number, or None (or NaN) where it is undefined.

- ``probabilities``: ``(K, H, W)`` float32 in [0, 1] of the K classes, background first; their sum is 1 at each pixel.
- ``labels``: ``(H, W)`` int64, the true class of each pixel; where it is :data:`~transeg.core.interfaces.IGNORE`, 255,
  nothing is known, and nothing may count.
- ``pixel_size``: height and width of a pixel in micrometres, the geometric mean where these differ; None where the
  dataset does not say it.

H and W are those of the image itself. Both arrays are read-only.
"""
