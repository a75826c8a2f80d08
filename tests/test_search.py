"""`toolkit search` on the phantom: what it writes, what it refuses, and what becomes of interruptions."""

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import optuna
import pytest
import torch
from rich.console import Console
from servers import Fork

from transeg.core.inference.trained_model import TrainedModel
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.tools.search import storage, study, worker
from transeg.tools.search.command import _show_found as show
from transeg.tools.search.plan import SearchFolder
from transeg.tools.search.presets import PRESETS
from transeg.tools.search.trial import Objective

EXPERIMENT = """
[segmenter]
name = "unet"
base = 2
[loss]
name = "dice"
[data]
size = 32
[data.source]
name = "phantom"
count = 10
side = 32
[data.test.phantom]
count = 10
side = 32
[train]
iterations = {iterations}
batch_size = 2
val_interval = {interval}
checkpoint_interval = 2
log_interval = 1
"""
LR = '"train.lr" = {low = 1e-4, high = 1e-1, log = true}'


def write(path, search=LR, iterations=4, interval=2):
    path.write_text(EXPERIMENT.format(iterations=iterations, interval=interval) + f"[search]\n{search}\n")
    return path


def search(toolkit, folder, *more, code=0, **experiment):
    config = folder.parent / f"{folder.name}.toml"
    if not config.exists():
        write(config, **experiment)
    return toolkit("search", "--config", config, "--search-dir", folder, *more, code=code)


def trials(folder, name=None):
    url = f"sqlite:///{folder}/study.db"
    return optuna.load_study(study_name=name or folder.name, storage=url).trials


def words(text):
    """Without the line ends that a width of 80 brings."""
    return " ".join(text.split())


@pytest.fixture(scope="module")
def finished(tmp_path_factory, toolkit):
    """A search of three trials over a component, its option and a rate."""
    folder = tmp_path_factory.mktemp("searches") / "mine"
    space = f'{LR}\n"segmenter" = ["unet", "resunet"]\n"segmenter.base" = [2, 4]'
    result = search(toolkit, folder, "--trials", 3, "--pruner", "none", "--test-best", "--json", search=space)
    return folder, json.loads(result.stdout)


