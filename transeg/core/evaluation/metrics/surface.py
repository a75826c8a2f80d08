"""Metrics of outlines: Hausdorff distance and surface Dice."""

from __future__ import annotations

import math

import numpy as np

TOLERANCE = 2.0
"""How far apart, in pixels, two outlines may be to agree in the surface Dice; of pixels that are no squares, in squares
of the same area, and of voxels in cubes of the same volume."""
PIXELS = 1.0, 1.0
FEW = 1 / 40
"""Share of the pixels around both regions up to which those of an outline are looked up one by one. Above, it is faster
to find the distances of all pixels at once."""


def surface_metrics(
    prediction: np.ndarray, truth: np.ndarray, valid: np.ndarray, pixel_size: tuple[float, ...] = PIXELS
) -> tuple[float, float]:
    """Compare the outlines of a predicted and a true region.

    The 95 % Hausdorff distance is the larger of the two directions' 95th percentiles, as in Metrics Reloaded
    (arXiv:2206.01653); the surface Dice is the share of both outlines that lies within :data:`TOLERANCE` of the other
    (Nikolov et al., arXiv:1809.04430), counted in pixels.

    Args:
        prediction: ``(H, W)``, or ``(D, H, W)``, bool.
        truth: likewise.
        valid: likewise, the pixels that count; the others are as if outside the image.
        pixel_size: height and width of a pixel, or depth, height and width, in the unit of the distance.

    Returns:
        Both metrics. Where one region is empty the worst there is, the image's diagonal and 0; where both are, NaN.
    """
    prediction, truth = prediction & valid, truth & valid
    either = prediction | truth
    if not either.any():
        return math.nan, math.nan
    if not (prediction.any() and truth.any()):
        return math.hypot(*np.multiply(truth.shape, pixel_size)), 0.0
    box = _bounding_box(either)
    first, second = _outline(prediction[box]), _outline(truth[box])
    distances = _distances(first, second, pixel_size), _distances(second, first, pixel_size)
    hausdorff = max(np.percentile(distance, 95) for distance in distances)
    reach = (
        TOLERANCE * math.prod(pixel_size) ** (1 / len(pixel_size)) * (1 + 1e-9)
    )  # two pixels are two, however they are rounded
    near = np.concatenate(distances) <= reach
    return float(hausdorff), float(near.mean())


def _distances(outline: np.ndarray, other: np.ndarray, pixel_size: tuple[float, ...]) -> np.ndarray:
    """From each pixel of an outline to the nearest of the other, ``(N,)``."""
    if max(outline.sum(), other.sum()) > outline.size * FEW:
        from scipy.ndimage import distance_transform_edt

        transform: np.ndarray = distance_transform_edt(~other, sampling=pixel_size)
        return transform[outline]
    from scipy.spatial import cKDTree

    points, others = (np.argwhere(pixels) * np.array(pixel_size) for pixels in (outline, other))
    found: np.ndarray = cKDTree(others).query(points)[0]
    return found


def _outline(region: np.ndarray) -> np.ndarray:
    """Pixels of the region that have one of four neighbours (of a voxel, six) outside of it, or lie at the edge."""
    inside = region.copy()
    for axis in range(region.ndim):
        line, inner = np.moveaxis(region, axis, 0), np.moveaxis(inside, axis, 0)
        inner[1:] &= line[:-1]
        inner[:-1] &= line[1:]
        inner[[0, -1]] = False
    return region & ~inside


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    others = (tuple(other for other in range(mask.ndim) if other != axis) for axis in range(mask.ndim))
    places = [np.flatnonzero(mask.any(axes)) for axes in others]
    return tuple(slice(place[0], place[-1] + 1) for place in places)
