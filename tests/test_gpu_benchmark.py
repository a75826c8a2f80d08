"""The GPU's benchmark runs on a CPU, so that it cannot rot."""

import json
import subprocess
import sys
from pathlib import Path

import layouts
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPT = BENCHMARKS / "gpu.py"


def call(*arguments):
    line = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def modules(monkeypatch):
    """The benchmark's own, in this process."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu
    import gpu_measures
    import gpu_slices

    return gpu, gpu_slices, gpu_measures


def given(modules, tmp_path, **named):
    return modules[1].Given("cpu", tmp_path / "work", **named)


def left_out(modules, wanted):
    return {each.name: each.missing for each in modules[1].slices(wanted) if each.missing}


@pytest.mark.slow
def test_a_slice_is_measured_once_and_beside_the_cpu(tmp_path):
    out = tmp_path / "results.jsonl"
    for _ in range(2):
        call("--out", out, "--device", "cpu", "--only", "supervised-fp32")
    (line,) = map(json.loads, out.read_text().splitlines())
    assert "error" not in line, line
    assert line["difference"] == pytest.approx(0, abs=1e-4)  # threads may add in another order
    assert len(line["losses"]) == len(line["seconds"]) == 4


@pytest.mark.slow
def test_a_slice_that_fails_is_noted_and_run_again(tmp_path):
    out = tmp_path / "results.jsonl"
    for _ in range(2):
        call("--out", out, "--device", "cuda:99", "--only", "supervised-fp32")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["slice"] for line in lines] == ["supervised-fp32"] * 2
    assert all("cuda" in line["error"] for line in lines)


@pytest.mark.slow
def test_loaders_throughput_and_ranks_are_measured(tmp_path):
    layouts.folders(tmp_path / "images")
    out, names = tmp_path / "results.jsonl", ["loader-0", "throughput-cut-fp32", "nccl-2"]
    call("--out", out, "--device", "cpu", "--images", f"folder:{tmp_path / 'images'}", "--only", *names)
    loader, pace, ranks = sorted(
        map(json.loads, out.read_text().splitlines()), key=lambda line: names.index(line["slice"])
    )
    assert not any("error" in line for line in (loader, pace, ranks)), (loader, pace, ranks)
    assert min(loader["images a second"], loader["validated a second"]) > 0
    assert 0 <= loader["share waited"] <= 1
    assert min(pace["seconds"], pace["gigabytes"], ranks["seconds"]) > 0


def test_what_is_not_named_is_left_out_with_a_line(modules, tmp_path, monkeypatch):
    out = tmp_path / "results.jsonl"
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(out), "--only", "reference", "octa", "zh320-unet"])
    for _ in range(2):
        modules[0].main()
    lines = {line["slice"]: line["left out"] for line in map(json.loads, out.read_text().splitlines())}
    assert list(lines) == ["reference", "octa", "zh320-unet"]
    assert len(out.read_text().splitlines()) == 3  # the second call has nothing new to say
    assert lines["octa"] == "no --octa names its folder"


def test_what_is_named_is_measured(modules, tmp_path):
    everything = left_out(modules, given(modules, tmp_path))
    assert set(everything) == {"reference", "loader-0", "loader-4", "loader-16", "octa", "zh320-unet"}
    named = given(modules, tmp_path, references={"cut": tmp_path}, images="phantom", octa=tmp_path, kvasir=tmp_path)
    assert list(left_out(modules, named)) == ["zh320-unet"]
    assert "has 0 images" in left_out(modules, named)["zh320-unet"]
    names = [each.name for each in modules[1].slices(named)]
    assert len(set(names)) == len(names)
    assert {"reference-cut-1", "reference-cyclegan-4", "throughput-syndiff-bf16-compiled-channels-last"} < set(names)
    for split in ("train", "test"):
        (tmp_path / split / "images").mkdir(parents=True)
        for index in range(500):
            (tmp_path / split / "images" / f"{index}.jpg").touch()
    assert left_out(modules, named) == {}


def test_a_second_gpu_that_is_not_there_is_left_out(modules, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    wanted = modules[1].Given("cuda", tmp_path)
    assert left_out(modules, wanted)["nccl-2"] == "it needs two GPUs, and there is 1"
    assert "nccl-1" not in left_out(modules, wanted)


PATIENT = """
import pathlib, sys, time
place = pathlib.Path(sys.argv[1])
try:
    if not place.exists():
        print("begun", flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    place.touch()
    raise SystemExit(1)
print("done")
"""


def test_a_long_run_goes_on_with_the_next_call(modules, tmp_path, monkeypatch):
    line = [sys.executable, "-c", PATIENT, str(tmp_path / "checkpoint")]
    monkeypatch.setattr(modules[1], "PATIENCE", 20)
    assert modules[1]._as_far_as(line, 23) is None
    assert modules[1]._as_far_as(line, 80) == "done\n"
    with pytest.raises(RuntimeError, match="no such line"):
        modules[1]._as_far_as([sys.executable, "-c", "raise SystemExit('no such line')"], 80)
    assert not modules[0].is_done({"slice": "octa", "unfinished": "x"})


def test_instance_norms_are_compared(modules, tmp_path, monkeypatch):
    found = modules[2].norms("cpu")
    assert found["fp32"]["value"] < 1e-5
    assert min(found["bf16"]["seconds"].values()) > 0
    slices = modules[1]
    monkeypatch.setattr(slices, "_in_process", lambda *_, **__: {"fp32": {"gradient": 3.0}})
    line = modules[0].run_slice(slices.Given("cuda", tmp_path), slices.Slice("instance-norm", slices._norms), 9)
    assert "gradient that is 3 off" in line["error"]
