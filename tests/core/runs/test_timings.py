import json
import time

from transeg.core.runs.run_folder import RunFolder
from transeg.core.runs.timings import add_seconds, time_step


def test_seconds_add_up_by_part_and_purpose(tmp_path):
    run = RunFolder(tmp_path)
    add_seconds(run, run, {"training": 2.0, "validation": 1.0})
    add_seconds(run, run.part("baseline/fold-1"), {"training": 5.0})
    add_seconds(run, run, {"training": 0.5})
    assert json.loads(run.times.read_text()) == {
        ".": {"training": 2.5, "validation": 1.0},
        "baseline/fold-1": {"training": 5.0},
    }


def test_what_fails_took_time_too(tmp_path):
    run = RunFolder(tmp_path)
    try:
        with time_step(run, run, "testing"):
            time.sleep(0.02)
            raise ValueError
    except ValueError:
        pass
    assert json.loads(run.times.read_text())["."]["testing"] >= 0.02
