"""The experiment files under examples/ can be run."""

import tomllib
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parent.parent / "examples" / "experiments").glob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_experiment_is_whole(path, toolkit):
    """With the phantom in place of the data that it is for."""
    experiment = tomllib.loads(path.read_text())
    data = ["--source", "phantom", "--test", "phantom:clean", "--set", "data.source.side=256"]
    if experiment.get("generator", {}).get("name") in ("cut", "syndiff"):
        data += ["--target", "phantom"]
    plan = toolkit("run", "--config", path, *data, "--dry-run").stdout
    strategy = experiment["strategy"]
    assert (strategy if isinstance(strategy, str) else strategy["name"]) in plan
    assert f"{experiment['train']['iterations']:,} iterations" in plan
