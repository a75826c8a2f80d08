import json
import threading
import time
from collections import Counter
from io import StringIO

import pytest
from conftest import BOTH, command
from rich.console import Console

from transeg.core.files import read_json
from transeg.core.pipeline.shared_stages import shared_training
from transeg.core.runs.run_folder import RunFolder
from transeg.core.training.loop import TrainLoop

SHORT = ["train.iterations=5", "train.val_interval=5", "train.checkpoint_interval=2", "train.log_interval=1"]
TESTED = ["data.test.phantom.count=2", "data.source.count=6", "data.target.count=6"]


class Killed(BaseException):
    """As by a signal that nobody catches."""


@pytest.fixture
def trained(monkeypatch):
    """Iterations by the folder of the run and that of its stage; at ``kill``, a folder and an iteration, one ends."""
    done, original = Counter(), TrainLoop.run_iter

    def run_iter(loop, batch):
        folder = loop.runner.work_dir.rpartition("/runs/")[2]
        if trained.kill == (folder, loop.iter):
            raise Killed
        done[folder] += 1
        original(loop, batch)

    monkeypatch.setattr(TrainLoop, "run_iter", run_iter)
    trained.kill, trained.done = None, done
    return trained


def run(toolkit, tmp_path, name, *settings, options=()):
    more = [text for setting in (*SHORT, *TESTED, *settings) for text in ("--set", setting)]
    where = ["--run-dir", tmp_path / "runs" / name, "--shared", tmp_path / "stages", "--resume", "--device", "cpu"]
    toolkit(*command(BOTH, *options, *where, *more))
    return tmp_path / "runs" / name


def test_killed_taken_over_and_finished(toolkit, tmp_path, trained):
    """A baseline is that of all generators: it goes on where the first run was killed, and is not trained again."""
    baseline = ["--baseline", "source-only"]
    trained.kill = "a/baseline", 3
    with pytest.raises(Killed):
        run(toolkit, tmp_path, "a", options=baseline)
    trained.kill = None
    other = run(toolkit, tmp_path, "b", "generator.patches=4", options=baseline)
    assert trained.done == {"a": 5, "a/baseline": 3, "b": 5, "b/baseline": 3}  # from the checkpoint at 2 on
    lines = [json.loads(line)["iteration"] for line in (other / "baseline" / "metrics.jsonl").read_text().splitlines()]
    assert sorted(set(lines)) == [1, 2, 3, 4, 5]

    first = run(toolkit, tmp_path, "a", options=baseline)
    assert trained.done["a/baseline"] == 3, "the other run has trained the rest"
    spent = [read_json(folder / "times.json")["baseline"] for folder in (first, other)]
    assert spent[0]["validation"] == spent[1]["validation"]
    values = [read_json(folder / "metrics.json")["baseline"] for folder in (first, other)]
    assert values[0] == values[1]

    run(toolkit, tmp_path, "c", "seed=1", options=baseline)
    assert trained.done["c/baseline"] == 5


def test_a_generator_is_that_of_all_segmenters(toolkit, tmp_path, trained):
    options = ["--strategy", "sequential", "--baseline", "none"]
    run(toolkit, tmp_path, "a", options=options)
    run(toolkit, tmp_path, "b", "segmenter.base=8", options=options)
    assert trained.done == {"a/translation": 5, "a": 5, "b": 5}


def test_runs_that_differ_in_what_tests_adapt_share_every_training(toolkit, tmp_path, trained):
    """Also a segmenter that learns from what a generator has made, as the rungs sequential and sequential+bn do."""
    options = ["--strategy", "sequential", "--baseline", "none"]
    first = run(toolkit, tmp_path, "a", options=options)
    other = run(toolkit, tmp_path, "b", "test_adaptation=bn", options=options)
    assert trained.done == {"a/translation": 5, "a": 5}
    plain, adapted = (read_json(folder / "metrics.json") for folder in (first, other))
    assert plain["best_iteration"] == adapted["best_iteration"]
    assert plain["tests"] != adapted["tests"]


def test_two_at_once(tmp_path):
    """The second waits; the first, which has no checkpoint, is no one to go on from."""
    inside, seen, said = [], [], []

    def train(name):
        folder = RunFolder(tmp_path / name)
        console = Console(file=StringIO(), width=300)
        with shared_training(tmp_path / "stages", "key", folder, folder.part("baseline"), console):
            inside.append(name)
            seen.append(len(inside))
            time.sleep(0.2)
            inside.remove(name)
        said.append(console.file.getvalue())

    threads = [threading.Thread(target=train, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1, 1]
    assert sum(text.startswith("Waiting for another run") for text in said) == 1
