"""Frames of videos, without labels."""

from __future__ import annotations

import logging
import os
import threading
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import cv2
import numpy as np

from transeg.core.data.images import resize_mask
from transeg.core.data.largest_rectangle import largest_rectangle
from transeg.core.data.listing import is_left_by_system, natural_sort_key
from transeg.core.data.splits import RATIO, split_by_ratio
from transeg.core.data.video_frames import ENDINGS, Frame, VideoFile, is_video
from transeg.core.errors import DataError
from transeg.core.interfaces import Dataset, Fault, Origin, Region, Sample

Border = Literal["inside", "around", "keep"]

WHAT = "The dataset video"
"""Needs PyAV."""
MOST_FRAMES = 240.0
"""A second: names tell times in thousandths of one."""
SIDE = 256
"""Longest side at which the border is looked for."""
DARK = 24
"""Of 255: what is not brighter is dark."""
LIT = 0.05
"""Share of frames in which the scene lights a pixel; a flash or a title lights the border in fewer."""
LEAST = 0.1
"""Share of a frame that the scene fills, where there is a border at all: what is darker is a dark video."""
THUMB = 32
"""Side of the pictures by which frames are compared."""
TILES = 8
"""In a row of those that a frame's sharpness is looked for in: letters beside the scene are always sharp."""

logger = logging.getLogger("transeg.data")
_said: set[str] = set()
_open = threading.local()
"""``reader``: the one that a thread has open; no two may decode with the same."""
_inherited: list[_Reader] = []
"""Readers that a process was forked with."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which frames of a video are wanted; see :class:`Video` for each."""

    fps: float
    start: float
    end: float
    duplicates: float
    blur: float
    border: Border


@dataclass(frozen=True, slots=True)
class Place:
    """Where a frame is: its time and that of the keyframe from which on it is decoded, in units of its video."""

    pts: int
    keyframe: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Found:
    """What was chosen of a video.

    Attributes:
        places: of the frames.
        size: height and width of frames.
        crop: of each frame, what is taken.
        scene: ``(h, w)`` bool, where a smaller picture of frames shows anything; None where all that is taken does.
        duplicates: frames that were passed over for being like the one before.
        blurred: those that were for being blurred.
    """

    places: tuple[Place, ...]
    size: tuple[int, int]
    crop: Region
    scene: np.ndarray | None
    duplicates: int
    blurred: int

    def valid(self) -> np.ndarray:
        """``(H, W)`` bool of what is taken of a frame: where it shows anything."""
        top, left, height, width = self.crop
        if self.scene is None:
            return np.ones((height, width), bool)
        return resize_mask(self.scene.astype(np.uint8), *self.size)[top : top + height, left : left + width] > 0

    def describe(self) -> str:
        """A clause."""
        cut = ""
        if (self.crop.height, self.crop.width) != self.size:
            cut = f"; its border is cut off: {self.crop.width}x{self.crop.height} of {self.size[1]}x{self.size[0]}"
        if self.scene is not None and (nothing := 1 - float(self.valid().mean())):
            cut += f"; {nothing:.0%} of that shows nothing and counts in no loss"
        return (
            f"gives {len(self.places)} images; {self.duplicates} near-duplicate and {self.blurred} blurred frames are "
            f"skipped{cut}"
        )


