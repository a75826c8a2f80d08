"""Videos of outlines, written a frame at a time."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from transeg.core.data.video_frames import HD
from transeg.core.errors import TransegError

if TYPE_CHECKING:
    import av

FINEST = Fraction(1, 60000)
"""Second: MPEG-4, which stands in for H.264, counts times in no smaller parts."""
QUALITY = "18"
"""Of H.264's scale, on which one sees no difference to the original: outlines are thin."""


class OverlayVideo:
    """Writes what players play: H.264 where there is an encoder for it, else MPEG-4; a context manager.

    Frames keep their times, also where these are not even, and lose their last row or column where a side is odd.

    Args:
        path: of the file, whose ending decides the container.
        rate: frames a second, for programs that ask for one.
        unit: seconds that times are counted in.
    """

    def __init__(self, path: Path, rate: Fraction, unit: Fraction) -> None:
        import av

        self._codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        self._rate = rate
        self._unit = max(unit, FINEST)
        self._scale = unit / self._unit
        self._file = av.open(str(path), "w")
        self._stream: av.VideoStream | None = None
        self._last = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None and self._stream is not None:
                self._file.mux(self._stream.encode(None))
        finally:
            self._file.close()

    def add(self, picture: np.ndarray, time: int, duration: int) -> None:
        """Write a frame.

        Args:
            picture: ``(H, W, 3)`` uint8, of one size for all.
            time: of it, later than that of the frame before.
            duration: of it; 0 where that is not known.

        Raises:
            TransegError: it has another size.
        """
        import av
        from av.video.reformatter import ColorRange, Colorspace

        height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
        matrix = Colorspace.ITU709 if height >= HD else Colorspace.ITU601
        stream = self._stream = self._stream or self._begun(height, width, matrix)
        if (stream.height, stream.width) != (height, width):
            raise TransegError("A video cannot change its size from one frame to the next.")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width])).reformat(
            format="yuv420p",
            dst_colorspace=matrix,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
        )
        self._last = max(self._last + 1, round(time * self._scale))
        frame.pts, frame.time_base, frame.duration = self._last, self._unit, round(duration * self._scale)
        self._file.mux(stream.encode(frame))

    def _begun(self, height: int, width: int, matrix: int) -> av.VideoStream:
        from av import VideoStream
        from av.video.reformatter import ColorRange

        options = {"crf": QUALITY, "preset": "veryfast"} if self._codec == "libx264" else {"qscale": "2"}
        stream = self._file.add_stream(self._codec, rate=self._rate, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.time_base, context.colorspace, context.color_range = self._unit, matrix, ColorRange.MPEG
        return stream
