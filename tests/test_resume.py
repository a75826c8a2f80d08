"""Runs that are killed end as if they had not been.

Those that nobody stops start an interpreter: it has another order of sets than the forks that are stopped.
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import BOTH, SUPERVISED, TINY_CYCLEGAN, TINY_SYNDIFF, TRANSLATION, command
from servers import Fork, forked

LONG = ["train.iterations=14", "train.checkpoint_interval=3", "train.val_interval=4", "train.log_interval=1"]


def arguments(parts, folder, workers):
    options, settings = parts
    return command((options, [*settings, *LONG, f"data.workers={workers}", "baseline=none"]), "--run-dir", folder)


def start(*line):
    return subprocess.Popen(
        [sys.executable, "-m", "transeg", *line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def iterations(folder):
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return max((json.loads(line)["iteration"] for line in lines if line.endswith("}")), default=0)


def stop_at(line, folder, iteration, number, begin=Fork):
    """Start a run and send it a signal once it has done that many iterations."""
    process = begin(*line)
    deadline = time.monotonic() + 120
    while iterations(folder) < iteration and process.poll() is None:
        assert time.monotonic() < deadline, f"{folder} has {iterations(folder)} iterations"
        time.sleep(0.002)
    assert process.poll() is None, process.communicate()
    process.send_signal(number)
    output = "".join(process.communicate(timeout=60))
    return process.returncode, output


def states(folder):
    return {name: torch.load(folder / "checkpoints" / f"{name}.pt", weights_only=True) for name in ("last", "best")}


def assert_same(one, other):
    for name in ("last", "best"):
        a, b = states(one)[name], states(other)[name]
        assert a["iteration"] == b["iteration"]
        assert a["model"].keys() == b["model"].keys()
        assert all(torch.equal(a["model"][key], b["model"][key]) for key in a["model"]), name
        assert a["averages"].keys() == b["averages"].keys()
        assert all(torch.equal(a["averages"][key], b["averages"][key]) for key in a["averages"]), name
    scalars = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds_per_iteration"} for line in text.splitlines()]
        for text in ((folder / "metrics.jsonl").read_text() for folder in (one, other))
    ]
    assert scalars[0] == scalars[1]
    assert (one / "metrics.json").read_text() == (other / "metrics.json").read_text()


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory):
    """Supervised and joint runs, each trained once: to the same bytes however many workers load images."""
    folders = {}

    def call(parts):
        name = "joint" if parts is BOTH else "supervised"
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("whole") / name
            subprocess.run([sys.executable, "-m", "transeg", *arguments(parts, folders[name], 0)], check=True)
        return folders[name]

    return call


@pytest.mark.slow
def test_students_are_killed_and_resumed(tmp_path, process):
    """Teachers come from where they were; learned projections from the checkpoint."""
    teacher, whole, cut = tmp_path / "teacher", tmp_path / "whole", tmp_path / "cut"
    assert forked(*command(SUPERVISED, "--run-dir", teacher)).returncode == 0
    taught = ["--teacher", str(teacher), "--distill", "fitnet:layer=mid_stage", "--distill", "kl"]
    assert process(*arguments(SUPERVISED, whole, 0), *taught).returncode == 0
    stop_at([*arguments(SUPERVISED, cut, 0), *taught], cut, 7, signal.SIGKILL)
    result = forked("run", "--run-dir", cut, "--resume")
    assert result.returncode == 0, result.stderr
    assert_same(whole, cut)


@pytest.mark.slow
def test_syntheses_are_killed_and_resumed(tmp_path, process):
    """Dropout is drawn from the place in the stream, label maps and noise from an image's number."""
    options = ["--generator", "pix2pix", "--segmenter", "unet", "--strategy", "sequential", "--source", "phantom"]
    settings = [*SUPERVISED[1], "data.test.phantom.domain=clean", "data.size=64", "synthesis.count=4"]
    parts = options, [*settings, "generator.width=4", "generator.depth=6", "generator.norm=instance"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert process(*arguments(parts, whole, 0)).returncode == 0
    stop_at(arguments(parts, cut, 0), cut / "translation", 2, signal.SIGKILL)
    stop_at(["run", "--run-dir", str(cut), "--resume"], cut / "translation", 7, signal.SIGKILL)
    result = forked("run", "--run-dir", cut, "--resume")
    assert result.returncode == 0, result.stderr
    assert_same(whole, cut)
    for image in (whole / "synthetic" / "images").iterdir():
        assert image.read_bytes() == (cut / "synthetic" / "images" / image.name).read_bytes()


@pytest.mark.slow
def test_averages_and_rare_losses_are_killed_and_resumed(tmp_path, process):
    """SynDiff's penalty comes in every fourth iteration of the training, not of the process."""
    settings = [setting for setting in BOTH[1] if not setting.startswith("generator.")]
    options = ["--generator", "syndiff", "--segmenter", "unet"]
    parts = options, [*settings, *TINY_SYNDIFF, "generator.r1_interval=4"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert process(*arguments(parts, whole, 0)).returncode == 0
    stop_at(arguments(parts, cut, 0), cut, 2, signal.SIGKILL)
    stop_at(["run", "--run-dir", str(cut), "--resume"], cut, 7, signal.SIGKILL)
    result = forked("run", "--run-dir", cut, "--resume")
    assert result.returncode == 0, result.stderr
    assert_same(whole, cut)
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines if "train/R1" in line] == [1, 5, 9, 13]
    assert states(whole)["last"]["averages"]


@pytest.mark.slow
def test_image_pools_are_killed_and_resumed(tmp_path, process):
    """CycleGAN's discriminators see translations of before the kill again."""
    settings = [setting for setting in TRANSLATION[1] if not setting.startswith("generator.")]
    parts = ["--generator", "cyclegan"], [*settings, *TINY_CYCLEGAN, "generator.pool=5"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert process(*arguments(parts, whole, 0)).returncode == 0
    stop_at(arguments(parts, cut, 0), cut, 7, signal.SIGKILL)
    result = forked("run", "--run-dir", cut, "--resume")
    assert result.returncode == 0, result.stderr
    assert_same(whole, cut)
    assert states(whole)["last"]["model"]["generator.pool_B.images"].shape == (5, 3, 32, 32)
    assert not any("pool" in key for key in states(whole)["best"]["model"])


@pytest.mark.slow
def test_scales_averages_and_micro_batches_are_killed_and_resumed(tmp_path, process):
    """In fp16, whose scales fall in the first iterations."""
    options, settings = BOTH
    more = ["train.precision=fp16", "train.batch_size=1", "train.accumulation=2", "train.clip=0.5", "train.ema=0.8"]
    parts = options, [*settings, *more]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert process(*arguments(parts, whole, 0)).returncode == 0
    stop_at(arguments(parts, cut, 0), cut, 7, signal.SIGKILL)
    result = forked("run", "--run-dir", cut, "--resume")
    assert result.returncode == 0, result.stderr
    assert_same(whole, cut)
    one, other = (states(folder)["last"] for folder in (whole, cut))
    assert one["scales"] == other["scales"]
    assert set(one["scales"]) == {"D", "G+F+segmenter"}
    assert one["scales"]["G+F+segmenter"]["scale"] < 2**16
    assert all(key.startswith("segmenter.") for key in one["averages"])
    assert any(not torch.equal(one["averages"][key], one["model"][key]) for key in one["averages"])


TRACED = '''
from transeg.plugins.segmenters.unet import UNet

class Traced(UNet):
    """Compiled by all of torch.compile but the compiler, which takes minutes."""

    def compile(self, **options):
        super().compile(backend="aot_eager", **options)
'''
MANIFEST = """
[plugin]
contract = 1
[segmenter.traced]
entry = "traced.py:Traced"
"""


@pytest.mark.slow
def test_compiled_and_fused_networks_are_killed_and_resumed(tmp_path, process):
    (tmp_path / "traced.py").write_text(TRACED)
    (tmp_path / "traced.toml").write_text(MANIFEST)
    registry = ["--registry", str(tmp_path / "traced.toml")]
    parts = ["--segmenter", "traced"], [*SUPERVISED[1], "train.channels_last=true", "train.fused=true"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    result = process(*arguments(parts, whole, 0), "--compile", *registry)
    assert result.returncode == 0, result.stderr
    stop_at([*arguments(parts, cut, 0), "--compile", *registry], cut, 7, signal.SIGKILL)
    result = forked("run", "--run-dir", cut, "--resume", *registry)
    assert result.returncode == 0, result.stderr
    assert_same(whole, cut)
    state = states(cut)["last"]
    assert all(group["fused"] for group in state["optimizers"]["segmenter"]["param_groups"])
    assert not any("_orig_mod" in key for key in state["model"])
    again = forked("run", "--run-dir", cut, "--resume", "--no-compile", *registry)
    assert again.returncode == 0, again.stderr  # how it computes may change on the way


@pytest.mark.slow
@pytest.mark.parametrize("parts", [SUPERVISED, BOTH], ids=["supervised", "joint"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("iteration", [2, 7, 12])
def test_killed_and_resumed(tmp_path, never_stopped, parts, workers, iteration):
    """Before the first checkpoint, between two, and after the last; killed once more on the way."""
    whole, cut = never_stopped(parts), tmp_path / "cut"
    stop_at(arguments(parts, cut, workers), cut, iteration, signal.SIGKILL)
    if iteration == 2:
        stop_at(["run", "--run-dir", str(cut), "--resume"], cut, 5, signal.SIGKILL)
    result = forked("run", "--run-dir", cut, "--resume", "--set", f"data.workers={2 - workers}")
    assert result.returncode == 0, result.stderr
    assert_same(whole, cut)


@pytest.mark.slow
def test_interrupted_and_resumed(tmp_path, process, never_stopped):
    """From the start of the interpreter to its end."""
    whole, cut = never_stopped(BOTH), tmp_path / "cut"
    code, output = stop_at(arguments(BOTH, cut, 2), cut, 5, signal.SIGINT, start)
    assert code == 1
    assert "Traceback" not in output
    text = " ".join(output.split())
    assert "Stopped at iteration" in text
    assert f"toolkit run --run-dir {cut} --resume" in text
    assert process("run", "--run-dir", cut, "--resume").returncode == 0
    assert_same(whole, cut)


@pytest.fixture(scope="module")
def sequence(tmp_path_factory):
    """A sequential run with a baseline: what begins it, and one that nobody has stopped."""
    options, settings = BOTH
    line = [*options, "--strategy", "sequential"], [*settings, *LONG, "baseline=source-only"]
    whole = tmp_path_factory.mktemp("whole") / "sequential"
    subprocess.run([sys.executable, "-m", "transeg", *command(line, "--run-dir", whole)], check=True)
    return line, whole


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["translation", ".", "baseline"])
def test_every_stage_goes_on_where_it_was(tmp_path, sequence, stage):
    """Killed in each of its three trainings."""
    (line, whole), cut = sequence, tmp_path / "cut"
    stop_at(command(line, "--run-dir", cut), cut / stage, 5, signal.SIGKILL)
    translated = {p.name: p.stat().st_mtime_ns for p in (cut / "translated").rglob("*.png")}
    assert forked("run", "--run-dir", cut, "--resume").returncode == 0
    assert_same(whole, cut)
    again = {p.name: p.stat().st_mtime_ns for p in (cut / "translated").rglob("*.png")}
    assert all(again[name] == when for name, when in translated.items())  # nothing is translated twice
    assert (whole / "metrics.json").read_text() == (cut / "metrics.json").read_text()


def test_resuming_needs_something_to_resume(toolkit, tmp_path):
    assert "--run-dir" in toolkit("run", "--resume", code=2).stderr
    assert "nothing to resume" in toolkit("run", "--resume", "--run-dir", tmp_path / "none", code=2).stderr


def test_a_finished_run_is_not_overwritten(joint_run, toolkit):
    before = {path: path.stat().st_mtime_ns for path in joint_run.rglob("*")}
    result = toolkit(*command(BOTH, "--run-dir", joint_run), code=2)
    assert "already holds a run" in result.stderr
    assert before == {path: path.stat().st_mtime_ns for path in joint_run.rglob("*")}


def test_resuming_with_other_options_is_refused(joint_run, toolkit):
    result = toolkit("run", "--run-dir", joint_run, "--resume", "--set", "train.lr=0.5", code=2)
    text = " ".join(result.stderr.split())
    assert "holds another experiment: train.lr is" in text
    assert "0.5 here" in text


def test_two_processes_do_not_train_into_one_folder(toolkit, tmp_path):
    from filelock import FileLock

    folder = tmp_path / "run"
    folder.mkdir()
    with FileLock(folder / ".lock"):
        result = toolkit(*command(SUPERVISED, "--run-dir", folder), code=2)
    assert "Another process" in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(toolkit, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    result = toolkit(*command(SUPERVISED, "--run-dir", folder / "run"), code=2)
    assert "cannot be written" in result.stderr
