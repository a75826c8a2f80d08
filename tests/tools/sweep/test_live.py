import io
import json
import re

import pytest
from filelock import FileLock
from rich.console import Console

from transeg.tools.sweep.cell_progress import read_cell_progress
from transeg.tools.sweep.live import LiveTable, build_table, cell_states, format_counts
from transeg.tools.sweep.sweep_folder import read_sweep


@pytest.fixture
def sweep(tmp_path):
    (tmp_path / "sweep.toml").write_text("[sweep]\nseed = [0, 1, 2]")
    sweep = read_sweep(tmp_path)
    for cell in sweep.cells[:2]:
        (cell.folder.path / "fold-1").mkdir(parents=True)
        cell.folder.experiment.write_text("[train]\niterations = 200")
    lines = [{"iteration": 10, "seconds_per_iteration": 0.5}, {"iteration": 10, "val/dice": 0.4}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    sweep.cells[0].folder.scalars.write_text(text + '{"iteration": 20, "seco')
    (sweep.cells[1].folder.path / "fold-1" / "metrics.jsonl").write_text(text.replace("0.5", "2.0"))
    sweep.cells[1].failure.write_text('{"reason": "It [broke]."}')
    return sweep


def test_progress_comes_from_the_newest_file(sweep):
    now = read_cell_progress(sweep.cells[0].folder)
    assert (now.stage, now.iteration, now.total, now.speed) == ("", 10, 200, 2.0)
    assert (read_cell_progress(sweep.cells[1].folder).stage, read_cell_progress(sweep.cells[1].folder).speed) == (
        "fold-1",
        0.5,
    )
    assert read_cell_progress(sweep.cells[2].folder) is None


@pytest.mark.parametrize("width", [60, 100])
def test_tables_fit(sweep, width):
    console = Console(file=io.StringIO(), width=width)
    states = cell_states(sweep)
    console.print(build_table(sweep.cells, states), format_counts(states))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert lines[1].split() == ["seed0", "waiting", "10/200"]
    assert lines[2].split() == ["seed1", "failed", "It", "[broke]."]
    assert lines[-1] == "1 failed, 2 waiting"


def test_a_terminal_sees_what_is_running_and_failed(sweep):
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with FileLock(sweep.cells[0].claim), LiveTable(sweep, console) as board:
        board.update()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    assert "2.0/s" in shown
    assert "1 running, 1 failed, 1 waiting" in shown
    assert "It [broke]." in shown
    assert "seed2" not in shown
