"""`toolkit evaluate --frames-per-second` on a folder of labelled frames, in a subfolder for each video."""

import json

import numpy as np
import pytest
from evaluations import read_rows
from layouts import scene
from PIL import Image

import transeg

HEAD = ["--frames-per-second", 10, "--alarm-pixels", 1, "--alarm-frames", 2]


@pytest.fixture
def frames(tmp_path):
    """Two videos of twelve frames; a polyp is in the last half of the second."""
    for video in ("ward1", "ward2"):
        for number in range(12):
            mask = np.zeros((48, 64), np.uint8)
            if video == "ward2" and number >= 6:
                mask[20:40, 30:50] = 255
            for kind, pixels in (("images", scene(number)), ("masks", mask)):
                path = tmp_path / "labelled" / kind / video / f"{video}_frame{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return tmp_path / "labelled"


def said(result):
    return " ".join((result.stdout + result.stderr).split())


def test_alarms_and_finds(joint_run, toolkit, frames, tmp_path):
    line = ["evaluate", joint_run, "--test", f"folder:{frames}", "-o", tmp_path / "out"]
    found = json.loads(toolkit(*line, *HEAD, "--json").stdout)["tests"]["labelled"]
    videos, polyp = found["videos"], found["videos"]["classes"]["polyp"]
    assert (videos["videos"], videos["frames_per_second"], videos["alarm_frames"]) == (2, 10, 2)
    assert (polyp["frames"], polyp["objects"]) == (24, 1)
    assert polyp["minutes_without"] == pytest.approx(18 / 10 / 60)
    rows = read_rows(tmp_path / "out" / "videos" / "labelled.csv")
    assert [(row["video"], row["objects"]) for row in rows] == [("ward1", "0"), ("ward2", "1")]
    assert sum(int(row["false_alarms"]) for row in rows) == polyp["false_alarms"]
    text = said(toolkit(*line, *HEAD))
    assert "false alarms per minute without polyp" in text
    assert f"{polyp['found']} of 1 found at least once." in text
    toolkit("compare", tmp_path / "out", tmp_path / "out")  # the new file is not taken for a test set
    same = transeg.evaluate(
        joint_run, f"folder:{frames}", out=tmp_path / "py", frames_per_second=10, alarm_pixels=1, alarm_frames=2
    )
    assert same["tests"]["labelled"]["videos"] == videos
    assert "videos" not in transeg.evaluate(joint_run, f"folder:{frames}", out=tmp_path / "none")["tests"]["labelled"]


def test_the_default_alarm_is_said(joint_run, toolkit, frames, tmp_path):
    line = ["evaluate", joint_run, "--test", f"folder:{frames}", "-o", tmp_path, "--frames-per-second", 25]
    assert "of 100 pixels for 5 frames in 0.01 minutes" in said(toolkit(*line))


def test_a_frame_that_cannot_be_read_stops(joint_run, toolkit, frames, tmp_path):
    """Without it, frames would count as one after the other that are not."""
    (frames / "images" / "ward1" / "ward1_frame3.png").write_bytes(b"\x89PNG")
    line = ["evaluate", joint_run, "--test", f"folder:{frames}", "-o"]
    assert "ward1_frame3.png" in said(toolkit(*line, tmp_path / "out", *HEAD, code=1))
    assert not list(tmp_path.glob("out/**/*.csv"))
    assert "ward1_frame3.png" in said(toolkit(*line, tmp_path / "rest", code=1))
    assert (tmp_path / "rest" / "labelled.csv").exists()  # else the others are measured all the same


def test_what_makes_no_sense_is_told(joint_run, toolkit, frames, tmp_path):
    line = ["evaluate", joint_run, "-o", tmp_path / "out", "--test"]
    flat = tmp_path / "flat"
    for kind in ("images", "masks"):
        (flat / kind).mkdir(parents=True)
        for path in (frames / kind / "ward1").iterdir():
            path.rename(flat / kind / path.name)
    assert "each image of flat is a group of its own, but groups must be videos" in said(
        toolkit(*line, f"folder:{flat}", *HEAD, code=2)
    )
    toolkit(*line, f"folder:{flat}", *HEAD, "--set", r"group=ward\d")
    assert "--alarm-pixels is for videos; say their --frames-per-second, too." in said(
        toolkit(*line, f"folder:{flat}", "--alarm-pixels", 4, code=2)
    )
