"""Reports of ladders, of which some rungs are done; the pictures are tested where a ladder is trained."""

import json
import re

import numpy as np
import pytest
from evaluations import evaluated

DEFINITION = """
[segmenter]
name = "unet"
[loss]
name = "dice"
[train]
iterations = 1500
batch_size = 2
[data]
size = 96
[sweep]
seed = [0, 1]
[sweep.rung]
source-only = { strategy = "supervised" }
fda = { generator = "fda" }
joint = { generator = "cut" }
few-3 = { data = { synthetic_limit = 3 } }
oracle = { data = { source = "phantom" } }
"""
LEVELS = {"source-only": 0.3, "fda": 0.6, "few-3": 0.75, "oracle": 0.8}


@pytest.fixture
def ladder(tmp_path):
    """Five rungs with two seeds; one has failed."""
    path = tmp_path / "ladder"
    path.mkdir()
    (path / "sweep.toml").write_text(DEFINITION)
    (path / "ladder.json").write_text(json.dumps({"left_out": {"self-training": "It <b>needs</b> more."}}))
    random = np.random.default_rng(0)
    for seed in (0, 1):
        for name, level in LEVELS.items():
            dice = level + random.normal(0, 0.02, 12)
            groups = [f"<i>eye{number}" for number in range(12)]
            cell = evaluated(path / "cells" / f"seed{seed}_{name}", groups=groups, dice=dice, iou=dice / 2)
            (cell / "metrics.json").write_text(json.dumps({"selection": f"highest Dice of <u>{name}"}))
            (cell / "parts.json").write_text(json.dumps({"drawn": ["<b>eye"]} if name == "few-3" else {}))
            (cell / "times.json").write_text(json.dumps({".": {"training": 60.0, "testing": 5.0}}))
        failed = path / "cells" / f"seed{seed}_joint"
        failed.mkdir()
        (failed / "failure.json").write_text(json.dumps({"reason": "No <i>memory</i>."}))
    return path


def test_a_ladder_has_a_report(ladder, toolkit):
    toolkit("report", ladder, "--device", "cpu")
    body = (ladder / "report.html").read_text().partition("<body>")[2]
    table = body.partition("<tbody>")[2].partition("</tbody>")[0]
    rows = [re.sub(r"\s+", " ", re.sub("<.*?>", " ", row)).strip() for row in table.split("</tr>")[:-1]]
    assert [row.split()[0] for row in rows] == ["source-only", "fda", "few=3", "oracle"]
    assert re.search(r"59% \[5\d%, 6\d%\] 0.001 1 min 05 s source, low frequencies exchanged", rows[1])
    assert "100%" in rows[3]
    assert re.search(r"0\.\d{3} to 0\.\d{3}", rows[0])  # of seeds
    assert "most of the gap closed on kvasir" in body
    assert "Share of the gap on kvasir" in body
    assert re.search(r"fda 58\.\d+, 95 % interval", body)  # the figure in words
    assert re.search(r"source-only 0\.000; ", body)
    assert "It &lt;b&gt;needs&lt;/b&gt; more." in body
    assert "No &lt;i&gt;memory&lt;/i&gt;." in body
    assert "labels of &lt;b&gt;eye" in body
    assert "highest Dice of &lt;u&gt;" in body
    assert "No image can be shown:" in body  # there are no checkpoints
    assert not re.search(r"<(i|u|b)>(eye|memory|needs|fda)", body)
    ids = re.findall(r' id="([^"]+)"', body)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', body)) <= set(ids)
    toolkit("report", ladder, "--device", "cpu", "--anonymous")
    assert str(ladder) not in (ladder / "report.html").read_text()


def test_a_few_groups_are_shown_one_by_one(ladder, toolkit):
    for path in ladder.rglob("*.csv"):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:6]))
    toolkit("report", ladder, "--device", "cpu")
    body = (ladder / "report.html").read_text().partition("<body>")[2]
    assert "p (Holm)" not in body
    groups = body.partition("Dice in each group</span>")[2].partition("</table>")[0]
    assert groups.count("&lt;i&gt;eye") == 5


def test_a_ladder_that_has_not_begun(ladder, toolkit):
    for path in sorted((ladder / "cells").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    toolkit("report", ladder, "--device", "cpu")
    text = (ladder / "report.html").read_text()
    assert "There is nothing to compare before source-only is done." in text
    assert "No rung is done yet." in text
