"""Tells which DICOM images are the slices of a volume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from transeg.core.data.dicom_frames import DicomFrame
from transeg.core.data.listing import natural_sort_key

NEAR = 0.1
"""Of the distance of slices, how far one may lie beside its place: files round, and a slice that is missing is 1."""


def slice_distance(frames: Sequence[DicomFrame]) -> float | None:
    """Micrometres from each image of a volume to the next; None where they are no slices of one.

    They are where they are of one series, size and direction, and lie one behind the other at even distances in the
    natural order of their names. Slices of a tilted gantry are not: each lies a little beside the one before.

    Args:
        frames: at least one, in any order.
    """
    slices = sorted(frames, key=lambda frame: natural_sort_key(frame.name))
    alike = {(frame.series, frame.size, frame.pixel_size) for frame in slices}
    places = np.array([frame.place for frame in slices if frame.place is not None])
    if len(alike) > 1 or len(slices) < 2 or len(places) < len(slices):
        return None
    positions, directions = places[:, :3], places[:, 3:]
    normal = np.cross(directions[0, :3], directions[0, 3:])
    distance = float((positions[-1] - positions[0]) @ normal) / (len(slices) - 1)
    even = positions[0] + np.arange(len(slices))[:, None] * distance * normal
    if distance == 0 or np.abs(positions - even).max() > NEAR * abs(distance):
        return None
    return 1000 * abs(distance) if np.abs(directions - directions[0]).max() <= NEAR / 10 else None
