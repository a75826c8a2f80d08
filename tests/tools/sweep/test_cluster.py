"""Sweeps in jobs: with submitit's local executor, and on a Slurm of one node where one runs."""

import io
import json
import shutil
import subprocess
import sys

import pytest
from filelock import FileLock
from rich.console import Console

from transeg.core.errors import UsageError
from transeg.core.registry import Registry
from transeg.tools.common.scheduler import Cluster, cluster_from_options
from transeg.tools.sweep import cluster as module
from transeg.tools.sweep.execution import pick_places
from transeg.tools.sweep.sweep_folder import read_sweep

pytest.importorskip("submitit")
TINY = ["segmenter.base=4", "data.size=32", "data.source.side=32", "data.source.count=10", "train.iterations=2"]
TINY += ["data.test.phantom.count=2", "data.test.phantom.side=32"]
SWEEP = ["--segmenter", "unet", "--seed", "0", "--seed", "1", "--test", "phantom:scope", "--set", *TINY]


def sweep(folder, *options):
    line = [sys.executable, "-m", "transeg", "sweep", str(folder), *options]
    return subprocess.run(line, capture_output=True, text=True, timeout=500)


def slurm_is_up():
    return shutil.which("sinfo") is not None and subprocess.run(["sinfo"], capture_output=True).returncode == 0


@pytest.mark.parametrize("cluster", ["local", "slurm"])
def test_cells_are_trained_in_jobs_and_come_back_into_the_table(tmp_path, cluster):
    if cluster == "slurm" and not slurm_is_up():  # asked here, not while tests are collected: it waits for an answer
        pytest.skip("needs a running Slurm")
    # no training survives the second rate: a failed cell stops no other
    axis = ["--axis", "train.lr=1e-3,1e30", "--set", "train.iterations=4", "--set", "train.log_interval=1"]
    done = sweep(tmp_path / "s", *SWEEP[:4], *SWEEP[6:], *axis, "--cluster", cluster, "--jobs", "2", "--json")
    assert done.returncode == 1, done.stderr
    cells = read_sweep(tmp_path / "s").cells
    assert [cell.state() for cell in cells] == ["done", "failed"]
    assert "finite" in cells[1].reason()
    assert "2 jobs of" in done.stderr
    assert list((tmp_path / "s" / "jobs").glob("*.out"))
    assert json.loads(done.stdout)["cells"][0]["state"] == "done"


def test_options_of_jobs():
    assert cluster_from_options(None, ()) is None
    found = cluster_from_options("slurm", ("partition=gpu", "gpus_per_node=1", "time=240"))
    assert found == Cluster("slurm", {"partition": "gpu", "gpus_per_node": "1", "time": "240"})
    for options, said in (
        (("partitoin=gpu",), "no such option of a job. Did you mean 'partition'"),
        (("partition",), "not of the form NAME=VALUE"),
        (("time=4:00:00",), "must be a number of minutes"),
    ):
        with pytest.raises(UsageError, match=said):
            cluster_from_options("slurm", options)
    with pytest.raises(UsageError, match="say --cluster slurm, too"):
        cluster_from_options(None, ("partition=gpu",))


def test_cells_that_jobs_of_before_train_are_watched_and_not_submitted_again(tmp_path, monkeypatch):
    (tmp_path / "sweep.toml").write_text("[sweep]\nseed = [0]")
    made = read_sweep(tmp_path)
    (cell,) = made.cells
    cell.folder.path.mkdir(parents=True)
    claim = FileLock(cell.claim)
    claim.acquire()

    def finish(_seconds):
        cell.folder.metrics.write_text("{}")
        claim.release()

    monkeypatch.setattr(module.time, "sleep", finish)
    monkeypatch.setattr(module, "_submit", lambda *_: pytest.fail("submitted"))
    out = Console(file=io.StringIO())
    module.run_on_cluster(made, Registry(), out, Cluster("slurm", {}), device="cpu", workers=2, retry=False)
    assert cell.state() == "done"


def test_jobs_compute_on_what_they_ask_for():
    assert pick_places([], {}, Cluster("slurm", {"partition": "main"})) == ["cpu"]
    assert pick_places([], {}, Cluster("slurm", {"gpus_per_node": "1"})) == ["cuda"]  # which is not looked for here
    assert pick_places(["cuda:1"], {}, Cluster("slurm", {})) == ["cuda:1"]
    with pytest.raises(UsageError, match="no device"):
        pick_places(["gpu"], {}, Cluster("slurm", {}))
