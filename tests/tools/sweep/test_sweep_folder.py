import json
import subprocess
import sys

import pytest
from filelock import FileLock

from transeg.core.errors import TransegError, UsageError
from transeg.tools.sweep.sweep_folder import read_sweep

DEFINITION = """
[segmenter]
base = 4
[sweep]
"segmenter.name" = ["unet", "hardnet"]
seed = [0, 1]
"""


@pytest.fixture
def sweep(tmp_path):
    (tmp_path / "sweep.toml").write_text(DEFINITION)
    return read_sweep(tmp_path)


def test_a_definition_says_what_there_is(sweep, tmp_path):
    assert sweep.base == {"segmenter": {"base": 4}}
    assert sweep.axes == {"segmenter.name": ["unet", "hardnet"], "seed": ["seed0", "seed1"]}
    assert [cell.name for cell in sweep.cells] == ["unet_seed0", "unet_seed1", "hardnet_seed0", "hardnet_seed1"]
    assert sweep.cells[1].folder.path == tmp_path / "cells" / "unet_seed1"
    assert sweep.cells[1].values == {"segmenter.name": "unet", "seed": "seed1"}
    assert {name: len(cells) for name, cells in sweep.combinations().items()} == {"unet": 2, "hardnet": 2}


def test_what_alone_is_repeated_is_one_combination(tmp_path):
    (tmp_path / "sweep.toml").write_text("[sweep]\nseed = [0, 1]\nfold = [1, 2]")
    assert {name: len(cells) for name, cells in read_sweep(tmp_path).combinations().items()} == {tmp_path.name: 4}


def test_states_follow_from_the_files(sweep):
    cell = sweep.cells[0]
    assert cell.state() == "waiting"
    cell.folder.path.mkdir(parents=True)
    for lock in (cell.claim, cell.folder.lock):
        with FileLock(lock):
            assert cell.state() == "running"
        assert cell.state() == "waiting"
    cell.failure.write_text(json.dumps({"reason": "It broke."}))
    assert (cell.state(), cell.reason()) == ("failed", "It broke.")
    with FileLock(cell.claim):
        assert cell.state() == "running"
    cell.folder.metrics.write_text("{}")
    assert cell.state() == "done"
    assert [other.state() for other in sweep.cells[1:]] == ["waiting"] * 3


def test_combinations_are_left_out(sweep, tmp_path):
    (tmp_path / "left_out.json").write_text('{"hardnet_seed0": "It does not fit."}')
    again = read_sweep(tmp_path)
    assert again.left_out == {"hardnet_seed0": "It does not fit."}
    assert len(again.cells) == 3


def test_what_cannot_be_read_gets_a_sentence(sweep, tmp_path):
    with pytest.raises(UsageError, match="not a sweep"):
        read_sweep(tmp_path / "other")
    cell = sweep.cells[0]
    cell.folder.path.mkdir(parents=True)
    cell.failure.write_text("{")
    with pytest.raises(TransegError, match="delete it"):
        cell.reason()
    (tmp_path / "sweep.toml").write_text("seed = 3")
    with pytest.raises(UsageError, match="no axis"):
        read_sweep(tmp_path)


def test_reading_needs_neither_torch_nor_numpy():
    code = (
        "import sys, transeg.tools.sweep.sweep_folder; sys.exit(any(name in sys.modules for name in "
        "('torch', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
