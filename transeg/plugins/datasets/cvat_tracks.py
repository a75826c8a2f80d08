"""Tracks of CVAT: objects that go through the frames of a video, as what each frame shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

MOST = 500_000
"""Frames of a task, and shapes in them all: no file that is read lists as many."""
BETWEEN = {"box": ("xtl", "ytl", "xbr", "ybr"), "ellipse": ("cx", "cy", "rx", "ry")}
"""What CVAT interpolates in a straight line, by kinds of shapes; polygons it matches in a way of its own."""
OF_TRACKS = ("frame", "keyframe", "outside")

Said = Mapping[str, str]
Shape = tuple[str, tuple[tuple[str, str], ...]]
"""Its kind, and what is said of it."""


@dataclass
class Track:
    """An object.

    Attributes:
        label: its class.
        shapes: its kind and what is said of it, in some of the frames.
    """

    label: str
    shapes: list[tuple[str, Said]] = field(default_factory=list)


def shapes_by_frame(tracks: Sequence[Track], task: Said) -> dict[int, tuple[Shape, ...]]:
    """What each frame shows, by its number in the video, in their order.

    Args:
        tracks: all.
        task: what is said of it: ``size``, ``start_frame``, ``stop_frame``, ``frame_filter``.

    Raises:
        ValueError: something is missing between two shapes of a track, or is impossible; a clause.
    """
    frames = _frames(task)
    found: dict[int, list[Shape]] = defaultdict(list)
    count = 0
    for track in tracks:
        for number, kind, said in _shown(track, frames):
            count += 1
            if count > MOST:
                raise ValueError(f"has tracks of more than {MOST} shapes")
            found[number].append((kind, tuple(sorted({**said, "label": track.label}.items()))))
    return {number: tuple(found[number]) for number in sorted({*(frames or ()), *found})}


def _frames(task: Said) -> range | None:
    """Of a task, by their numbers in the video; None where it does not say.

    Raises:
        ValueError: they are impossible; a clause.
    """
    name, _, step = (task.get("frame_filter") or "step=1").replace(" ", "").partition("=")
    try:
        start, every = int(task.get("start_frame") or 0), int(step)
        if "stop_frame" in task:
            stop = int(task["stop_frame"]) + 1
        elif "size" in task:
            stop = start + int(task["size"]) * every
        else:
            return None
    except ValueError:
        name = ""
        start = stop = every = 0
    if name != "step" or every < 1 or not 0 <= start <= stop <= start + MOST * every:
        raise ValueError("has a task whose size, start_frame, stop_frame or frame_filter is impossible")
    return range(start, stop, every)


def _shown(track: Track, frames: range | None) -> Iterator[tuple[int, str, Said]]:
    """Frames in which an object is seen, with its kind and what is said of it there.

    Raises:
        ValueError: it is not known where it is in some; a clause.
    """
    step = 1 if frames is None else frames.step
    shapes = sorted(((_frame(said), kind, said) for kind, said in track.shapes), key=lambda shape: shape[0])
    for (number, kind, said), (following, other, then) in pairwise(shapes):
        if number == following:
            raise ValueError(f"has a track of the label {track.label!r} with two shapes in the frame {number}")
        if said.get("outside") == "1":
            continue
        if (following - number) // step > MOST:
            raise ValueError(f"has a track of the label {track.label!r} that leaves out more than {MOST} frames")
        yield number, kind, _stripped(said)
        for between in range(number + step, following, step):
            share = (between - number) / (following - number)
            yield between, kind, _between(track.label, (number, kind, said), (following, other, then), share)
    if shapes and shapes[-1][2].get("outside") != "1":
        number, kind, said = shapes[-1]
        yield number, kind, _stripped(said)
        for left in range(number + step, number if frames is None else frames.stop, step):
            yield left, kind, _stripped(said)


def _between(label: str, one: tuple[int, str, Said], other: tuple[int, str, Said], share: float) -> Said:
    """What is said of a shape between two that are.

    Args:
        label: its class, for the sentence.
        one: the frame of that before, its kind, and what is said of it.
        other: of that behind.
        share: of the way.

    Raises:
        ValueError: CVAT has no straight line for it; a clause.
    """
    (number, kind, before), (following, other_kind, behind) = one, other
    if kind == other_kind and _stripped(before) == _stripped(behind):
        return _stripped(before)
    if kind not in BETWEEN or other_kind != kind:
        raise ValueError(
            f"has a track of the label {label!r} without the frames between {number} and {following}, where it is no "
            "box or ellipse that could be interpolated; export it from CVAT, which lists every frame"
        )
    said = dict(_stripped(before))
    try:
        for key in BETWEEN[kind]:
            said[key] = repr(float(before[key]) + (float(behind[key]) - float(before[key])) * share)
        angles = [float(shape.get("rotation") or 0) for shape in (before, behind)]
        turn = (angles[1] - angles[0] + 180) % 360 - 180  # the shorter way round
        said["rotation"] = repr((angles[0] + turn * share) % 360)
    except (KeyError, ValueError) as error:
        raise ValueError(f"has a track of the label {label!r} with a {kind} whose place is no number") from error
    return said


def _frame(said: Said) -> int:
    try:
        number = int(said.get("frame", ""))
    except ValueError:
        number = -1
    if not 0 <= number < 10**9:
        raise ValueError("has a track with a shape whose frame is no number")
    return number


def _stripped(said: Said) -> Said:
    return {key: value for key, value in said.items() if key not in OF_TRACKS}
