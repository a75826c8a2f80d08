import shutil
import subprocess
from pathlib import Path

import pytest

from transeg.core.registry import Registry
from transeg.core.runs.environment import describe_environment

TREE = Path(__file__).parents[3]


@pytest.mark.skipif(not (TREE / ".git").exists() or shutil.which("git") is None, reason="not a clone")
def test_a_run_says_of_which_commit_it_is():
    line = ["git", "-C", str(TREE), "rev-parse", "--short=12", "HEAD"]
    head = subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()
    assert describe_environment(Registry())["commit"].removesuffix("-dirty") == head