@dataclass
class _Candidates:
    """What is kept of frames that may be taken until all have been seen: some bytes of each."""

    places: list[Place] = field(default_factory=list)
    thumbs: list[np.ndarray] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)
    lit: np.ndarray | None = None

    def add(self, frame: Frame, path: Path) -> None:
        pixels = frame.pixels()
        size = pixels.shape[0], pixels.shape[1]
        if self.places and size != self.size:
            raise DataError(
                f"{path} changes its size at {frame.seconds:.1f} s; cut it there, or take one part with start and end.",
                str(path),
            )
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        self.size = size
        self.places.append(Place(frame.pts, frame.keyframe, frame.seconds))
        self.thumbs.append(cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA))
        self.sharpness.append(_sharpness(grey))
        scale = min(1.0, SIDE / max(size))
        small = cv2.resize(pixels.max(2), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        lit = (cv2.medianBlur(small, 3) > DARK).astype(np.int32)
        self.lit = lit if self.lit is None else self.lit + lit


class Video(Dataset):
    """Frames of videos, without labels, for a target that is nothing but a recording: `video:FILE` or `video:FOLDER`.

    Frames are taken at a rate by the times that the video gives them, also where these are not even. Blurred frames and
    those that look like the one taken before are skipped. All frames of a video are one group. They are upright, and of
    the colours that players show, from 8 or more bits, in full or video range; of interlaced ones one field is taken.

    An endoscope shows the scene in a circle or an octagon; what is dark around it throughout a video is found for each
    one. Frames are cut to the smallest rectangle that holds the scene, and its dark corners count in no loss on target
    images (`border`).

    Needs PyAV: `pip install 'transeg[video]'`.

    Args:
        root: the video, or a folder of videos, also in subfolders.
        split: `train`, `val`, `test` or `all`.
        fps: frames to take a second; no more than there are.
        start: seconds from the beginning of each video, from where on frames are taken.
        end: seconds from the beginning, up to where; 0 for all.
        duplicates: mean difference in grey levels, of 255, up to which a frame counts as like the one taken before; 0
            keeps all but equal ones, and a negative one these, too.
        blur: share of the sharpness of the video's median frame below which a frame counts as blurred; 0 keeps all.
        border: `around` cuts frames to the smallest rectangle that holds the scene, whose dark corners count in no
            loss; `inside` to the largest within the scene, which has no corners, and loses a third of a round scene;
            `keep` looks for no border, and everything counts.
        ratio: shares of train, val and test, of the number of videos.
        seed: of the shuffle before videos are shared out.
    """

    @classmethod
    def is_divided(cls, _root: Path, _options: Mapping[str, Any], /) -> bool:
        return False

    def __init__(
        self,
        root: Path,
        split: Literal["train", "val", "test", "all"],
        *,
        fps: float = 1.0,
        start: float = 0.0,
        end: float = 0.0,
        duplicates: float = 1.0,
        blur: float = 0.3,
        border: Border = "around",
        ratio: tuple[float, float, float] = RATIO,
        seed: int = 0,
    ) -> None:
        if not 0 < fps <= MOST_FRAMES:
            raise ValueError(f"fps={fps:g} must be more than 0, and at most {MOST_FRAMES:g}")
        if start < 0 or (end and end <= start):
            raise ValueError(f"start={start:g} and end={end:g} must be seconds, the later one behind the other")
        self._wanted = Wanted(fps, start, end, duplicates, blur, border)
        videos, faults = _videos(root)
        names = list(videos)
        if split != "all":
            names = [names[index] for index in split_by_ratio(names, ratio, seed)[split]]
        self._slots: list[tuple[Path, str, Found, Place]] = []
        for name in names:
            try:
                found = _found(videos[name], self._wanted)
            except DataError as error:
                faults.append(Fault(error.file, str(error)))
                continue
            self._slots += [(videos[name], name, found, place) for place in found.places]
        self.faults = faults

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, index: int) -> Sample:
        path, group, found, place = self._slots[index]
        pixels = _read(path, place)
        top, left, height, width = found.crop
        if pixels.shape[:2] != found.size:
            raise DataError(f"{path} has changed since it was looked through; start again.", str(path))
        image = np.ascontiguousarray(pixels[top : top + height, left : left + width])
        valid = found.valid() if self._wanted.border == "around" else None  # of all videos, or of none
        return Sample(image, None, self._name(index), group, valid=valid)

    def size_of(self, index: int) -> tuple[int, int]:
        crop = self._slots[index][2].crop
        return crop.height, crop.width

    def pixel_size_of(self, index: int) -> None:
        return None

    def group_of(self, index: int) -> str:
        return self._slots[index][1]

    def origin_of(self, index: int) -> Origin:
        path, group, found, place = self._slots[index]
        scene = None if found.scene is None else crc32(found.scene.tobytes())
        return Origin((path,), repr((group, place, found.crop, self._wanted.border, scene)), type(self))

    def place_of(self, index: int) -> tuple[Path, str]:
        path, _, _, place = self._slots[index]
        return path, str(place.pts)

    def _name(self, index: int) -> str:
        _, group, _, place = self._slots[index]
        return f"{group}-{round(place.seconds * 1000):08d}"


