"""What rules lose that choose a checkpoint without target labels, on validations written down by hand."""

import json

import pytest

from transeg.core.runs.run_folder import RunFolder
from transeg.tools.ladder.regret import mean_regrets, regrets

VALIDATIONS = [
    {"val/dice": 0.5, "watch/dice": 0.6, "watch/dice_average": 0.1, "watch/agreement": 0.2, "watch/entropy": 0.3},
    {"val/dice": 0.9, "watch/dice": 0.4, "watch/dice_average": 0.5, "watch/agreement": 0.8, "watch/entropy": 0.2},
    {"val/dice": 0.9, "watch/dice": 0.3, "watch/dice_average": 0.7, "watch/agreement": 0.7, "watch/entropy": 0.1},
]


def run_folder(path, validations):
    folder = RunFolder(path)
    path.mkdir()
    lines = [{"iteration": 5, "train/loss": 1.0}]
    lines += [{"iteration": 10 * number, **values} for number, values in enumerate(validations, 1)]
    folder.scalars.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_regrets_of_a_run(tmp_path):
    found = regrets(run_folder(tmp_path / "run", VALIDATIONS))
    assert found == pytest.approx(
        {
            "validation Dice": 0.2,  # the first of two equal ones, as best.pt is
            "agreement": 0.2,
            "least entropy": 0.3,
            "last": 0.3,
            "last average": -0.1,
        }
    )


def test_without_a_validation_set_the_last_checkpoint_is_the_best(tmp_path):
    unvalidated = [{k: v for k, v in line.items() if k != "val/dice"} for line in VALIDATIONS]
    assert regrets(run_folder(tmp_path / "run", unvalidated))["validation Dice"] == pytest.approx(0.3)


def test_runs_that_watched_nothing_count_nowhere(tmp_path):
    blind = run_folder(tmp_path / "blind", [{"val/dice": 0.5}])
    assert mean_regrets({"joint": [blind]}) == {}
    watched = [run_folder(tmp_path / "a", VALIDATIONS), run_folder(tmp_path / "b", VALIDATIONS[:1])]
    found = mean_regrets({"joint": [*watched, blind], "fda": [blind]})
    assert list(found["rungs"]) == ["joint"]
    assert found["mean"]["last"] == found["rungs"]["joint"]["last"] == pytest.approx(0.15)
    assert found["worst"]["last"] == pytest.approx(0.3)
