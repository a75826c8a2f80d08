"""What is written of labelled videos: for each, and in all, its false alarms and what was found in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from transeg.core.analysis.csv_files import CsvFiles
from transeg.core.analysis.packed_masks import PackedMasks
from transeg.core.analysis.video_alarms import AlarmRule, VideoFindings, judge_video
from transeg.core.data.listing import natural_sort_key
from transeg.core.distributed.collectives import gather_in_order
from transeg.core.errors import DataError, UsageError
from transeg.core.interfaces import Dataset


class VideoAgreement:
    """Compares predicted objects with true ones over the frames of videos, which are the groups of a dataset.

    Frames of a video are in the natural order of their names (``frame10`` after ``frame9``). They come in any order,
    from several ranks, so the masks of all are kept until then, compressed.

    Args:
        rule: what counts as an alarm.
        names: of the classes, background first.
    """

    def __init__(self, rule: AlarmRule, names: Sequence[str]) -> None:
        self._rule = rule
        self._names = names
        self._frames: list[PackedMasks] = []
        self._sizes: dict[str, tuple[int, ...]] = {}

    def add(self, name: str, group: str, prediction: np.ndarray, truth: np.ndarray) -> None:
        """Keep one frame.

        Args:
            name: of the sample.
            group: of the sample: its video.
            prediction: ``(H, W)`` label map.
            truth: likewise; where it is IGNORE, nothing counts.

        Raises:
            DataError: it has another size than others of its video.
        """
        if self._sizes.setdefault(group, truth.shape) != truth.shape:
            (height, width), (rows, columns) = truth.shape, self._sizes[group]
            raise DataError(
                f"{name} has {width}x{height} pixels, but other frames of the video {group} have {columns}x{rows}; "
                "frames of one video must have one size, or leave --frames-per-second out."
            )
        self._frames.append(PackedMasks.pack(name, group, prediction, truth))

    def share(self) -> None:
        """Put together what the ranks have, each of its share of the frames."""
        self._frames = gather_in_order(self._frames)

    @cached_property
    def _findings(self) -> dict[str, list[VideoFindings]]:
        """Of each video those of each class but background."""
        videos: dict[str, list[PackedMasks]] = defaultdict(list)
        for frame in self._frames:
            videos[frame.group].append(frame)
        labels = range(1, len(self._names))
        return {
            group: [judge_video(_in_order(videos[group]), label, self._rule) for label in labels]
            for group in sorted(videos, key=natural_sort_key)
        }

    def summary(self) -> dict[str, Any]:
        """What was found in all videos.

        Returns:
            ``frames_per_second``, ``alarm_pixels`` and ``alarm_frames``; ``videos``, their number; and by name, for
            each of the ``classes`` but background: ``frames``; ``minutes_without`` an object of the class in view, the
            ``false_alarms_without`` in them, and ``false_alarms_per_minute``; the ``false_alarms`` in all frames; true
            ``objects``, how many were ``found``, and the ``found_share``. See
            :class:`~transeg.core.analysis.video_alarms.VideoFindings`.
        """
        of_classes = zip(*self._findings.values(), strict=True)
        return {
            "frames_per_second": self._rule.frames_per_second,
            "alarm_pixels": self._rule.pixels,
            "alarm_frames": self._rule.frames,
            "videos": len(self._findings),
            "classes": {
                name: self._row(sum(findings, VideoFindings()))
                for name, findings in zip(self._names[1:], of_classes, strict=True)
            },
        }

    def write(self, folder: Path, label: str) -> None:
        """A CSV file with a line for each video and class, named by the test set's label."""
        with CsvFiles() as files:
            writer = files.begin(folder / f"{label}.csv", ["video", "class", *self._row(VideoFindings())])
            for group, of_classes in self._findings.items():
                for name, findings in zip(self._names[1:], of_classes, strict=True):
                    row = self._row(findings).values()
                    writer.writerow([group, name, *("" if value is None else round(value, 6) for value in row)])

    def _row(self, found: VideoFindings) -> dict[str, Any]:
        """Counts, and what follows from them; None where nothing does."""
        minutes = found.frames_without / self._rule.frames_per_second / 60
        return {
            "frames": found.frames,
            "minutes_without": minutes,
            "false_alarms_without": found.false_alarms_without,
            "false_alarms_per_minute": found.false_alarms_without / minutes if minutes else None,
            "false_alarms": found.false_alarms,
            "objects": found.objects,
            "found": found.found,
            "found_share": found.found / found.objects if found.objects else None,
        }


def check_videos(datasets: Mapping[str, Dataset]) -> None:
    """Whether the images of datasets are frames, of which several are of one video.

    Raises:
        UsageError: in one of them every image is a group of its own.
    """
    for label, dataset in datasets.items():
        if len({dataset.group_of(index) for index in range(len(dataset))}) == len(dataset):
            raise UsageError(
                f"--frames-per-second: each image of {label} is a group of its own, but groups must be videos; say "
                "which image is of which, for instance with groups=FILE or group=PATTERN of the dataset folder."
            )


def _in_order(frames: Sequence[PackedMasks]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for frame in sorted(frames, key=lambda each: natural_sort_key(each.name)):
        yield frame.unpack()