def test_a_search_leaves_runs_a_table_pictures_and_the_best_experiment(finished):
    folder, found = finished
    assert found["counts"]["complete"] == 3
    values = [row["value"] for row in found["trials"]]
    assert values == sorted(values, reverse=True)
    assert found["best"] == found["trials"][0]
    for row in found["trials"]:
        run = folder / "trials" / f"{row['number']:04d}"
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert row["value"] == max(line["val/dice"] for line in lines if "val/dice" in line)
        experiment = tomllib.loads((run / "experiment.toml").read_text())
        assert experiment["train"]["lr"] == row["options"]["train.lr"]
        assert experiment["segmenter"]["name"] == row["options"]["segmenter"]
        assert experiment["segmenter"]["base"] == row["options"]["segmenter.base"]
        assert [path.name for path in (run / "checkpoints").iterdir()] == ["best.pt"]
        assert json.loads((run / "metrics.json").read_text())["tests"] == {}
    assert sum(found["importances"].values()) == pytest.approx(1)
    for name in ("history.png", "importances.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_the_best_alone_is_tested(finished):
    folder, found = finished
    tested = [path.parent.name for path in (folder / "trials").glob("*/evaluations")]
    assert tested == [f"{found['best']['number']:04d}"]
    assert found["tests"]["phantom"]["images"] == 2


def test_the_best_experiment_runs_to_the_same_network(finished, toolkit, tmp_path):
    folder, found = finished
    best = tomllib.loads((folder / "best.toml").read_text())
    assert best["data"]["test"]["phantom"]["side"] == 32
    toolkit("run", "--config", folder / "best.toml", "--run-dir", tmp_path / "run")
    paths = [tmp_path / "run", folder / "trials" / f"{found['best']['number']:04d}"]
    one, other = (torch.load(p / "checkpoints" / "best.pt", weights_only=True)["model"] for p in paths)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_folder_alone_goes_on_and_shows(finished, toolkit):
    folder, found = finished
    again = json.loads(toolkit("search", "--search-dir", folder, "--show", "--json").stdout)
    assert again["trials"] == found["trials"]
    shown = toolkit("search", "--search-dir", folder, "--show").stdout
    assert f"{found['best']['value']:.4f}" in shown
    more = json.loads(toolkit("search", "--search-dir", folder, "--trials", 4, "--json").stdout)
    assert more["counts"]["complete"] == 4


@pytest.mark.parametrize("width", [60, 80, 120])
def test_tables_break_lines_between_options(width):
    """Published spaces have names of fifty characters; a number that is cut in two is another number."""
    options = dict.fromkeys(PRESETS["zh320"].space, -0.123456)
    row = {"number": 0, "value": 0.5, "state": "complete", "options": options, "failure": None}
    found = {"metric": "dice", "trials": [row], "counts": {"complete": 1}, "importances": {}, "best": None, "files": []}
    console = Console(file=io.StringIO(), width=width)
    show(found, console)
    shown = console.file.getvalue()
    assert max(map(len, shown.splitlines())) <= width
    numbers = re.findall(r"(\S+)=-0.1235,?(?=\s)", shown)
    assert len(numbers) == len(options)
    assert all(full.endswith(name.removeprefix("…")) for name, full in zip(numbers, options, strict=True))
    assert (numbers == list(options)) == (width == 120)


def test_a_run_leaves_the_search_alone(tmp_path, toolkit):
    plan = toolkit("run", "--config", write(tmp_path / "s.toml"), "--dry-run")
    assert "is for `toolkit search`" in words(plan.stderr)
    assert "4 iterations" in plan.stdout


def test_what_is_not_worth_going_on_with_is_stopped(tmp_path, toolkit, monkeypatch):
    class StopsTheSecond(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return trial.number == 1

    monkeypatch.setattr(study, "build_pruner", lambda *_: StopsTheSecond())
    folder = tmp_path / "s"
    result = search(toolkit, folder, "--sampler", "grid", search="seed = [0, 1, 2]", iterations=6)
    states = [trial.state.name for trial in trials(folder)]
    assert states == ["COMPLETE", "PRUNED", "COMPLETE"]  # every combination, and no more
    assert "trial 1: stopped at iteration 2" in result.stderr
    assert "2 complete, 1 pruned" in result.stdout
    stopped = folder / "trials" / "0001"
    assert max(json.loads(line)["iteration"] for line in (stopped / "metrics.jsonl").read_text().splitlines()) == 2
    assert not list(stopped.glob("checkpoints/*"))
    assert not (stopped / "metrics.json").exists()


def test_trials_that_fail_are_told_and_cost_no_search(tmp_path, toolkit):
    """A rate beyond all bounds makes losses that are no numbers; so does, once, a fault."""
    folder = tmp_path / "s"
    space = '"train.lr" = [1e-3, 1e35]'
    result = search(toolkit, folder, "--sampler", "grid", "--pruner", "none", search=space)
    assert "1 complete, 1 failed" in result.stdout
    assert "is not a finite number at iteration" in words(result.stdout)
    assert "Go on with: toolkit run" not in result.stdout
    assert (folder / "best.toml").exists()


def test_a_search_in_which_all_fails_ends(tmp_path, toolkit, monkeypatch):
    def fail(self, trial):
        raise MemoryError("no room")

    monkeypatch.setattr(Objective, "__call__", fail)
    monkeypatch.setattr(worker, "HOPELESS", 3)
    result = search(toolkit, tmp_path / "s", code=1)
    assert "All of 3 trials have failed, the last one because: MemoryError: no room" in words(result.stderr)


def test_a_study_goes_on_with_what_it_was_begun_with(finished, toolkit, tmp_path):
    folder, _ = finished
    for options, said in (
        (["--set", "data.size=64"], "data.size is 32 there and 64 here"),
        (["--space", "train.lr=1..2"], "the space of train.lr is"),
        (["--metric", "iou"], "the metric is dice there and iou here"),
        (["--set", "data.source.count=20"], "data.source.count is 10 there and 20 here"),
    ):
        assert said in words(toolkit("search", "--search-dir", folder, *options, code=2).stderr)
    other = tmp_path / "other"
    (other / "trials").mkdir(parents=True)
    assert "no study other is known" in words(search(toolkit, other, "--trials", 1, code=2).stderr)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "There is nothing to search"),
        (["--preset", "zh321"], "There is no published space 'zh321'. Did you mean 'zh320'?"),
        (["--preset", "zh320", "--sampler", "grid"], "has no end of values"),
        (["--space", "train.lr=1..2", "--set", "search.study.smapler=tpe"], "There is no option search.study.smapler"),
        (["--space", "train.lr=1..2", "--set", "search.study.trials=0"], "search.study.trials cannot be 0"),
        (["--space", "train.lr=1..2", "--set", "search=3"], "[search] and [search.study] must be tables"),
        (["--space", "train.lr=1..2", "--set", "folds=2"], "leave folds out"),
        (["--space", "train.lr=1..2", "--set", "data.source.split=all"], "no validation images to judge trials by"),
        (["--space", "train.lr=1..2", "--storage", "nowhere"], "not the address of a database"),
        (["--space", "train.lr=1..2", "--storage", "foo://x"], "There is no driver for foo://x"),
        (["--space", "train.lr=1..2", "--storage", "postgresql://u:secret@localhost:1/x"], "cannot be used"),
        (["--space", "train.lr=1..2", "--set", "search.study.storage='mysql://u:p@h/d'"], "no password belongs"),
    ],
)
def test_what_cannot_be_searched_gets_a_sentence(options, said, tmp_path, toolkit):
    base = ["--segmenter", "unet", "--set", "data.source.count=10", "--search-dir", tmp_path / "s"]
    result = toolkit("search", *base, *options, code=1 if said == "cannot be used" else 2)
    assert said in words(result.stderr)
    assert "secret" not in result.output
    assert "Traceback" not in result.output


