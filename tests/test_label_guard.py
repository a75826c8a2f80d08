"""The benchmark of the guard of labels: its faults are what they are said to be, and it runs."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from transeg.core.evaluation.label_shift import label_shift
from transeg.core.evaluation.label_survival import LabelSurvival

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "label_guard.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("label_guard", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def made(benchmark):
    return benchmark.translations(0, 20, 64, 0.3)


def test_faults_are_injected_into_a_share(made):
    assert sorted(filter(None, (each.fault for each in made.values()))) == [
        *["added"] * 2,
        *["removed"] * 2,
        *["shifted"] * 2,
    ]
    for each in made.values():
        assert (each.error > 0) == (each.fault is not None) == (not np.array_equal(each.intact, each.translated))
        assert (each.image.shape, each.label.shape) == ((64, 64, 3), (64, 64))


def test_the_truth_is_that_of_the_fault(made):
    for each in made.values():
        changed = each.truth.astype(int) - each.label
        if each.fault == "added":
            assert changed.min() >= 0
            assert changed.mean() >= 0.03
        if each.fault == "removed":
            assert changed.max() <= 0
            assert changed.mean() <= -0.03
        if each.fault == "shifted":
            rows, columns = label_shift(each.intact, each.translated)
            assert 2.5 < np.hypot(rows, columns) < 10.5
            moved = np.roll(each.label, (round(rows), round(columns)), (0, 1))[11:-11, 11:-11]
            assert (moved == each.truth[11:-11, 11:-11]).mean() > 0.99


def test_a_guard_that_knows_the_error_finds_all_faults(benchmark, made, tmp_path):
    found = {name: LabelSurvival((0.0, 0.0), 1 - each.error) for name, each in made.items()}
    lines = benchmark.guarded(found, tmp_path, by_dice=True)
    worst = benchmark.worst_labels(lines, 0.3)
    ranked = benchmark.ranking({name: 1 - each.dice for name, each in found.items()}, worst, made)
    assert ranked == {
        "spearman": pytest.approx(1),
        **dict.fromkeys(("found", *(f"found_{k}" for k in benchmark.FAULTS)), 1),
    }
    shifts = benchmark.guarded(found, tmp_path / "shift", by_dice=False)
    assert {line["dice"] for line in shifts.values()} == {""}


@pytest.mark.slow
def test_it_runs(tmp_path):
    sizes = ["--images", "12", "--side", "32", "--iterations", "2", "--seeds", "1", "--tests", "2"]
    line = [sys.executable, str(SCRIPT), "--out", str(tmp_path / "found.json"), *sizes, "--arms", "all", "oracle"]
    told = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(found["sets"][0]["guards"]) == {"shift", "source judge", "target judge"} == {*found["judges"], "shift"}
    assert set(found["sets"][0]["dice"]) == {"all", "oracle"}
    assert "| oracle |" in told
