from io import StringIO

from rich.console import Console

from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.tools.ladder import estimate
from transeg.tools.ladder.estimate import estimate_hours
from transeg.tools.ladder.ladder import Ladder
from transeg.tools.ladder.ladder_tables import show_ladder_plan
from transeg.tools.sweep.sweep_folder import Cell, Sweep


def test_rungs_with_one_training_are_timed_and_counted_once_for_each_seed(tmp_path, monkeypatch):
    cells = [
        Cell(name, {"seed": f"seed{seed}", "rung": rung}, {}, RunFolder(tmp_path / name))
        for seed in (0, 1)
        for rung in ("source-only", "fda", "fda+bn", "fda+tent")
        for name in [f"seed{seed}_{rung}"]
    ]
    done = cells[1].folder.metrics
    done.parent.mkdir()
    done.write_text("{}")
    timed = []
    monkeypatch.setattr(estimate, "cell_experiment", lambda _sweep, cell, *_: timed.append(cell.name))
    monkeypatch.setattr(estimate, "_hours", lambda *_: (1.0, 2.0))
    ladder = Ladder(Sweep(tmp_path, {}, {}, cells, {}), {}, ["cpu", "cpu"], {})
    found = estimate_hours(ladder, None, Console(file=StringIO()))
    assert timed == ["seed0_source-only", "seed0_fda"]
    assert set(found.rungs) == {"source-only", "fda", "fda+bn", "fda+tent"}
    assert found.total == (1.5, 3.0)  # source-only twice, and fda of the second seed; two at a time
    assert not found.untimed


def test_rungs_that_cannot_be_timed_say_why(tmp_path):
    base = {"segmenter": {"name": "unet", "base": 4}, "loss": {"name": "bce"}, "baseline": "none"}
    base |= {"data": {"size": 32}, "train": {"iterations": 8, "batch_size": 1}}
    source = {"name": "folder", "root": str(tmp_path / "none")}
    lost = {"strategy": {"name": "supervised"}, "data": {"source": source}}
    rungs = ["source-only", "source-only+bn"]
    cells = [Cell(name, {"seed": "seed0", "rung": name}, lost, RunFolder(tmp_path / name)) for name in rungs]
    ladder = Ladder(Sweep(tmp_path, base, {"seed": ["seed0"], "rung": rungs}, cells, {}), {}, ["cpu"], {})
    found = estimate_hours(ladder, Registry(), Console(file=StringIO()))
    assert not found.rungs
    assert all(str(tmp_path / "none") in found.untimed[name] for name in rungs)
    shown = StringIO()
    show_ladder_plan(ladder, Console(file=shown, width=400), found)
    lines = shown.getvalue().splitlines()
    assert [line for line in lines if line.startswith("not timed")] == [
        f"not timed  {name}: {found.untimed[name]}" for name in rungs
    ]
