from fractions import Fraction

import av
import numpy as np
import pytest
from layouts import scene

from transeg.core.data.video_frames import VideoFile
from transeg.core.errors import TransegError
from transeg.core.inference.overlay_video import OverlayVideo


def written(path, times, unit, side=(49, 65)):
    with OverlayVideo(path, Fraction(25), unit) as video:
        for number, time in enumerate(times):
            video.add(scene(number, *side), time, 0)
    with VideoFile(path, "this") as file:
        return [(frame.seconds, frame.pixels()) for frame in file.frames()]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_frames_and_times_come_back(tmp_path, monkeypatch, codec):
    if codec == "mpeg4":
        monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    times = [0, 3000, 6003, 30000, 30900]
    found = written(tmp_path / "a.mp4", times, Fraction(1, 90000))
    assert [seconds for seconds, _ in found] == pytest.approx([time / 90000 for time in times], abs=1e-4)
    for number, (_, pixels) in enumerate(found):
        assert pixels.shape == (48, 64, 3)
        assert np.abs(pixels.astype(int) - scene(number, 49, 65)[:48, :64]).mean() < 20
    with av.open(str(tmp_path / "a.mp4")) as file:
        assert file.streams.video[0].codec_context.name == {"libx264": "h264"}.get(codec, codec)
        assert file.streams.video[0].pix_fmt == "yuv420p"


def test_a_size_that_changes_is_told(tmp_path):
    with OverlayVideo(tmp_path / "a.mp4", Fraction(25), Fraction(1, 25)) as video:
        video.add(scene(0), 0, 1)
        with pytest.raises(TransegError, match="cannot change its size"):
            video.add(scene(0, 20, 20), 1, 1)