def test_an_unknown_metric_names_those_that_there_are(tmp_path, toolkit, monkeypatch):
    monkeypatch.setattr(worker, "HOPELESS", 1)
    result = search(toolkit, tmp_path / "s", "--metric", "dise", code=1)
    assert "Validation knows no dise. Did you mean 'dice'?" in words(result.stderr)


def test_showing_what_is_not_there_gets_a_sentence(tmp_path, toolkit):
    assert "There is no search in" in words(toolkit("search", "--search-dir", tmp_path, "--show", code=2).stderr)
    assert "Say which search" in words(toolkit("search", "--show", code=2).stderr)


def test_ranks_are_refused(tmp_path, toolkit, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "several workers" in words(search(toolkit, tmp_path / "s", code=2).stderr)


def test_no_password_is_shown(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db?password=s3cret"
    assert (
        storage.redact_url(storage.storage_url("mysql://me:s3cret@host/db", tmp_path)) == "mysql+pymysql://me@host/db"
    )
    assert "s3cret" not in storage.redact_url(storage.storage_url(url, tmp_path))


def test_sequential_trials_are_judged_by_their_last_stage(tmp_path, toolkit):
    tiny = ["generator.width=4", "generator.blocks=5", "generator.patches=8", "train.iterations=2", "segmenter.base=2"]
    data = [f"data.{role}.{option}" for role in ("source", "target") for option in ("count=10", "side=32")]
    settings = [text for setting in [*tiny, *data, "data.size=32", "train.batch_size=2"] for text in ("--set", setting)]
    options = ["--generator", "cut", "--segmenter", "unet", "--strategy", "sequential", *settings]
    folder = tmp_path / "s"
    toolkit("search", *options, "--space", "generator.lr=1e-4..1e-3:log", "--trials", 1, "--search-dir", folder)
    (trial,) = trials(folder)
    assert list(trial.intermediate_values) == [2]
    run = RunFolder(folder / "trials" / "0000")
    assert TrainedModel.load(run, Registry(), "cpu").segmenter is not None


# --- workers that are stopped, and several of them --------------------------------------------------------------------

LONG = {"iterations": 60, "interval": 20}


def start(folder, *options):
    return Fork("search", "--search-dir", folder, *options)


def lines(run):
    path = run / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def stop(folder, number, *options, trial="0001", at=8):
    """Start a search and send it a signal once a trial has done some iterations."""
    process = start(folder, *options)
    end = time.monotonic() + 180
    while lines(SearchFolder(folder).trials / trial) < at and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    assert process.poll() is None, process.communicate()
    process.send_signal(number)
    output = "".join(process.communicate(timeout=60))
    return process.returncode, output


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A search of two trials that nobody interrupts, and its options."""
    folder = tmp_path_factory.mktemp("whole") / "whole"
    options = ("--config", write(folder.parent / "s.toml", **LONG), "--trials", 2, "--pruner", "none")
    line = [sys.executable, "-m", "transeg", "search", "--search-dir", folder, *options]
    subprocess.run([str(part) for part in line], check=True)
    return folder, options


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_searches_end_as_whole_ones(tmp_path, number, whole):
    """The interrupted trial goes on from its checkpoint, and those after it choose what they would have chosen."""
    uncut, options = whole
    cut, killed = tmp_path / "cut", number == signal.SIGKILL
    code, output = stop(cut, number, *options, trial="0001" if killed else "0000")
    assert code == (-signal.SIGKILL if killed else 1)
    if not killed:
        assert f"Go on with: toolkit search --search-dir {cut}" in words(output)
    before = lines(cut / "trials" / ("0001" if killed else "0000"))
    again = start(cut)
    output = again.communicate(timeout=300)
    assert again.returncode == 0, output
    assert 0 < before < 60
    assert _done(cut) == _done(uncut)


def _done(folder):
    """What complete trials chose and reached."""
    return {t.params["train.lr"]: t.value for t in trials(folder) if t.state.name == "COMPLETE"}


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    """The URL of a PostgreSQL server of this test's own."""
    found = shutil.which("initdb") or next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))), None)
    if found is None:
        pytest.skip("there is no PostgreSQL (initdb)")
    binaries = Path(found).resolve().parent
    folder = tmp_path_factory.mktemp("postgres")
    as_user = []
    if os.getuid() == 0:  # the server refuses to run as root
        if shutil.which("runuser") is None:
            pytest.skip("PostgreSQL does not run as root, and there is no runuser")
        as_user = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")
        for parent in folder.parents:
            if parent.stat().st_uid == 0 and str(parent).startswith(str(folder.parents[2])):
                parent.chmod(0o755)
    yield from _served(
        [*as_user, binaries / "initdb", "-D", folder / "data", "-A", "trust", "-U", "me"],
        lambda port: [*as_user, binaries / "postgres", "-D", folder / "data", "-k", folder, "-p", port, "-F"],
        lambda port: f"postgresql://me:s3cret@127.0.0.1:{port}/postgres",
        folder,
    )


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory):
    """The URL of a MariaDB server of this test's own."""
    if shutil.which("mariadb-install-db") is None or shutil.which("mariadbd") is None:
        pytest.skip("there is no MariaDB (mariadb-install-db)")
    folder = tmp_path_factory.mktemp("mariadb")
    me = "root" if os.getuid() == 0 else str(os.getuid())
    begin = folder / "begin.sql"
    users = "".join(
        f"create user me@'{host}' identified by 's3cret'; grant all on studies.* to me@'{host}'; "
        for host in ("%", "localhost")  # where an anonymous user would be taken instead
    )
    begin.write_text(f"create database studies; {users}".replace("; ", ";\n"))
    server = ["mariadbd", "--no-defaults", f"--user={me}", f"--datadir={folder / 'data'}"]
    yield from _served(
        ["mariadb-install-db", "--no-defaults", f"--user={me}", f"--datadir={folder / 'data'}", "--skip-test-db"],
        lambda port: [*server, f"--socket={folder / 's'}", f"--port={port}", f"--init-file={begin}"],
        lambda port: f"mysql://me:s3cret@127.0.0.1:{port}/studies",
        folder,
    )


