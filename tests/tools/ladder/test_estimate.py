from io import StringIO

from rich.console import Console

from transeg.core.runs.run_folder import RunFolder
from transeg.tools.ladder import estimate
from transeg.tools.ladder.estimate import estimate_hours
from transeg.tools.ladder.ladder import Ladder
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
