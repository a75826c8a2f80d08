"""`toolkit predict` on a video: outlines at the frames' own times, and a line for each frame and object."""

import av
import numpy as np
import pytest
from evaluations import read_rows
from layouts import scene, write_video
from PIL import Image

from transeg.core.api import video_prediction
from transeg.core.data.video_frames import VideoFile
from transeg.core.inference import overlay_video


@pytest.fixture
def scope(tmp_path):
    write_video(tmp_path / "scope.mp4", [scene(number) for number in range(20)])
    return tmp_path / "scope.mp4"


def frames(path):
    with VideoFile(path, "this") as file:
        return [(round(frame.seconds, 3), frame.pixels()) for frame in file.frames()], file.seconds


def there(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def said(result):
    return " ".join(result.stderr.split())


def test_every_frame_keeps_its_time(joint_run, toolkit, scope, tmp_path):
    out = tmp_path / "new" / "out.mp4"
    result = toolkit("predict", joint_run, scope, "-o", out)
    assert "20 frames in" in result.output
    (given, length), (made, made_length) = frames(scope), frames(out)
    assert [time for time, _ in made] == [time for time, _ in given]
    assert made_length == pytest.approx(length, abs=0.02)
    with av.open(str(out)) as file:
        assert file.streams.video[0].average_rate == 10
    table = read_rows(out.with_suffix(".csv"))
    assert [float(row["seconds"]) for row in table] == [time for time, _ in given]
    assert there(out.parent) == [".transeg-written.jsonl", "out.csv", "out.mp4", "out_objects.csv"]
    toolkit("predict", joint_run, scope, "-o", out)  # over what it has written itself
    Image.fromarray(given[7][1]).save(tmp_path / "frame.png")
    toolkit("predict", joint_run, tmp_path / "frame.png", "-o", tmp_path / "image")
    mask = np.asarray(Image.open(tmp_path / "image" / "masks" / "frame.png"))
    assert int(table[7]["area_polyp"]) == (mask > 0).sum()
    assert (int(table[7]["components_polyp"]) > 0) == (mask > 0).any()


def test_a_part_at_a_rate(joint_run, toolkit, scope, tmp_path):
    out = tmp_path / "out.mp4"
    toolkit("predict", joint_run, scope, "-o", out, "--fps", 5, "--from", 0.5, "--to", 1.5)
    assert [row["seconds"] for row in read_rows(tmp_path / "out.csv")] == ["0.500", "0.700", "0.900", "1.100", "1.300"]
    assert [time for time, _ in frames(out)[0]] == [0.0, 0.2, 0.4, 0.6, 0.8]


def moving(number):
    """What a network might find: a square that goes right, is not seen for a while, and another from frame 10 on."""
    mask = np.zeros((64, 96), dtype=np.int64)
    if number not in (5, 6):
        mask[30:50, 4 + number : 24 + number] = 1
    if number >= 10:
        mask[10:20, 10:30] = 1
    return mask


def test_objects_keep_their_numbers_over_frames(joint_run, toolkit, tmp_path, monkeypatch):
    """The networks of tests find noise, so something that moves is put in its place."""
    write_video(tmp_path / "scope.mkv", [np.full((64, 96, 3), 8 * number, np.uint8) for number in range(20)])
    numbers = iter(range(20))
    monkeypatch.setattr(video_prediction, "class_map", lambda _: moving(next(numbers)))
    result = toolkit("predict", joint_run, tmp_path / "scope.mkv", "-o", tmp_path / "out.mp4")
    assert str(tmp_path / "out_objects.csv") in result.stdout.replace("\n", "")
    found = read_rows(tmp_path / "out_objects.csv")
    first = [row for row in found if row["id"] == "1"]
    assert [int(row["frame"]) for row in first] == [*range(5), *range(7, 20)]
    assert [int(row["left"]) for row in first] == [4 + int(row["frame"]) for row in first]
    assert [int(row["frame"]) for row in found if row["id"] == "2"] == [*range(10, 20)]
    assert len(found) == 18 + 10
    assert first[7] == {
        "frame": "9",
        "seconds": "0.900",
        "id": "1",
        "class": "polyp",
        "area": "400",
        "centroid_x": "22.50",
        "centroid_y": "39.50",
        "left": "13",
        "top": "30",
        "width": "20",
        "height": "20",
    }
    pictures = [picture for _, picture in frames(tmp_path / "out.mp4")[0]]
    assert np.ptp(pictures[3][34:46, 14:20].max(2).astype(int)) > 60  # a number in the square, which is grey else
    assert np.ptp(pictures[5][34:46, 14:20].max(2).astype(int)) < 20


def test_each_component_of_each_frame_has_its_line(joint_run, toolkit, scope, tmp_path):
    toolkit("predict", joint_run, scope, "-o", tmp_path / "out.mp4")
    found = read_rows(tmp_path / "out_objects.csv")
    for number, frame in enumerate(read_rows(tmp_path / "out.csv")):
        here = [row for row in found if row["frame"] == str(number)]
        assert {row["seconds"] for row in here} <= {frame["seconds"]}
        assert len({row["id"] for row in here}) == len(here) == int(frame["components_polyp"])
        assert sum(int(row["area"]) for row in here) == int(frame["area_polyp"])
    numbers = [int(row["id"]) for row in found]
    assert sorted(set(numbers)) == list(range(1, max(numbers, default=0) + 1))


def test_nothing_is_written_over_or_left_half(joint_run, toolkit, scope, tmp_path, monkeypatch):
    (tmp_path / "mine.mp4").write_bytes(b"mine")
    (tmp_path / "other.csv").write_text("mine")
    (tmp_path / "third_objects.csv").write_text("mine")
    before = scope.read_bytes()
    for name, clause in (
        ("mine.mp4", "mine.mp4 is there already"),
        ("other.mp4", "other.csv is there already"),
        ("third.mp4", "third_objects.csv is there already"),
        ("scope.mp4", "is read, so nothing is written over it"),
    ):
        assert clause in said(toolkit("predict", joint_run, scope, "-o", tmp_path / name, code=2))
    assert (tmp_path / "mine.mp4").read_bytes() == b"mine"
    assert (tmp_path / "other.csv").read_text() == (tmp_path / "third_objects.csv").read_text() == "mine"
    assert scope.read_bytes() == before
    (tmp_path / "cut.mkv").write_bytes(b"")
    write_video(tmp_path / "whole.mkv", [scene(number) for number in range(60)])
    (tmp_path / "cut.mkv").write_bytes((tmp_path / "whole.mkv").read_bytes()[:12000])
    kept = there(tmp_path)
    assert "is damaged at" in said(
        toolkit("predict", joint_run, tmp_path / "cut.mkv", "-o", tmp_path / "o.mp4", code=1)
    )
    line = ["predict", joint_run, scope, "-o", tmp_path / "o.mp4"]
    assert "has no frame between" in said(toolkit(*line, "--from", 7, code=1))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(overlay_video.OverlayVideo, "add", killed)
        toolkit(*line, code=1)
    assert there(tmp_path) == kept


def test_options_that_do_not_fit_are_told(joint_run, toolkit, scope, tmp_path):
    for line, clause in (
        (["-o", tmp_path / "out"], "must be a file that ends in .mp4 or .mkv or .mov"),
        (["-o", tmp_path / "o.mp4", "--from", 2, "--to", 1], "--to 1 must be later than --from 2"),
        (["-o", tmp_path / "o.mp4", "--probabilities"], "--probabilities is for images, and"),
        (["-o", tmp_path / "o.mp4", "--count"], "--count is for images, and"),
    ):
        assert clause in said(toolkit("predict", joint_run, scope, *line, code=2))
    Image.fromarray(scene(0)).save(tmp_path / "a.png")
    line = ["predict", joint_run, tmp_path / "a.png", "-o", tmp_path / "o"]
    assert "--fps is for a video, and" in said(toolkit(*line, "--fps", 2, code=2))
