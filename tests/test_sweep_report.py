"""Reports of sweeps, of which some cells are done."""

import json
import re

import numpy as np
import pytest
from evaluations import evaluated
from filelock import FileLock

DEFINITION = """
[sweep]
segmenter = ["unet", "resunet"]
loss = ["dice", "bce", "focal"]
seed = [0, 1]
"""
CURVE = "".join(json.dumps({"iteration": step, "val/dice": step / 100}) + "\n" for step in (10, 20, 30))


@pytest.fixture
def sweep(tmp_path):
    """Twelve cells: four done, one running, one failed, one left out, the rest waiting."""
    path = tmp_path / "sweep"
    path.mkdir()
    (path / "sweep.toml").write_text(DEFINITION)
    (path / "left_out.json").write_text(json.dumps({"resunet_focal_seed1": "it <b>does not</b> fit."}))
    random = np.random.default_rng(0)
    for name, level in (("unet_dice", 0.8), ("unet_bce", 0.5)):
        for seed in (0, 1):
            dice = (level + random.normal(0, 0.02, 12)).clip(0, 1)
            cell = evaluated(
                path / "cells" / f"{name}_seed{seed}",
                groups=[f"video{n}" for n in range(12)],
                dice=dice,
                iou=dice / 2,
                surface_dice=dice,
                hd95=20 * (1 - dice),
            )
            (cell / "metrics.json").write_text("{}")
            (cell / "metrics.jsonl").write_text(CURVE)
    for name in ("unet_focal_seed0", "resunet_dice_seed0"):
        (path / "cells" / name).mkdir()
    (path / "cells" / "resunet_dice_seed0" / "failure.json").write_text(json.dumps({"reason": "No <i>memory</i>."}))
    return path


def test_a_sweep_has_a_report(sweep, toolkit):
    with FileLock(sweep / "cells" / "unet_focal_seed0" / ".lock"):
        toolkit("report", sweep)
    text = (sweep / "report.html").read_text()
    body = text.partition("<body>")[2]
    states = re.findall(r'class="state (\w+)"', body)
    assert {state: states.count(state) for state in set(states)} == {"done": 4, "running": 1, "failed": 1, "waiting": 5}
    board = body.partition('id="leaderboard"')[2].partition("</table>")[0]
    assert board.index("unet_dice") < board.index("unet_bce")
    assert "resunet" not in board
    assert "&lt; 0.001" in board  # the second is worse on every image
    cells = body.partition('id="cells"')[2]
    assert "No &lt;i&gt;memory&lt;/i&gt;." in cells
    assert "it &lt;b&gt;does not&lt;/b&gt; fit." in cells
    assert "Dice on kvasir: segmenter and loss" in body
    assert re.search(r"dice with unet: 0\.(79|80)\d", body)
    assert "focal with resunet: none" in body
    assert body.count("validation Dice of") == 2
    ids = re.findall(r' id="([^"]+)"', body)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', body)) <= set(ids)


def test_a_sweep_that_has_not_begun(sweep, toolkit):
    for cell in (sweep / "cells").iterdir():
        for path in sorted(cell.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    toolkit("report", sweep)
    text = (sweep / "report.html").read_text()
    assert "No cell has been measured yet." in text
    assert "No cell has been validated yet." in text


def test_one_axis_is_set_against_the_seeds(sweep, toolkit):
    definition = (sweep / "sweep.toml").read_text().replace(', "resunet"', "").replace(', "bce", "focal"', "")
    (sweep / "sweep.toml").write_text(definition)
    (sweep / "left_out.json").unlink()
    toolkit("report", sweep)
    text = (sweep / "report.html").read_text()
    assert "Leaderboard" in text
    assert "Dice on kvasir:" not in text  # there are seeds alone
