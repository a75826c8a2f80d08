"""Follows the objects of a video from frame to frame by how much their masks overlap.

The idea is that of the IOU tracker (Bochinski et al., AVSS 2017, doi:10.1109/AVSS.2017.8078516), with masks in place of
boxes: where frames are close in time, an object overlaps itself more than anything else. Nothing is predicted, and no
colours are compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

from transeg.core.errors import TransegError
from transeg.core.interfaces import IGNORE

LEAST_IOU = 0.3
"""Intersection over union from which on two masks are one object (the usual one of SORT, arXiv:1602.00763): less than
the IOU tracker's 0.5, since a small object moves by half its width from one frame to the next."""
LONGEST_GAP = 5
"""Frames for which an object may be missing and still be the same afterwards: a network that flickers is bridged, but
what comes back after a look elsewhere is new."""


@dataclass(frozen=True, slots=True)
class TrackedObject:
    """A connected component (8-connected) of one class in one frame.

    Attributes:
        id: the same in all frames in which the object was recognised; 1, 2, ... in the order of appearance.
        label: its class.
        area: in pixels.
        row: of its centroid; 0 is the middle of the first row.
        column: likewise.
        top: the first row of its bounding box.
        left: the first column.
        pixels: ``(height, width)`` bool, what of the box is the object's.
    """

    id: int
    label: int
    area: int
    row: float
    column: float
    top: int
    left: int
    pixels: np.ndarray = field(repr=False, compare=False)

    @property
    def height(self) -> int:
        """Of the box, in pixels."""
        return len(self.pixels)

    @property
    def width(self) -> int:
        """Of the box, in pixels."""
        return int(self.pixels.shape[1])

    @property
    def box(self) -> tuple[slice, slice]:
        """Where it lies in its frame."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(slots=True)
class _Track:
    """An object that may come again: as it was last seen, and in which frame."""

    last: TrackedObject
    frame: int


class _Link(NamedTuple):
    """How well a track fits a component; the smallest is the best, and of equal ones the oldest track."""

    unlikeness: float
    id: int
    component: int


class Tracker:
    """Gives the objects of a video's frames numbers that last, one frame at a time.

    Of each class, the components of a frame are linked to the objects seen within the last :data:`LONGEST_GAP` frames
    before it, as these were when last seen: the pair of the largest intersection over union first, as long as that is
    at least :data:`LEAST_IOU`, and each object and component once. Where two objects merge, the one that fills more of
    the whole goes on; where one falls apart, the larger part does.

    Only these last masks are kept, however long the video is.
    """

    def __init__(self) -> None:
        self._tracks: dict[int, _Track] = {}
        self._frame = 0
        self._given = 0
        self._shape: tuple[int, ...] | None = None

    def add(self, mask: np.ndarray) -> list[TrackedObject]:
        """The objects of the next frame, by id.

        Args:
            mask: ``(H, W)`` label map; neither background (0) nor IGNORE is an object.

        Raises:
            TransegError: it has another size than the frames before.
        """
        if self._shape not in (None, mask.shape):
            raise TransegError("A video cannot change its size from one frame to the next.")
        self._shape = mask.shape
        oldest = self._frame - LONGEST_GAP - 1
        self._tracks = {id_: track for id_, track in self._tracks.items() if track.frame >= oldest}
        found = []
        for label in np.unique(mask):
            if label not in (0, IGNORE):
                found += self._follow(mask == label, int(label))
        self._frame += 1
        return sorted(found, key=lambda each: each.id)

    def _follow(self, region: np.ndarray, label: int) -> list[TrackedObject]:
        """The objects of one class in ``(H, W)`` bool."""
        _, numbers, boxes, centres = cv2.connectedComponentsWithStats(region.astype(np.uint8), connectivity=8)
        ids = self._linked(numbers, boxes[:, cv2.CC_STAT_AREA], label)
        found = []
        for number in range(1, len(boxes)):
            if number not in ids:
                self._given += 1
                ids[number] = self._given
            left, top, width, height, area = map(int, boxes[number])
            column, row = map(float, centres[number])
            pixels = numbers[top : top + height, left : left + width] == number
            each = TrackedObject(ids[number], label, area, row, column, top, left, pixels)
            self._tracks[each.id] = _Track(each, self._frame)
            found.append(each)
        return found

    def _linked(self, numbers: np.ndarray, areas: np.ndarray, label: int) -> dict[int, int]:
        """The ids of the components that are known objects."""
        links = []
        for id_, track in self._tracks.items():
            if track.last.label != label:
                continue
            components, overlaps = np.unique(numbers[track.last.box][track.last.pixels], return_counts=True)
            for component, overlap in zip(components.tolist(), overlaps.tolist(), strict=True):
                iou = overlap / (track.last.area + int(areas[component]) - overlap)
                if component and iou >= LEAST_IOU:
                    links.append(_Link(-iou, id_, component))
        ids: dict[int, int] = {}
        taken = set()
        for link in sorted(links):
            if link.component not in ids and link.id not in taken:
                ids[link.component] = link.id
                taken.add(link.id)
        return ids
