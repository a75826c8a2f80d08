"""Following a run from another terminal."""

import json
import shutil
import signal
import subprocess
import sys
from io import StringIO

import pytest
from conftest import SUPERVISED, command
from filelock import FileLock
from rich.console import Console

from transeg.core.registry import Registry
from transeg.tools.watch.command import _view, sparkline
from transeg.tools.watch.run_progress import read_progress

RUN = command((SUPERVISED[0], [*SUPERVISED[1], "train.iterations=3", "train.log_interval=1"]))


def watching(folder, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "transeg", "watch", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


@pytest.fixture
def begun(joint_run, tmp_path):
    """A run in the middle of its first training, locked as by the process that trains."""
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(joint_run / "experiment.toml", run)
    lines = [
        {"iteration": 1, "train/dice": 0.9, "lr/segmenter": 1e-3, "seconds_per_iteration": 2.0},
        {"iteration": 1, "val/dice": 0.25},
        {"iteration": 2, "train/dice": 0.5, "lr/segmenter": 1e-4, "seconds_per_iteration": 4.0},
        {"iteration": 2, "val/dice": 0.2},
    ]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"iterat')
    (run / "times.json").write_text(json.dumps({".": {"training": 5.0, "waiting for data": 1.0, "validation": 3.0}}))
    (run / "previews").mkdir()
    (run / "previews" / "000002.png").touch()
    return run


def test_how_far_a_run_is(begun):
    assert read_progress(begun, Registry()).state == "stopped"
    with FileLock(begun / ".lock"):
        progress = read_progress(begun, Registry())
    assert progress.state == "running"
    assert [stage.title for stage in progress.stages] == ["generator and segmenter", "source-only baseline"]
    stage = progress.current
    assert (stage.done, stage.total) == (2, 3)
    assert stage.losses == {"dice": [0.9, 0.5]}
    assert stage.rates == {"segmenter": 1e-4}
    assert stage.best == (1, 0.25)
    assert progress.batch_size == 2
    assert stage.seconds_per_iteration == 3
    assert stage.left == pytest.approx(3 * 1 * (1 + 3 / 6))  # one iteration, and half as long again for validation
    assert stage.preview.name == "000002.png"


def test_images_are_those_of_a_whole_step(begun):
    path = begun / "experiment.toml"
    text = path.read_text().replace("accumulation = 1", "accumulation = 3").replace("devices = 1", "devices = 2")
    path.write_text(text)
    assert read_progress(begun, Registry()).batch_size == 2 * 3 * 2


def test_what_is_not_there_yet(tmp_path):
    assert read_progress(tmp_path / "later", Registry()).state == "not begun"
    assert read_progress(tmp_path, Registry()).current is None


@pytest.mark.parametrize("width", [30, 60, 120])
def test_the_view_fits_the_terminal(begun, width):
    console = Console(width=width, record=True, file=StringIO())
    with FileLock(begun / ".lock"):
        console.print(_view(begun, read_progress(begun, Registry()), width))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    for words in ("2/3", "dice", "0.5", "left", "000002.png"):
        assert words in "".join(text.split()), words


def test_sparklines():
    assert sparkline([0, 1], 10) == "▁█"
    assert sparkline([1, 1, 1], 10) == "▁▁▁"
    assert sparkline([0, 1, float("nan"), float("inf")], 10) == "▁█  "
    assert sparkline([float("nan")], 10) == " "
    assert sparkline(list(range(100)), 8) == "▁▂▃▄▅▆▇█"


def test_a_finished_run_is_shown_and_left(joint_run, toolkit):
    result = toolkit("watch", joint_run)
    assert "source-only baseline: 3/3" in result.output
    assert "The run has finished" in result.output
    assert f"toolkit report {joint_run}" in result.output


def test_a_stopped_run_says_how_to_go_on(begun, toolkit):
    result = toolkit("watch", begun, code=1)
    assert "generator and segmenter: 2/3" in result.output
    assert f"toolkit run --run-dir {begun} --resume" in result.output


def test_a_run_is_awaited_followed_and_left_alone(toolkit, tmp_path):
    """One who watches from before the beginning sees the end; one who leaves with Ctrl-C disturbs nothing."""
    run = tmp_path / "run"
    follower, leaver = watching(run), watching(run)
    assert "waiting for a run to begin" in follower.stdout.readline()
    assert "waiting for a run to begin" in leaver.stdout.readline()
    leaver.send_signal(signal.SIGINT)
    output, _ = leaver.communicate(timeout=30)
    assert leaver.returncode == 0
    assert "left alone" in output
    toolkit(*RUN, "--run-dir", run)
    output, _ = follower.communicate(timeout=30)
    assert follower.returncode == 0, output
    assert "segmenter: 3/3" in output
    assert "The run has finished" in output


def test_bad_input_gets_a_sentence(toolkit, tmp_path):
    (tmp_path / "file").touch()
    assert "is a file" in toolkit("watch", tmp_path / "file", code=2).output
    (tmp_path / "cells" / "one").mkdir(parents=True)
    (tmp_path / "cells" / "one" / "experiment.toml").touch()
    assert "holds runs but is not one" in toolkit("watch", tmp_path, code=2).output
    (tmp_path / "experiment.toml").write_text("[")
    assert "experiment.toml" in toolkit("watch", tmp_path, code=2).output
