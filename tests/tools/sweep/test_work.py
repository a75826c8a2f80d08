"""How processes are started, watched and stopped; small scripts stand in for trainings."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from rich.console import Console

from transeg.core.registry import Registry
from transeg.tools.sweep import work as module
from transeg.tools.sweep.sweep_folder import read_sweep
from transeg.tools.sweep.work import cell_command, run_cells

FINISH = 'import pathlib, sys; (pathlib.Path(sys.argv[1]) / "metrics.json").write_text("{}")'
FAIL = 'import sys; print("working"); sys.exit("\\nError: The GPU is on fire.\\nPut it out.")'
DIE = "import os; os.kill(os.getpid(), 9)"
STOP = "import time; print('working', flush=True); time.sleep(60)"


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    (tmp_path / "sweep.toml").write_text("[sweep]\nseed = [0, 1, 2]")
    sweep = read_sweep(tmp_path)
    for cell in sweep.cells:
        cell.folder.path.mkdir(parents=True)
    return sweep


@pytest.fixture
def train(sweep, monkeypatch):
    """Work with a script for each cell, by default one that finishes; gives the lines that were printed."""

    def call(scripts=(), devices=("cpu",), retry=False):
        def command(cell, device, registry):
            begun.append((cell.name, device))
            return [sys.executable, "-c", dict(scripts).get(cell.name, FINISH), str(cell.folder.path)]

        begun = []
        monkeypatch.setattr(module, "cell_command", command)
        out = Console(file=io.StringIO(), width=200)
        stopped = run_cells(sweep, Registry(), out, devices=list(devices), retry=retry)
        return begun, stopped, out.file.getvalue().splitlines()

    return call


def states(sweep):
    return [cell.state() for cell in sweep.cells]


def test_every_cell_is_trained_once(sweep, train):
    begun, stopped, lines = train()
    assert (states(sweep), stopped) == (["done"] * 3, False)
    assert [name for name, _ in begun] == ["seed0", "seed1", "seed2"]
    assert lines[:2] == ["seed0 begins", "seed0 done"]
    assert train()[0] == []


def test_devices_work_side_by_side(sweep, train):
    begun, _, lines = train(devices=["cuda:0", "cuda:1"])
    assert {device for _, device in begun} == {"cuda:0", "cuda:1"}
    assert lines[:2] == ["seed0 begins", "seed1 begins"]
    assert states(sweep) == ["done"] * 3


def test_what_fails_takes_nothing_down_and_waits_for_a_retry(sweep, train):
    _, stopped, lines = train({"seed0": FAIL, "seed1": DIE})
    assert (states(sweep), stopped) == (["failed", "failed", "done"], False)
    assert sweep.cells[0].reason() == "The GPU is on fire. Put it out."
    assert "memory runs out" in sweep.cells[1].reason()
    assert str(sweep.cells[1].log) in sweep.cells[1].reason()
    assert json.loads(sweep.cells[1].failure.read_text())["exit_code"] == -9
    assert "seed0 failed: The GPU is on fire. Put it out." in lines
    assert train()[0] == []
    assert [name for name, _ in train(retry=True)[0]] == ["seed0", "seed1"]
    assert states(sweep) == ["done"] * 3
    assert sweep.cells[0].reason() == ""


def test_reasons_are_those_of_the_last_attempt(sweep, train):
    train({"seed0": FAIL})
    train({"seed0": DIE}, retry=True)
    assert "memory runs out" in sweep.cells[0].reason()


def test_cells_of_other_processes_are_left_to_them(sweep, train):
    with FileLock(sweep.cells[0].claim):
        assert [name for name, _ in train()[0]] == ["seed1", "seed2"]
    assert states(sweep) == ["waiting", "done", "done"]


def test_what_has_failed_in_another_process_waits_for_a_retry(sweep, train):
    """It was waiting when this process began."""
    fail = f"import pathlib; pathlib.Path({str(sweep.cells[1].failure)!r}).write_text('{{}}'); {FINISH}"
    assert [name for name, _ in train({"seed0": fail})[0]] == ["seed0", "seed2"]
    assert states(sweep) == ["done", "failed", "done"]


def test_who_asks_for_a_state_keeps_nobody_from_a_cell(sweep, train, monkeypatch):
    """To ask, one must hold the lock for an instant; a sweep that meets it then leaves no cell for that."""
    asked = []

    class HeldOnce(FileLock):
        def acquire(self, *arguments, **options):
            if self.lock_file not in asked:
                asked.append(self.lock_file)
                raise Timeout(self.lock_file)
            return super().acquire(*arguments, **options)

    monkeypatch.setattr(module, "FileLock", HeldOnce)
    assert len(train()[0]) == 3
    assert states(sweep) == ["done"] * 3


def test_orphans_are_waited_for(sweep, train):
    """A child that outlived its sweep writes a checkpoint; then its cell is taken over."""
    lock = FileLock(sweep.cells[2].folder.lock, thread_local=False)
    lock.acquire()
    threading.Timer(0.5, lock.release).start()
    assert [name for name, _ in train()[0]] == ["seed0", "seed1", "seed2"]
    assert states(sweep) == ["done"] * 3


def test_a_signal_stops_children_and_is_no_failure(sweep, train):
    def interrupt():
        while not (sweep.cells[0].log.exists() and b"working" in sweep.cells[0].log.read_bytes()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    threading.Thread(target=interrupt).start()
    begun, stopped, lines = train({"seed0": STOP})
    assert (states(sweep), stopped) == (["waiting"] * 3, True)
    assert begun == [("seed0", "cpu")]
    assert (lines[0], lines[-1]) == ("seed0 begins", "seed0 stopped")
    assert lines[1].startswith("Stopping after this iteration")
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_children_end_with_their_parent(tmp_path):
    """However that ends; the parent starts a child through ours, says its number, and is killed."""
    child = "import time; print('ready', flush=True); time.sleep(60)"
    parent = (
        "import os, subprocess, sys, time\n"
        "program = [sys.executable, '-c', sys.argv[1]]\n"
        "line = [sys.executable, '-m', 'transeg.tools.common.child', str(os.getpid()), *program]\n"
        "child = subprocess.Popen(line, start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent, child], stdout=subprocess.PIPE, text=True)
    said = {process.stdout.readline().strip(), process.stdout.readline().strip()}
    number = int((said - {"ready"}).pop())
    assert "ready" in said
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while _alive(number) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _alive(number)


def _alive(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_processes_are_told_everything(sweep, tmp_path):
    (tmp_path / "mine.toml").write_text("[plugin]\ncontract = 1")
    line = cell_command(sweep.cells[0], "cuda:1", Registry([tmp_path / "mine.toml"]))
    assert line[1:4] == ["-m", "transeg", "run"]
    options = dict(zip(line[5::2], line[6::2], strict=True))
    assert line[4] == "--resume"
    assert options == {
        "--device": "cuda:1",
        "--config": str(sweep.cells[0].definition),
        "--run-dir": str(sweep.cells[0].folder.path),
        "--shared": str(sweep.path / "stages"),
        "--registry": str(tmp_path / "mine.toml"),
    }


@pytest.mark.skipif(sys.platform != "linux", reason="children are bound to their parent on Linux alone")
def test_children_outlive_what_slurm_sends_to_all_processes_of_a_job():
    program = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(60)"]
    line = [sys.executable, "-m", "transeg.tools.common.child", str(os.getpid()), *program]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR2)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM
