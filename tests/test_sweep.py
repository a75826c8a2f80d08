"""A sweep from the command line to its leaderboard, in processes of its own; killed on the way."""

import csv
import json
import signal
import subprocess
import sys
import time

import pytest
from conftest import TINY_TRAINING

from transeg.tools.sweep.sweep_folder import read_sweep

DATA = ["data.size=32", "data.source.count=10", "data.source.side=32"]
TEST = ["data.test.phantom.count=30", "data.test.phantom.side=32"]
LONG = ["train.iterations=40", "train.batch_size=2", "train.checkpoint_interval=5", "train.log_interval=1"]
NAMES = ["--segmenter", "unet", "--segmenter", "resunet", "--seed", "0", "--seed", "1"]

BROKEN = '''
from torch import nn
from transeg.core.interfaces import Segmenter


class Broken(Segmenter):
    """Nothing comes out of it while it is trained."""

    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.layer = nn.Conv2d(in_channels, num_classes, 1)

    def forward(self, image):
        if self.training:
            raise MemoryError("there is no room")
        return self.layer(image)
'''
MANIFEST = """
[plugin]
contract = 1
[segmenter.broken]
entry = "broken.py:Broken"
summary = "Fails when it is trained."
"""


def start(folder, *options):
    line = [sys.executable, "-m", "transeg", "sweep", *map(str, (folder, *options))]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def noted(cell):
    path = cell.folder.scalars
    return len(path.read_text().splitlines()) if path.exists() else 0


def wait_for(process, condition):
    deadline = time.monotonic() + 200
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < deadline


@pytest.mark.slow
def test_killed_twice_and_finished(tmp_path):
    """First without warning, then by Ctrl-C; what is done stays, and what was begun goes on from its checkpoint."""
    folder = tmp_path / "sweep"
    options = [*NAMES, "--set", *DATA, *TEST, *LONG]
    process = start(folder, *options)
    wait_for(process, lambda: (folder / "sweep.toml").exists())
    cells = read_sweep(folder).cells
    wait_for(process, lambda: noted(cells[0]) > 8)
    process.kill()
    process.communicate()

    process = start(folder, *options)  # at once: the orphan may still be writing its checkpoint
    wait_for(process, lambda: cells[0].state() == "done" and noted(cells[1]) > 8)
    done = {path: path.stat().st_mtime_ns for path in cells[0].folder.path.rglob("*") if path.name[0] != "."}
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"Stopped. Go on with: toolkit sweep {folder}" in " ".join(said.split())
    assert [cell.state() for cell in cells] == ["done", "waiting", "waiting", "waiting"]
    assert cells[1].folder.last.exists()

    process = start(folder)
    output, said = process.communicate(timeout=400)
    assert process.returncode == 0, said
    assert [cell.state() for cell in cells] == ["done"] * 4
    assert done == {path: path.stat().st_mtime_ns for path in done}  # nothing is trained or tested twice
    begun = [line.split()[0] for line in said.splitlines() if line.endswith("begins")]
    assert begun == ["unet_seed1", "resunet_seed0", "resunet_seed1"]
    lines = [json.loads(line)["iteration"] for line in cells[1].folder.scalars.read_text().splitlines()]
    assert lines == sorted(lines)
    assert lines[-1] == 40

    found = json.loads((folder / "results.json").read_text())
    rows = found["leaderboard"]["tests"]["phantom"]["metrics"]["dice"]["rows"]
    assert {row["entry"]: row["runs"] for row in rows} == {"unet": 2, "resunet": 2}
    for row in rows:
        runs = [cell for cell in cells if cell.combination == row["entry"]]
        dice = [json.loads(cell.folder.metrics.read_text())["tests"]["phantom"]["dice"] for cell in runs]
        assert row["mean"] == pytest.approx(sum(dice) / 2, abs=1e-5)
        assert f"{row['mean']:.3f}" in output
    with (folder / "sweep.csv").open() as file:
        assert {line["entry"] for line in csv.DictReader(file)} == {"unet", "resunet"}


@pytest.mark.slow
def test_a_cell_that_fails_leaves_the_others_alone(tmp_path):
    (tmp_path / "broken.py").write_text(BROKEN)
    (tmp_path / "mine.toml").write_text(MANIFEST)
    options = ["--registry", tmp_path / "mine.toml", "--segmenter", "broken", "--segmenter", "unet"]
    process = start(tmp_path / "s", *options, "--jobs", 2, "--json", "--set", *DATA, *TINY_TRAINING, *TEST)
    output, said = process.communicate(timeout=200)
    assert process.returncode == 1, said
    assert "failed broken: MemoryError: there is no room" in " ".join(said.split())
    assert "Traceback" not in said
    states = {cell["name"]: cell["state"] for cell in json.loads(output)["cells"]}
    assert states == {"broken": "failed", "unet": "done"}
