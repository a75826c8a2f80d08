from io import StringIO

from rich.console import Console

from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.tools.ladder import ladder
from transeg.tools.sweep.sweep_folder import Cell, Sweep


def test_what_would_wait_for_the_training_of_another_rung_comes_last(tmp_path, monkeypatch):
    cells = [
        Cell(name, {"seed": f"seed{seed}", "rung": rung}, {}, RunFolder(tmp_path / name))
        for seed in (0, 1)
        for rung in ("source-only", "source-only+bn", "oracle")
        for name in [f"seed{seed}_{rung}"]
    ]
    order = []
    monkeypatch.setattr(ladder, "write_sweep", lambda *_: None)
    monkeypatch.setattr(ladder, "train_sweep", lambda sweep, *_, **__: order.extend(cell.name for cell in sweep.cells))
    made = ladder.Ladder(Sweep(tmp_path, {}, {}, cells, {}), {}, ["cpu"], {})
    found = ladder.run_ladder(made, Registry(), Console(file=StringIO()), retry=False)
    assert order == [
        "seed0_source-only", "seed0_oracle", "seed1_source-only", "seed1_oracle",
        "seed0_source-only+bn", "seed1_source-only+bn",
    ]  # fmt: skip
    assert list(found["rungs"]) == ["source-only", "source-only+bn", "oracle"]
