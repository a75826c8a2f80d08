"""The script that compares estimates with the truth over ladders."""

import csv
import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_DATA, TINY_TRAINING, command

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "estimate.py"
DEFINITION = """
[segmenter]
name = "unet"
[sweep]
seed = [0]
[sweep.rung]
source-only = { strategy = "supervised" }
"source-only+bn" = { test_adaptation = "bn" }
oracle = { data = { source = "phantom" } }
"""


@pytest.fixture(scope="module")
def functions():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture
def ladder(toolkit, tmp_path):
    """Two rungs, trained for three steps, and one that is not."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "sweep.toml").write_text(DEFINITION)
    options = ["--segmenter", "unet", "--source", "phantom:clean", "--test", "phantom:scope"]
    tests = ["data.test.phantom.count=30", "data.test.phantom.side=32", "segmenter.base=4", "device=cpu"]
    for name, own in {"source-only": ["train.watch_tests=2"], "source-only+bn": ["test_adaptation=bn"]}.items():
        place = folder / "cells" / f"seed0_{name}"
        toolkit(*command((options, [*TINY_DATA, *TINY_TRAINING, *tests, *own]), "--run-dir", place))
    return folder


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_tiny_ladder(ladder, tmp_path):
    before, out = contents(ladder), tmp_path / "found.json"
    done = subprocess.run([sys.executable, SCRIPT, ladder, "--out", out], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert contents(ladder) == before
    found = json.loads(out.read_text())
    assert found["left_out"] == {"tiny/seed0_oracle": "It is not finished."}
    plain, adapted = found["cells"]
    assert [cell["cell"] for cell in (plain, adapted)] == ["seed0_source-only", "seed0_source-only+bn"]
    for cell in (plain, adapted):
        with (ladder / "cells" / cell["cell"] / "evaluation" / "phantom.csv").open() as file:
            true = {row["name"]: float(row["dice"]) for row in csv.DictReader(file)}
        assert {line["name"]: line["true"] for line in cell["lines"]} == true
        assert len(true) == cell["images"] == 6
        assert cell["true"] == pytest.approx(np.mean(list(true.values())))
        for measure in ("estimated", "uncalibrated"):
            values = [line[measure] for line in cell["lines"] if line[measure] is not None]
            assert all(0 <= value <= 1 for value in values)
            assert cell[measure]["mean"] == pytest.approx(np.mean(values))
    assert all(line["agreement"] is None for line in adapted["lines"])
    assert plain["agreement"]["undefined"] < 6
    fits = found["fits"]["tiny"]
    assert fits["estimated"]["points"] == 2
    errors = [cell["estimated"]["mean"] - cell["true"] for cell in (plain, adapted)]
    assert fits["estimated"]["bias"] == pytest.approx(np.mean(errors))
    assert "Left out: tiny/seed0_oracle" in done.stdout


def test_what_is_said_of_a_measure(functions):
    def cell(true, estimated):
        interval = {"mean": estimated, "ci": [estimated - 0.05, estimated + 0.05]}
        of_images = dict.fromkeys(("pearson", "spearman", "mae"), estimated)
        nothing = {"mean": None, "ci": None, "of_images": dict.fromkeys(("pearson", "spearman", "mae"))}
        measured = {**interval, "of_images": of_images}
        return {"true": true, "estimated": measured, "uncalibrated": measured, "agreement": nothing}

    cells = [cell(0.2, 0.5), cell(0.4, 0.8), cell(0.75, 0.72), cell(0.8, 0.6)]
    found = functions["summarise_cells"](cells, 0.7)["estimated"]
    assert found["points"] == 4
    assert found["pearson"] == pytest.approx(np.corrcoef([0.2, 0.4, 0.75, 0.8], [0.5, 0.8, 0.72, 0.6])[0, 1])
    assert found["spearman"] == pytest.approx(0.2)
    assert found["bias"] == pytest.approx((0.3 + 0.4 - 0.03 - 0.2) / 4)
    assert found["mae"] == pytest.approx((0.3 + 0.4 + 0.03 + 0.2) / 4)
    assert found["holds"] == 0.25
    assert (found["trusted_wrongly"], found["refused_wrongly"]) == (1, 1)
    assert found["within_cells"]["pearson"] == pytest.approx((0.5 + 0.8 + 0.72 + 0.6) / 4)
    assert functions["summarise_cells"](cells, 0.7)["agreement"]["holds"] is None


def test_what_is_undefined_is_left_out_of_a_fit(functions):
    nan = np.nan
    found = functions["fit"](np.array([0.1, nan, 0.3, 0.4, 0.9]), np.array([0.2, 0.5, 0.4, 0.5, nan]))
    assert found == pytest.approx({"points": 3, "pearson": 1, "spearman": 1, "mae": 0.1, "bias": -0.1})
    assert functions["fit"](np.array([0.1, 0.1, 0.1]), np.array([0.2, 0.5, 0.4]))["pearson"] is None
    assert functions["fit"](np.array([nan]), np.array([0.2]))["mae"] is None
