"""Frames of video files with their times: the one step by which datasets and predictions decode them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

import cv2
import numpy as np

from transeg.core.errors import DataError
from transeg.core.optional_packages import require

if TYPE_CHECKING:
    import av

ENDINGS = (".mp4", ".avi", ".mov", ".mkv", ".mpg", ".mpeg", ".m4v", ".wmv", ".webm", ".ts")
CONTAINERS = "mov,mp4,avi,matroska,webm,mpeg,mpegts,asf"
"""What may be in such a file: playlists, which name other files and addresses, may not."""
GUESSED = ("mpeg",)
"""Containers that give times to few frames: those of the others depend on where decoding began."""
MOST_PIXELS = 2**26
"""Of a frame, about 8K: what claims more would take all memory."""
HD = 720
"""Lines from which a video that does not say its colour matrix is taken to have that of BT.709, as players do."""
SLACK = 0.5
"""Seconds by which a video may end before it says, beside its longest gap between frames."""


class Frame(NamedTuple):
    """A decoded frame.

    Attributes:
        pts: its time in units of its video.
        seconds: the same, from the beginning of the video.
        keyframe: the ``pts`` of a frame from which on decoding gives this one.
        picture: what the library decoded.
    """

    pts: int
    seconds: float
    keyframe: int
    picture: av.VideoFrame

    def pixels(self) -> np.ndarray:
        """``(H, W, 3)`` uint8 in RGB, upright, in full range; of interlaced frames one field, brought to full height.

        Two fields are two instants: where something moves, both together are a comb that no network has seen.
        """
        picture = self.picture
        height, width = picture.height, picture.width
        from av.video.reformatter import ColorRange, Colorspace, Interpolation

        matrix = picture.colorspace
        if matrix == _UNSAID:
            matrix = Colorspace.ITU709 if height >= HD else Colorspace.ITU601
        flags = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
        rgb: np.ndarray = picture.to_ndarray(
            format="rgb24",
            src_colorspace=matrix,
            src_color_range=ColorRange.JPEG if _is_full_range(picture) else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=flags,
        )
        if picture.interlaced_frame:
            rgb = cv2.resize(rgb[::2], (width, height), interpolation=cv2.INTER_LINEAR)
        return np.ascontiguousarray(np.rot90(rgb, round(picture.rotation / 90) % 4), np.uint8)


_UNSAID = 2  # AVCOL_SPC_UNSPECIFIED


def _is_full_range(picture: av.VideoFrame) -> bool:
    """Whether black is 0, not 16: as a frame says, or as its format does (``yuvj420p``, and all but YUV)."""
    return picture.color_range == 2 or not picture.format.name.startswith(("yuv4", "yuva4", "nv", "p0"))


class VideoFile:
    """An open video; a context manager.

    Args:
        path: of a file in one of :data:`CONTAINERS`.
        what: needs it, for the sentence where PyAV is missing.

    Raises:
        UsageError: PyAV is not installed.
        DataError: it cannot be opened, or holds no video.
    """

    def __init__(self, path: Path, what: str) -> None:
        require("av", "video", what)
        self.path = path
        if not path.is_file():  # whoever opens a pipe may wait for ever
            raise DataError(f"{path} is no regular file, so it is not read.", str(path))
        self._open()
        self._begin = self._stream.start_time or 0
        self._unit = float(self.unit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, once nothing is read any more."""
        self._file.close()

    @property
    def rate(self) -> Fraction:
        """Frames a second, on average; 0 where nothing says it."""
        return self._stream.average_rate or self._stream.guessed_rate or Fraction(0)

    @property
    def unit(self) -> Fraction:
        """Seconds that times are counted in."""
        return self._stream.time_base or Fraction(1)

    @property
    def seconds(self) -> float:
        """How long it says it is; 0 where it does not."""
        if self._stream.duration is not None:
            return self._stream.duration * self._unit
        alone = len(self._file.streams) == 1  # sound may go on when the pictures have ended
        return self._file.duration / 1e6 if alone and self._file.duration else 0.0

    def frames(self, start: float = 0.0) -> Iterator[Frame]:
        """Frames in the order of their times.

        Args:
            start: seconds; those from the keyframe before it on are given.

        Raises:
            DataError: the file is damaged, has no times, or ends before it says.
        """
        last, gap, end = None, 0.0, 0.0
        for frame in self._before(self._begin + round(start / self._unit)) if start > 0 else self._decoded():
            if last is not None:
                gap = max(gap, frame.seconds - last)
            last, end = frame.seconds, frame.seconds + (frame.picture.duration or 0) * self._unit
            yield frame
        if last is None and start <= 0:
            raise DataError(f"{self.path} holds no frame that can be decoded.", str(self.path))
        if self.seconds - end > SLACK + 2 * gap:
            raise self._damaged(end, f"it says it is {self.seconds:.1f} s long, but is cut off")

    def chosen(self, fps: float, start: float, end: float) -> Iterator[Frame]:
        """The first frame of each part of a second.

        Args:
            fps: how many parts a second has; 0 for all frames.
            start: seconds, from where on.
            end: seconds, up to where; 0 for the end of the video.

        Raises:
            DataError: as for :meth:`frames`, as far as it is looked at.
        """
        last = -1
        for frame in self.frames(start):
            if end and frame.seconds >= end:
                return
            part = int((frame.seconds - start) * fps + 1e-6)
            if frame.seconds >= start and (not fps or part > last):
                last = part
                yield frame

    def _open(self) -> None:
        import av

        try:
            self._file = av.open(str(self.path.absolute()), options={"format_whitelist": CONTAINERS})
        except (av.FFmpegError, OSError, ValueError) as error:
            raise DataError(
                f"{self.path} cannot be opened as a video: {_reason(error)}; it may be no video, or cut off at its "
                "end.",
                str(self.path),
            ) from error
        try:
            self._check()
        except DataError:
            self._file.close()
            raise
        self._stream = self._file.streams.video[0]
        self._stream.thread_type = "AUTO"

    def at(self, pts: int, keyframe: int) -> Iterator[Frame]:
        """Frames from one on, which is the first.

        Args:
            pts: of that.
            keyframe: from which on it can be decoded.

        Raises:
            DataError: it is not there any more, or cannot be decoded.
        """
        for frames in self._from_further_back(keyframe):
            for frame in frames:
                if frame.pts == pts and frame.keyframe == keyframe:
                    yield frame
                    yield from frames
                    return
                if frame.pts >= pts:
                    break
        raise DataError(f"{self.path} holds no frame at {self._time(pts):.3f} s any more.", str(self.path))

    def _before(self, pts: int) -> Iterator[Frame]:
        """Frames from the keyframe before a time on."""
        for frames in self._from_further_back(pts):
            first = next(frames, None)
            if first is not None and first.pts <= pts:
                return itertools.chain((first,), frames)
        return self._decoded()

    def _from_further_back(self, pts: int) -> Iterator[Iterator[Frame]]:
        """Frames from ever further before a time: containers seek by the times of decoding, which run ahead of those
        of showing, and some only near to where they shall.
        """
        import av

        for back in () if self._file.format.name in GUESSED else (0.0, 2.0, 20.0):
            try:
                self._file.seek(max(self._begin, pts - round(back / self._unit)), stream=self._stream)
            except av.FFmpegError as error:
                raise self._damaged(self._time(pts), _reason(error)) from error
            yield self._decoded()
        self._file.close()
        self._open()
        yield self._decoded()

    def _decoded(self) -> Iterator[Frame]:
        """Frames from where the file is on; not those before a keyframe, which need others that are not there."""
        import av

        keyframe, seconds = None, 0.0
        try:
            for picture in self._file.decode(self._stream):
                pts = picture.pts if picture.pts is not None else picture.dts
                if pts is None:
                    raise DataError(
                        f"{self.path} does not say when its frames are shown; put them into a container that does, for "
                        f"instance: ffmpeg -i {self.path} -c copy video.mp4",
                        str(self.path),
                    )
                if picture.key_frame:
                    keyframe = pts
                if keyframe is None:
                    continue
                seconds = self._time(pts)
                if picture.is_corrupt:
                    raise self._damaged(seconds, "a frame is corrupt")
                yield Frame(pts, seconds, keyframe, picture)
        except IndexError as error:  # PyAV knows the streams that a file begins with
            raise self._damaged(seconds, "another stream begins there") from error
        except (av.FFmpegError, ValueError) as error:
            raise self._damaged(seconds, _reason(error)) from error

    def _time(self, pts: int) -> float:
        return (pts - self._begin) * self._unit

    def _damaged(self, seconds: float, reason: str) -> DataError:
        return DataError(
            f"{self.path} is damaged at {seconds:.1f} s: {reason}; repair it, or take what is before that.",
            str(self.path),
        )

    def _check(self) -> None:
        streams = self._file.streams.video
        if not streams:
            raise DataError(f"{self.path} holds no video, only sound or data.", str(self.path))
        if streams[0].codec_context is None:
            raise DataError(f"{self.path} has a codec that cannot be decoded.", str(self.path))
        width, height = streams[0].width, streams[0].height
        if not 0 < width * height <= MOST_PIXELS:
            raise DataError(f"{self.path} has frames of {width}x{height} pixels, which are not read.", str(self.path))


def is_video(path: Path) -> bool:
    """Whether a file is called like a video."""
    return path.suffix.lower() in ENDINGS


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
