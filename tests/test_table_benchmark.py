"""The table of measurements beside others runs, at sizes at which times mean nothing, so that it cannot rot."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def table(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import table

    return table


def call(out, *arguments, code=0):
    line = [sys.executable, str(BENCHMARKS / "table.py"), "--out", str(out), *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.mark.slow
def test_every_row_whose_reference_is_here_is_measured_once_and_both_sides_come_to_the_same(tmp_path, table):
    out = tmp_path / "table.json"
    options = "--tiny", "--images", 2, "--turns", 1
    printed = call(out, *options)
    rows = table.rows()
    here = {name for name, row in rows.items() if table.why_left_out(row, {}) is None}
    assert {"windows", "dice-monai", "predict", "predict-windows", "verify", "convert"} <= here
    for name, row in rows.items():
        assert f"{name} is left out: no checkout of {row.reference}" in printed or name in here
    text = out.read_text()
    stored = json.loads(text)["rows"]
    assert set(stored) == here
    for name, (turn,) in stored.items():
        assert all(turn[side]["processor"] > 0 and turn[side]["bytes"] > 1e7 for side in ("ours", "theirs")), name
        gap = table.difference(turn)
        comparable = not name.startswith("loader") and name != "outlines-torchmetrics"
        assert (gap is not None) == comparable, name
        # resized masks differ at outlines, and windows are blended differently near their borders
        assert gap is None or gap < (0.05 if name.startswith(("predict", "windows")) else 1e-5), name
    assert call(out, *options) == printed  # measured again, it would be other numbers
    assert out.read_text() == text


@pytest.mark.slow
def test_each_side_has_a_process_of_its_own(tmp_path):
    out = tmp_path / "table.json"
    call(out, "--only", "verify", "--images", 2, "--turns", 1, "--seconds", 0)
    (turn,) = json.loads(out.read_text())["rows"]["verify"]
    assert turn["ours"]["outcome"] == turn["theirs"]["outcome"] == [2, 0, 255]
    assert turn["theirs"]["bytes"] < turn["ours"]["bytes"]  # Pillow alone takes little


def test_a_line_says_ratios_of_each_turn_and_how_far_outcomes_are_apart(table):
    def side(processor, clock, *outcome):
        return {"processor": processor, "clock": clock, "bytes": 5e8, "outcome": list(outcome)}

    turns = [
        {"ours": side(0.2, 0.5, 1.0, 2.0), "theirs": side(0.3, 0.5, 1.0, 2.25)},
        {"ours": side(0.2, 0.4, 1.0, 2.0), "theirs": side(0.5, 0.6, 1.0, 2.0)},
        {"ours": side(0.1, 0.5, 1.0, 2.0), "theirs": side(0.2, 1.0, 1.0, 2.0)},
    ]
    row = table.Row("work", "monai", None)
    cells = [cell.strip() for cell in table.line(row, turns).strip("|").split("|")]
    assert cells[:4] == ["work", "monai", "**2.00 (1.50-2.50)**", "1.50 (1.00-2.00)"]
    assert cells[4:] == ["200, 300", "500, 600", "0.50, 0.50", "0.2"]
    turns[0]["ours"]["outcome"].append(0.0)
    with pytest.raises(RuntimeError, match="3 numbers"):
        table.line(row, turns)


def test_what_cannot_be_measured_is_said(tmp_path, table, monkeypatch):
    rows = table.rows()
    assert table.why_left_out(rows["cut"], {}) == "no checkout of cut (--reference cut=DIR)"
    assert table.why_left_out(rows["cut"], {"cut": tmp_path}) is None
    monkeypatch.setattr(table, "find_spec", lambda _: None)
    assert table.why_left_out(rows["windows"], {}) == "the package monai is not installed"
    with pytest.raises(SystemExit, match=r"is not a checkout of zh320: it has no models/model_registry\.py"):
        table.checkouts([f"zh320={tmp_path}"])
    with pytest.raises(SystemExit, match="no reference 'x'"):
        table.checkouts(["x=y"])
    (tmp_path / "old.json").write_text(json.dumps({"settings": {"threads": 2, "images": 3, "tiny": False}}))
    said = call(tmp_path / "old.json", "--only", "verify", code=1)
    assert "was measured with {'threads': 2" in said
    assert "there is no row 'x'" in call(tmp_path / "old.json", "--only", "x", code=2)


@pytest.mark.slow
def test_our_side_of_every_training_step_and_sample_runs(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import train_step

    cases = [case for of_reference in train_step.CASES.values() for case in of_reference]
    assert {"cut", "joint", "pix2pix", "syndiff", "sample"} <= set(cases)
    for case in cases:  # as small as the networks allow, which have their published size
        assert train_step.ours(case, 256 if case == "pix2pix" else 64, 1, "cpu")() is None