class _Reader:
    """A video that stays open: the next frame wanted is often the next one there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = VideoFile(path, WHAT)
        self._process = os.getpid()
        self._frames: Iterator[Frame] = iter(())
        self._last: Frame | None = None

    def reads(self, path: Path) -> bool:
        """Whether it reads that file, for this process."""
        return path == self._path and self._process == os.getpid()

    def close(self) -> None:
        """Close the file, if this process has opened it."""
        if self._process == os.getpid():
            self._file.close()
        else:  # to free it is to wait for threads that only the parent has
            _inherited.append(self)

    def frame(self, place: Place) -> Frame:
        """A frame, decoded from its keyframe on, or from the last one that was asked for.

        Raises:
            DataError: it cannot be.
        """
        last = self._last
        if last is None or not place.keyframe <= last.pts < place.pts:
            self._frames = self._file.at(place.pts, place.keyframe)
        for frame in self._frames:
            if frame.pts >= place.pts:
                self._last = frame
                return frame
        raise DataError(f"{self._path} holds no frame at {place.seconds:.3f} s any more.", str(self._path))


def _read(path: Path, place: Place) -> np.ndarray:
    """The pixels of a frame.

    Raises:
        DataError: it cannot be decoded.
    """
    reader: _Reader | None = getattr(_open, "reader", None)
    if reader is None or not reader.reads(path):
        if reader is not None:
            reader.close()
        reader = _Reader(path)
    _open.reader = None  # whatever has failed is not gone on with
    pixels = reader.frame(place).pixels()
    _open.reader = reader
    return pixels


def _videos(root: Path) -> tuple[dict[str, Path], list[Fault]]:
    """Videos by name, in natural order, and those whose names are alike.

    Raises:
        ValueError: there is none.
    """
    if root.is_file():
        return {_stem(root.name): root}, []
    found: dict[str, Path] = {}
    faults = []
    for inner, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not is_left_by_system(name))
        for path in sorted(Path(inner, name) for name in files if not is_left_by_system(name)):
            if not is_video(path):
                continue
            name = _stem("_".join(path.relative_to(root).parts))
            first = found.setdefault(name, path)
            if first != path:
                faults.append(Fault(str(path), f"{first} and {path} share the name {name!r}; rename one of them."))
    if not found:
        raise ValueError(f"{root} holds no video in {', '.join(ENDINGS)} files")
    return {name: found[name] for name in sorted(found, key=natural_sort_key)}, faults


def _stem(name: str) -> str:
    return unicodedata.normalize("NFC", Path(name).stem)


def _found(path: Path, wanted: Wanted) -> Found:
    """What is chosen of a video, said once.

    Raises:
        DataError: it cannot be decoded, or nothing of it is wanted.
    """
    state = path.stat() if path.exists() else None
    found = _looked_through(path, wanted, None if state is None else (state.st_size, state.st_mtime_ns))
    said = f"{path} {found.describe()}."
    if said not in _said:
        _said.add(said)
        logger.warning("%s", said)
    return found


@lru_cache(maxsize=4096)
def _looked_through(path: Path, wanted: Wanted, _state: tuple[int, int] | None) -> Found:
    """Decode a video once; the splits and roles of a run ask for the same again and again."""
    candidates = _Candidates()
    with VideoFile(path, WHAT) as video:
        for frame in video.chosen(wanted.fps, wanted.start, wanted.end):
            candidates.add(frame, path)
    if not candidates.places:
        raise DataError(f"{path} has no frame between start={wanted.start:g} and end={wanted.end:g}.", str(path))
    sharp = _sharp(candidates.sharpness, wanted.blur)
    taken = _different(candidates.thumbs, sharp, wanted.duplicates)
    assert candidates.lit is not None
    lit = candidates.lit >= max(1.0, LIT * len(candidates.places))
    crop, scene = _scene(lit, candidates.size, wanted.border)
    return Found(
        tuple(candidates.places[index] for index in taken),
        candidates.size,
        crop,
        scene,
        len(sharp) - len(taken),
        len(candidates.places) - len(sharp),
    )


def _sharpness(grey: np.ndarray) -> float:
    """The strength of second derivatives in the median tile of those that show anything."""
    edges = cv2.Laplacian(grey, cv2.CV_32F)
    rows = [row for row in np.array_split(edges, TILES, 0) if row.size]
    tiles = [tile for row in rows for tile in np.array_split(row, TILES, 1) if tile.size]
    values = [float(tile.std()) for tile in tiles]
    return float(np.median([value for value in values if value > 0] or [0.0]))


def _sharp(sharpness: Sequence[float], share: float) -> list[int]:
    """Indices of the frames that are not blurred."""
    least = share * float(np.median(sharpness))
    return [index for index, value in enumerate(sharpness) if value >= least]


def _different(thumbs: Sequence[np.ndarray], among: Sequence[int], most: float) -> list[int]:
    """Indices of the frames that are unlike the one taken before."""
    taken: list[int] = []
    for index in among:
        if taken and float(cv2.absdiff(thumbs[index], thumbs[taken[-1]]).mean()) <= most:
            continue
        taken.append(index)
    return taken


def _scene(lit: np.ndarray, size: tuple[int, int], border: Border) -> tuple[Region, np.ndarray | None]:
    """The part of frames that is taken, and where they show the scene, as :class:`Found` has them.

    Args:
        lit: ``(h, w)`` bool: where the scene is light in enough frames.
        size: height and width of frames, of which that is a smaller picture.
        border: see :class:`Video`.
    """
    whole = Region(0, 0, *size)
    outlines, _ = cv2.findContours(lit.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if border == "keep" or not outlines:
        return whole, None
    high, wide = lit.shape[0], lit.shape[1]
    scene = np.zeros((high, wide), np.uint8)  # filled: a lumen may be dark from beginning to end
    cv2.drawContours(scene, [max(outlines, key=cv2.contourArea)], -1, 1, cv2.FILLED)
    if scene.mean() < LEAST or scene.all():
        return whole, None
    if border == "around":
        left, top, width, height = cv2.boundingRect(scene)
    else:
        top, left, height, width = largest_rectangle(scene.astype(bool))
    shown = cv2.erode(scene, np.ones((3, 3), np.uint8)) > 0 if border == "around" else None  # not the outline itself
    if (height, width) == (high, wide):
        return whole, shown
    down, across = size[0] / high, size[1] / wide
    first, last = int(np.ceil(top * down)), int((top + height) * down)
    begin, stop = int(np.ceil(left * across)), int((left + width) * across)
    return Region(first, begin, max(1, last - first), max(1, stop - begin)), shown
