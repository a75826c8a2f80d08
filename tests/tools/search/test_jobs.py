"""Searches in jobs: with submitit's local executor, and what is refused or said without one."""

import io
import json
import pickle
import subprocess
import sys
from types import SimpleNamespace

import optuna
import pytest
from rich.console import Console

from transeg.core.errors import TransegError, UsageError
from transeg.core.registry import Registry
from transeg.tools.common.scheduler import Cluster
from transeg.tools.search import jobs as module
from transeg.tools.search.job import SearchWorker
from transeg.tools.search.jobs import STORAGE, Jobs, jobs_from_options, run_jobs
from transeg.tools.search.plan import Plan, SearchFolder
from transeg.tools.search.space import Range
from transeg.tools.search.storage import open_storage, redact_url, storage_url
from transeg.tools.search.study_options import StudyOptions

pytest.importorskip("submitit")
TINY = ["segmenter.base=2", "data.size=32", "data.source.side=32", "data.source.count=10", "train.iterations=2"]
SEARCH = ["--segmenter", "unet", "--space", "train.lr=1e-4..1e-1:log", "--trials", "2", "--device", "cpu"]


@pytest.mark.slow  # two more interpreters that import PyTorch
def test_trials_are_trained_in_jobs_and_come_back_into_the_table(tmp_path):
    line = [sys.executable, "-m", "transeg", "search", "--search-dir", str(tmp_path / "s"), *SEARCH, "--set", *TINY]
    line += ["--cluster", "local", "--json"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "1 job of local" in done.stderr
    assert json.loads(done.stdout)["counts"]["complete"] == 2
    assert (tmp_path / "s" / "best.toml").exists()
    assert "trial 1: dice" in "".join(path.read_text() for path in (tmp_path / "s" / "jobs").glob("*.err"))


def made_plan(folder, storage=""):
    url = storage_url(storage, folder)
    options = StudyOptions(name="s", trials=2, storage=storage and redact_url(url))
    return Plan({"device": "cpu"}, {"x": Range(0.0, 1.0)}, options, SearchFolder(folder), url)


def test_options_of_jobs(tmp_path):
    assert jobs_from_options(None, (), None, device=None, timeout=None) is None
    asked = ("gpus_per_node=1",)
    jobs = jobs_from_options("slurm", asked, 4, device=None, timeout=60.0)
    assert jobs == Jobs(Cluster("slurm", {"gpus_per_node": "1"}), 4, "cuda", 60.0)
    with pytest.raises(UsageError, match="--jobs is for a scheduler"):
        jobs_from_options(None, (), 4, device=None, timeout=None)
    with pytest.raises(UsageError, match="needs a database that all its machines reach"):
        jobs.fitted(made_plan(tmp_path))
    assert Jobs(Cluster("local", {}), 1, "cpu", None).fitted(made_plan(tmp_path)).settings == {}


def test_the_password_of_the_database_is_inherited_by_jobs_and_written_nowhere(tmp_path, monkeypatch):
    submitted = []

    def submit(_cluster, worker, count, _logs):
        submitted.append((pickle.dumps(worker), count))
        raise TransegError("no more is wanted here")

    monkeypatch.setattr(module, "submit", submit)
    monkeypatch.setenv(STORAGE, "")
    address = f"sqlite:///{tmp_path}/study.db?password=secret"
    study = SimpleNamespace(get_trials=lambda **_: [])
    jobs = Jobs(Cluster("slurm", {}), 5, "cpu", None)
    with pytest.raises(TransegError, match="no more is wanted"):
        run_jobs(made_plan(tmp_path, address), study, jobs, Registry(), Console(file=io.StringIO()))
    ((stored, count),) = submitted
    assert count == 2  # no more jobs than trials
    assert b"secret" not in stored
    assert module.os.environ[STORAGE] == address


def test_a_job_whose_time_is_almost_up_ends_its_worker_and_is_queued_again(tmp_path):
    worker = SearchWorker(tmp_path, [], "cpu", None)
    worker._process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    again = worker.checkpoint()
    assert worker._process.returncode < 0
    assert again.function == SearchWorker(tmp_path, [], "cpu", None)


def test_a_search_whose_jobs_have_ended_too_early_says_so(tmp_path, monkeypatch):
    job = SimpleNamespace(job_id="7", done=lambda: True, paths=SimpleNamespace(result_pickle=tmp_path / "none"))
    monkeypatch.setattr(module, "submit", lambda *_: [job])
    plan = made_plan(tmp_path)
    study = optuna.create_study(storage=open_storage(plan.storage), study_name="s")
    with pytest.raises(TransegError, match="2 trials of the search must be trained yet"):
        run_jobs(plan, study, Jobs(Cluster("local", {}), 1, "cpu", None), Registry(), Console(file=io.StringIO()))
