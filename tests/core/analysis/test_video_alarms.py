"""Videos drawn here, whose alarms and finds are counted by hand."""

import csv

import numpy as np
import pytest

from transeg.core.analysis.video_alarms import AlarmRule, VideoFindings, alarm_rule_from_options, judge_video
from transeg.core.analysis.video_tables import VideoAgreement
from transeg.core.errors import DataError, UsageError
from transeg.core.interfaces import IGNORE

RULE = AlarmRule(10, pixels=9, frames=3)


def frame(*squares, size=(24, 48)):
    """A label map of squares: top, left, side, and their class where it is not 1."""
    mask = np.zeros(size, dtype=np.uint8)
    for top, left, side, *label in squares:
        mask[top : top + side, left : left + side] = label[0] if label else 1
    return mask


NOTHING, SMALL, SQUARE, POLYP = frame(), frame((2, 2, 2)), frame((2, 2, 4)), frame((14, 30, 8))


def judge(*frames, label=1, rule=RULE):
    return judge_video(iter(frames), label, rule)


def test_nothing():
    assert judge() == VideoFindings()
    assert judge(*[(NOTHING, NOTHING)] * 5) == VideoFindings(frames=5, frames_without=5)


@pytest.mark.parametrize(
    ("seen", "alarms"),
    [
        ([SQUARE] * 3, 1),
        ([SQUARE] * 20, 1),  # one object, however long
        ([SQUARE] * 2, 0),
        ([SQUARE, SQUARE, NOTHING, SQUARE, SQUARE], 0),  # never three one after the other
        ([SQUARE] * 3 + [NOTHING] * 2 + [SQUARE] * 3, 1),  # the same again
        ([SQUARE] * 3 + [NOTHING] * 9 + [SQUARE] * 3, 2),
        ([SMALL] * 9, 0),  # four pixels
        ([frame((2, 2, 4), (2, 20, 4))] * 3, 2),
        ([frame((2, 2 + 2 * step, 4)) for step in range(6)], 1),  # it moves by half its width: 8 / 24 of the union
        ([frame((2, 2 + 3 * step, 4)) for step in range(6)], 0),  # 4 / 28: no longer one object
    ],
)
def test_alarms_where_nothing_is(seen, alarms):
    found = judge(*((mask, NOTHING) for mask in seen))
    assert found == VideoFindings(len(seen), len(seen), alarms, alarms)


def test_alarms_beside_a_polyp_are_apart():
    """Of six frames, four without a polyp: the alarm is there for two of them, the polyp, and the other two."""
    beside, alone = (SQUARE, POLYP), (SQUARE, NOTHING)
    assert judge(alone, alone, beside, beside, alone, alone) == VideoFindings(6, 4, 1, 0, 1, 0)
    assert judge(alone, alone, alone, beside) == VideoFindings(4, 3, 1, 1, 1, 0)
    assert judge(beside, beside, beside) == VideoFindings(3, 0, 1, 0, 1, 0)


def test_what_touches_the_truth_is_no_alarm_and_finds_it():
    corner = frame((8, 24, 7))  # one pixel of it is the polyp's
    assert (corner & POLYP).sum() == 1
    assert judge(*[(corner, POLYP)] * 4) == VideoFindings(4, 0, 0, 0, 1, 1)


def test_once_is_enough():
    assert judge((NOTHING, POLYP), (POLYP, POLYP), *[(NOTHING, POLYP)] * 20) == VideoFindings(22, 0, 0, 0, 1, 1)
    assert judge(*[(NOTHING, POLYP)] * 20) == VideoFindings(20, 0, 0, 0, 1, 0)
    tiny = frame((16, 33, 2))  # nobody would see it
    assert judge(*[(tiny, POLYP)] * 20).found == 0


def test_two_polyps_of_which_one_is_found():
    both = frame((14, 30, 8), (2, 2, 6))
    assert judge((SQUARE, both), (NOTHING, both)) == VideoFindings(2, 0, 0, 0, 2, 1)


def test_what_is_unknown_is_neither_alarm_nor_find():
    unknown = frame((0, 0, 10, IGNORE))
    assert judge(*[(SQUARE, unknown)] * 5) == VideoFindings(5, 5)


def test_classes_are_apart():
    """An instrument where a polyp is: no find of it, and an alarm."""
    instrument = frame((14, 30, 8, 2))
    assert judge(*[(instrument, POLYP)] * 3, label=1) == VideoFindings(3, 0, 0, 0, 1, 0)
    assert judge(*[(instrument, POLYP)] * 3, label=2) == VideoFindings(3, 3, 1, 1)


def filled(names=("background", "polyp")):
    """Two videos, the frames of the first out of order: in theirs, three with the square come one after the other."""
    videos = VideoAgreement(RULE, names)
    for number in (10, 2, 11, 1, 9, 3):
        videos.add(f"a/frame{number}", "a", SQUARE if number >= 9 else NOTHING, NOTHING)
    for number in range(4):
        videos.add(f"b/frame{number}", "b", POLYP, POLYP)
    return videos


def test_summary_and_table(tmp_path):
    videos = filled()
    assert videos.summary() == {
        "frames_per_second": 10,
        "alarm_pixels": 9,
        "alarm_frames": 3,
        "videos": 2,
        "classes": {
            "polyp": {
                "frames": 10,
                "minutes_without": pytest.approx(0.01),
                "false_alarms_without": 1,
                "false_alarms_per_minute": pytest.approx(100),
                "false_alarms": 1,
                "objects": 1,
                "found": 1,
                "found_share": 1,
            }
        },
    }
    videos.write(tmp_path, "set")
    with (tmp_path / "set.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["video"], first["class"], first["frames"]) == ("a", "polyp", "6")
    assert (first["false_alarms_per_minute"], first["objects"], first["found_share"]) == ("100.0", "0", "")
    assert (second["video"], second["false_alarms_per_minute"], second["found_share"]) == ("b", "", "1.0")


def test_a_class_that_is_nowhere_has_its_line():
    found = filled(("background", "polyp", "instrument")).summary()["classes"]
    assert found["polyp"]["found"] == 1
    assert (found["instrument"]["objects"], found["instrument"]["false_alarms_per_minute"]) == (0, 0)


def test_frames_of_two_sizes_are_no_video():
    videos = filled()
    other = frame(size=(24, 50))
    with pytest.raises(DataError, match="b/frame4 has 50x24 pixels, but other frames of the video b have 48x24"):
        videos.add("b/frame4", "b", other, other)
    videos.add("c/frame0", "c", other, other)


def test_options():
    assert alarm_rule_from_options(None, None, None) is None
    assert alarm_rule_from_options(25, None, 7) == AlarmRule(25, 100, 7)
    with pytest.raises(UsageError, match="--alarm-frames is for videos; say their --frames-per-second, too"):
        alarm_rule_from_options(None, None, 7)
    for given in (
        (0, None, None),
        (25, 0, None),
        (25, None, -1),
        (float("nan"), None, None),
        (float("inf"), None, None),
    ):
        with pytest.raises(UsageError, match="must be a number above zero"):
            alarm_rule_from_options(*given)
