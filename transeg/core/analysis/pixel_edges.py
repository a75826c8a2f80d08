"""Outlines along the edges of pixels: filled with the pixels whose centres are inside, they give the same mask."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

Rings = list[np.ndarray]
"""An outline clockwise, and those of its holes against the clock: ``(P, 2)`` int64 of x and y each."""


def trace_parts(region: np.ndarray) -> list[Rings]:
    """The parts of a region, each a valid polygon: pixels that touch at a corner alone are different parts.

    No ring touches itself; rings may touch each other at corners. The pixel in row 0 and column 0 reaches from 0 to 1.

    Args:
        region: ``(H, W)`` truth values.

    Returns:
        Parts by their first pixels, row by row; a ring has a point where it turns, and its first is not repeated.
    """
    from scipy.ndimage import label

    parts, count = label(region)
    outlines: list[Rings] = [[] for _ in range(count)]
    holes: list[Rings] = [[] for _ in range(count)]
    points, inside, touching, following = _corners(region)
    owner = parts[inside[:, 0], inside[:, 1]] - 1
    for corners in _simple_rings(following, points, touching):
        ring = points[corners]
        x, y = ring.T
        turns_right = np.dot(x, np.roll(y, -1)) > np.dot(y, np.roll(x, -1))
        (outlines if turns_right else holes)[owner[corners[0]]].append(ring)
    return [outline + inner for outline, inner in zip(outlines, holes, strict=True)]


def join_holes(rings: Rings) -> np.ndarray:
    """A part as one ring: from each hole a bridge, which is passed there and back, leads to the left.

    Returns:
        ``(P, 2)`` int64; filled by the even-odd rule, it is the part without its holes.
    """
    points = np.concatenate(rings)
    ends = np.cumsum([len(ring) for ring in rings])
    begins = ends - [len(ring) for ring in rings]
    after = np.arange(1, len(points) + 1)
    after[ends - 1] = begins
    starts = [begin + np.lexsort(ring.T[::-1])[0] for begin, ring in zip(begins[1:], rings[1:], strict=True)]
    piers = _edges_to_the_left(points, after, np.array(starts, np.int64))
    x, y, following = points[:, 0].tolist(), points[:, 1].tolist(), after.tolist()
    before = np.argsort(after)
    for start in starts:  # each hole ends where it began, not yet there
        following[before[start]] = len(x)
        x.append(x[start])
        y.append(y[start])
        following.append(-1)
    far_first = sorted(range(len(starts)), key=lambda i: -abs(y[starts[i]] - y[piers[i]]))
    for hole in far_first:  # so that each comes directly behind the corner from which its edge leaves
        start, edge = starts[hole], piers[hole]
        there, back = len(x), len(x) + 1
        x += [x[edge]] * 2
        y += [y[start]] * 2
        following += [int(start), following[edge]]
        following[edge], following[len(points) + hole] = there, back
    path = [0]
    while (corner := following[path[-1]]) != 0:
        path.append(corner)
    joined = np.stack([np.array(x)[path], np.array(y)[path]], axis=1)
    return joined[(joined != np.roll(joined, 1, axis=0)).any(axis=1)]


def _edges_to_the_left(points: np.ndarray, after: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Of corners, the upright edges that are next to the left in the row of pixels below: where these begin."""
    upright = np.flatnonzero(points[:, 0] == points[after, 0])
    low, high = np.sort([points[upright, 1], points[after[upright], 1]], axis=0)
    edge = np.repeat(np.arange(len(upright)), high - low)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(high - low) - (high - low), high - low) + low[edge]
    width = points[:, 0].max() + 1
    keys = row * width + points[upright[edge], 0]
    order = np.argsort(keys)
    wanted = points[starts, 1] * width + points[starts, 0]
    return upright[edge[order[np.searchsorted(keys[order], wanted) - 1]]]


def _corners(region: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where outlines turn; where two pixels touch at a corner alone, each has its own.

    Returns:
        Of N corners: points ``(N, 2)`` of x and y; ``(N, 2)`` row and column of a pixel inside; whether another corner
        is at the same point; and the number of the next corner, with what is inside to the right.
    """
    padded = np.pad(region, 1).astype(bool)
    above, below = padded[:-1], padded[1:]
    width = region.shape[1] + 1
    quarters = {(down, right): (above, below)[down][:, right : right + width] for down, right in np.ndindex(2, 2)}
    found = []
    for (down, right), quarter in quarters.items():
        beside, over, opposite = quarters[down, 1 - right], quarters[1 - down, right], quarters[1 - down, 1 - right]
        for convex, here in ((True, quarter & ~beside & ~over), (False, ~quarter & beside & over & opposite)):
            rows, columns = np.nonzero(here)
            step = (down, right) if convex else (1 - down, 1 - right)
            inside = np.stack([rows - 1 + step[0], columns - 1 + step[1]])
            shared = opposite[rows, columns] & convex
            leaves_sideways = np.full(len(rows), (down == right) == convex)
            found.append(
                [columns, rows, *inside, shared, np.full_like(rows, right), np.full_like(rows, down), leaves_sideways]
            )
    x, y, row, column, shared, right, down, sideways = (np.concatenate(values) for values in zip(*found, strict=True))
    following = np.empty(len(x), np.int64)
    for order, leaving in ((np.lexsort((right, x, y)), sideways), (np.lexsort((down, y, x)), ~sideways)):
        partner = np.empty(len(x), np.int64)  # on a line, each second gap between corners is an edge
        partner[order[::2]], partner[order[1::2]] = order[1::2], order[::2]
        following[leaving] = partner[leaving]
    return np.stack([x, y], 1), np.stack([row, column], 1), shared.astype(bool), following


def _simple_rings(following: np.ndarray, points: np.ndarray, touching: np.ndarray) -> Iterator[list[int]]:
    """Numbers of the corners of each ring, which is cut in two where it comes to a point again."""
    after, shared = following.tolist(), touching.tolist()
    keys = (points[:, 1] * (points[:, 0].max(initial=0) + 1) + points[:, 0]).tolist()
    left = bytearray(b"\1") * len(after)
    for start in range(len(after)):
        path: list[int] = []
        places: dict[int, int] = {}
        corner = start
        while left[corner]:
            left[corner] = 0
            if shared[corner]:
                if (place := places.get(keys[corner])) is not None:
                    yield path[place:]
                    for cut in path[place:]:
                        if shared[cut]:
                            places.pop(keys[cut], None)
                    del path[place:]
                places[keys[corner]] = len(path)
            path.append(corner)
            corner = after[corner]
        if path:
            yield path
