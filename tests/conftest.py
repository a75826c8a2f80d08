import gc
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from transeg.cli import main

signal.signal(signal.SIGINT, signal.default_int_handler)  # where a shell runs tests in the background, it is ignored

TINY_DATA = ["data.size=32", "data.source.count=10", "data.source.side=32"]
TINY_TRAINING = ["train.iterations=3", "train.batch_size=2", "train.val_interval=2", "train.checkpoint_interval=2"]
TINY_CUT = ["generator.width=4", "generator.blocks=5", "generator.patches=8"]
TINY_CYCLEGAN = ["generator.width=4", "generator.blocks=1"]
TINY_SYNDIFF = [
    "generator.preset=small",
    "generator.width=4",
    "generator.multipliers=[1, 1]",
    "generator.discriminator_width=4",
    "generator.translator_width=4",
    "generator.translator_blocks=1",
]
TINY_TARGET = ["data.target.count=10", "data.target.side=32"]
TINY_TEST = ["data.test.phantom.count=10", "data.test.phantom.side=32"]

SUPERVISED = ["--segmenter", "unet"], [*TINY_DATA, *TINY_TRAINING, *TINY_TEST, "segmenter.base=4"]
TRANSLATION = ["--generator", "cut"], [*TINY_DATA, *TINY_TRAINING, *TINY_CUT, *TINY_TARGET]
BOTH = (
    ["--generator", "cut", "--segmenter", "unet"],
    [*TINY_DATA, *TINY_TRAINING, *TINY_CUT, *TINY_TARGET, *TINY_TEST, "segmenter.base=4"],
)


@pytest.fixture(autouse=True)
def frozen():
    """What earlier tests have left, modules above all, is kept out of the collections that every training asks for."""
    gc.collect()
    gc.freeze()


def command(parts, *more):
    """Arguments of `toolkit run` for a tiny run."""
    options, settings = parts
    return ["run", *options, *(text for setting in settings for text in ("--set", setting)), *map(str, more)]


@pytest.fixture(scope="session")
def toolkit():
    """The command line, in this process."""

    def call(*arguments, code=0):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return call


@pytest.fixture
def process():
    """The command line, in a process of its own."""

    def call(*arguments, **options):
        line = [sys.executable, "-m", "transeg", *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, **options)

    return call


@pytest.fixture(scope="session")
def joint_run(tmp_path_factory):
    """A finished joint run, for tests that use one."""
    folder = tmp_path_factory.mktemp("runs") / "joint"
    result = CliRunner().invoke(main, command(BOTH, "--run-dir", folder))
    assert result.exit_code == 0, result.output
    return folder