def _served(prepare, serve, address, folder):
    subprocess.run([str(part) for part in prepare], check=True, capture_output=True, cwd=folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([str(part) for part in serve(port)], stdout=log, stderr=log, cwd=folder)
        try:
            end = time.monotonic() + 60
            while not _answers(port) and process.poll() is None and time.monotonic() < end:
                time.sleep(0.05)
            assert process.poll() is None, (folder / "log").read_text()
            yield address(port)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("server", ["postgres", "mariadb"])
def test_two_workers_share_a_study_on_a_server(server, tmp_path, request, toolkit):
    """Each trial is trained by one of them; both leave the same best experiment, and no password."""
    url = request.getfixturevalue(server)
    config = write(tmp_path / "s.toml", iterations=30, interval=10)
    options = ("--config", config, "--study", "shared", "--storage", url, "--trials", 6)
    folders = [tmp_path / "one", tmp_path / "two"]
    workers = [start(folder, *options) for folder in folders]
    outputs = ["".join(worker.communicate(timeout=300)) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    trained = [{path.name for path in (folder / "trials").iterdir()} for folder in folders]
    assert all(trained), "one of the workers did nothing"
    assert not trained[0] & trained[1]
    toolkit("search", "--search-dir", tmp_path / "third", "--study", "shared", "--storage", url, "--show")
    texts = {(folder / "best.toml").read_text() for folder in [*folders, tmp_path / "third"]}
    assert len(texts) == 1
    shown = json.loads(toolkit("search", "--search-dir", folders[0], "--storage", url, "--show", "--json").stdout)
    assert sum(shown["counts"].values()) == 6
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.suffix in (".toml", ".json", ".jsonl"):
            assert "s3cret" not in path.read_text(), path
    assert not any("s3cret" in output for output in outputs)
