"""The GPU's benchmark runs on a CPU, so that it cannot rot."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


def call(*arguments):
    line = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout


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
