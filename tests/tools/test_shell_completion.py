import os
import subprocess
import sys

import pytest

CODE = """
import sys
from transeg.cli import main
try:
    main(prog_name="toolkit")
except SystemExit:
    heavy = {"torch", "numpy", "mmengine", "optuna"} & set(sys.modules)
    assert not heavy, heavy
"""


@pytest.fixture
def offered(tmp_path):
    """What the shell gets for the last word of a line, in a folder with a run and a sweep."""
    for run in ("runs/mine", "runs/sweep/cells/0001", "runs/sweep/cells/0002"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "experiment.toml").touch()

    def complete(line):
        words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        said = {**os.environ, "_TOOLKIT_COMPLETE": "bash_complete", **words}
        arguments = [sys.executable, "-c", CODE]
        shown = subprocess.check_output(arguments, env=said, cwd=tmp_path, text=True)
        return [text.removeprefix("plain,") for text in shown.split()]

    return complete


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("toolkit sw", ["sweep"]),
        ("toolkit run --gen", ["--generator"]),
        ("toolkit data down", ["download"]),
        ("toolkit run --generator pix", ["pix2pix"]),
        ("toolkit sweep grid --segmenter hard", ["hardnet"]),
        ("toolkit run --loss dice+0.5*focal", ["dice+0.5*focal", "dice+0.5*focal-tversky"]),
        ("toolkit run --distill c", ["cwd"]),
        ("toolkit evaluate runs/mine --test kv", ["kvasir"]),
        ("toolkit data import panny", []),
        ("toolkit run --strategy s", ["supervised", "sequential", "self-training"]),
        ("toolkit search --set train.lr=1 train.l", ["train.lr=", "train.log_interval="]),
        ("toolkit run --set data.test", []),  # whose tables have names of the user's
        ("toolkit predict r", ["runs/mine", "runs/sweep/"]),
        ("toolkit evaluate runs/mine --translate-with runs/s", ["runs/sweep/cells/0001", "runs/sweep/cells/0002"]),
        ("toolkit watch nothing", []),
    ],
)
def test_names_are_completed_and_nothing_heavy_is_imported(offered, line, names):
    assert offered(line) == names
