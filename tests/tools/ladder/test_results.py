"""Which rungs are above strong augmentation, from the files of runs that are written down by hand."""

import pytest

from transeg.core.evaluation.metrics.table import TABLE
from transeg.tools.ladder.ladder_results import _tests
from transeg.tools.ladder.ladder_tables import over_rival

GROUPS = 12


def run(path, dice):
    (path / "evaluation").mkdir(parents=True)
    lines = [f"{number},{number},{value},{value / 2}" for number, value in enumerate(dice)]
    (path / "evaluation" / "set.csv").write_text("\n".join(["name,group,dice,iou", *lines]) + "\n")
    return path


def test_over_the_rival(tmp_path):
    easy = [0.5 + 0.01 * number for number in range(GROUPS)]  # images differ, all rungs alike in that
    rungs = {
        "source-only": [value - 0.3 for value in easy],
        "source-strong": easy,
        "fda": [value + (0.05 if number % 2 else -0.05) for number, value in enumerate(easy)],
        "joint": [value + 0.1 for value in easy],
        "oracle": [value + 0.3 for value in easy],
    }
    found = _tests({name: [run(tmp_path / name, values)] for name, values in rungs.items()}, TABLE)
    over = found["over_rival"]["set"]
    assert "source-strong" not in over
    assert over["joint"]["difference"] == pytest.approx(0.1)
    assert over["joint"]["ci"] == pytest.approx([0.1, 0.1])
    assert over["fda"]["ci"][0] < 0 < over["fda"]["ci"][1]
    assert found["tests"]["set"]["dice"]["entries"][3]["share"] == pytest.approx(0.4 / 0.6)
    sentence = "Above source-strong in Dice, with an interval that excludes zero: joint +0.100 [0.100, 0.100]."
    assert over_rival(over) == [sentence]
    assert over_rival({}) == []
