"""What endoscopists count of a labelled video: false alarms, and the polyps that were found at all."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from transeg.core.analysis.tracking import Tracker
from transeg.core.errors import UsageError
from transeg.core.interfaces import IGNORE

ALARM_PIXELS = 100
ALARM_FRAMES = 5
"""Where nothing else is said: small and short, so that little is passed over."""


@dataclass(frozen=True)
class AlarmRule:
    """What counts as an alarm.

    Attributes:
        frames_per_second: of the frames that are measured.
        pixels: smallest area of a connected component that someone would see.
        frames: for how many frames one after the other it must be there.

    Raises:
        UsageError: one of them is no number above zero.
    """

    frames_per_second: float
    pixels: int = ALARM_PIXELS
    frames: int = ALARM_FRAMES

    def __post_init__(self) -> None:
        for option, value in (
            ("--frames-per-second", self.frames_per_second),
            ("--alarm-pixels", self.pixels),
            ("--alarm-frames", self.frames),
        ):
            if not 0 < value < math.inf:
                raise UsageError(f"{option} {value} must be a number above zero.")


def alarm_rule_from_options(
    frames_per_second: float | None, alarm_pixels: int | None, alarm_frames: int | None
) -> AlarmRule | None:
    """What `--frames-per-second`, `--alarm-pixels` and `--alarm-frames` say; None where nothing is a video.

    Raises:
        UsageError: an option says what an alarm is where none are counted, or is no number above zero.
    """
    if frames_per_second is None:
        for option, value in (("--alarm-pixels", alarm_pixels), ("--alarm-frames", alarm_frames)):
            if value is not None:
                raise UsageError(f"{option} is for videos; say their --frames-per-second, too.")
        return None
    pixels = ALARM_PIXELS if alarm_pixels is None else alarm_pixels
    return AlarmRule(frames_per_second, pixels, ALARM_FRAMES if alarm_frames is None else alarm_frames)


@dataclass(frozen=True)
class VideoFindings:
    """What was found of one class, in one video or in several.

    Attributes:
        frames: how many there are.
        frames_without: in how many of them is no object of the class.
        false_alarms: predicted objects that for long enough overlapped no true one.
        false_alarms_without: those of them that did so for long enough while no true object was in view.
        objects: true objects, each as often as it comes into view.
        found: those of them that at least once overlapped a predicted object that is large enough to be seen.
    """

    frames: int = 0
    frames_without: int = 0
    false_alarms: int = 0
    false_alarms_without: int = 0
    objects: int = 0
    found: int = 0

    def __add__(self, other: VideoFindings) -> VideoFindings:
        return VideoFindings(
            self.frames + other.frames,
            self.frames_without + other.frames_without,
            self.false_alarms + other.false_alarms,
            self.false_alarms_without + other.false_alarms_without,
            self.objects + other.objects,
            self.found + other.found,
        )


def judge_video(frames: Iterable[tuple[np.ndarray, np.ndarray]], label: int, rule: AlarmRule) -> VideoFindings:
    """Count a video's false alarms and found objects of one class, one frame in memory at a time.

    True and predicted objects are followed by :class:`~transeg.core.analysis.tracking.Tracker`, and each counts once. A
    false alarm is a predicted object that in ``rule.frames`` frames one after the other has ``rule.pixels`` or more
    and no pixel in common with the truth; a frame in which it is missing, too small or overlaps begins anew.

    Args:
        frames: in their order, the predicted and the true label map ``(H, W)``; where the truth is IGNORE, nothing
            counts.
        label: the class.
        rule: what counts as an alarm.

    Raises:
        TransegError: frames have different sizes.
    """
    predictions, truths = Tracker(), Tracker()
    runs: dict[int, int] = {}
    runs_without: dict[int, int] = {}
    alarms, alarms_without, objects, found = (set[int]() for _ in range(4))
    count = without = 0
    for prediction, truth in frames:
        true = truth == label
        known = (prediction == label) & (truth != IGNORE)
        seen = [each for each in predictions.add(known.astype(np.uint8)) if each.area >= rule.pixels]
        shown = np.zeros(true.shape, dtype=bool)
        for each in seen:
            shown[each.box] |= each.pixels
        false = [each.id for each in seen if not true[each.box][each.pixels].any()]
        empty = not true.any()
        runs = {id_: runs.get(id_, 0) + 1 for id_ in false}
        runs_without = {id_: runs_without.get(id_, 0) + 1 for id_ in false if empty}
        alarms |= {id_ for id_, length in runs.items() if length >= rule.frames}
        alarms_without |= {id_ for id_, length in runs_without.items() if length >= rule.frames}
        for each in truths.add(true.astype(np.uint8)):
            objects.add(each.id)
            if shown[each.box][each.pixels].any():
                found.add(each.id)
        count += 1
        without += empty
    return VideoFindings(count, without, len(alarms), len(alarms_without), len(objects), len(found))
