"""Each command that writes is killed once, lets the same command go on, and leaves what an unbroken one leaves.

tests/kill_campaign.py does the same at as many moments as one has time for, and with trainings, too.
"""

import shutil
from pathlib import Path

import pytest
from kill_campaign import TRAININGS, Campaign, commands, make_sets, options

NAMES = [name for name in commands(Path()) if name != "run"]


@pytest.fixture(scope="module")
def area(tmp_path_factory, toolkit):
    folder = tmp_path_factory.mktemp("kills")
    make_sets(folder)
    for name, words in TRAININGS.items():
        toolkit("run", *options(words), "--run-dir", folder / "runs" / name)
    shutil.copytree(folder / "runs" / "segmenter", folder / "runs" / "again")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_command_goes_on(area, name):
    place = area / name.replace(" ", "-")
    place.mkdir()
    made = Campaign(commands(area)[name], place)
    assert made.killed({"moment": made.moments * 2 // 3}) == ""
