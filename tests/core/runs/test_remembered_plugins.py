import json

import pytest

from transeg.core.errors import UsageError
from transeg.core.registry import Registry
from transeg.core.runs.environment import describe_environment
from transeg.core.runs.remembered_plugins import include_plugins


@pytest.fixture
def made(tmp_path):
    """A run folder that was made with a manifest of the user's; gives the folder and the manifest."""

    def make(place):
        manifest = tmp_path / place / "mine.toml"
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_text('[plugin]\ncontract = 1\n\n[loss.mine]\nentry = "mine.py:Mine"\n')
        (manifest.parent / "mine.py").write_text("class Mine: ...\n")
        (tmp_path / "run").mkdir(exist_ok=True)
        environment = describe_environment(Registry([manifest]))
        (tmp_path / "run" / "environment.json").write_text(json.dumps(environment))
        return tmp_path / "run", manifest

    return make


def test_what_a_run_was_made_with_is_found_again(made):
    run, manifest = made("plugins")
    for experiment in (run / "experiment.toml", run / "baseline" / "experiment.toml"):
        registry = Registry()
        for _ in range(2):
            include_plugins(experiment, registry)
        assert registry.load(registry.find("loss", "mine")).__name__ == "Mine"
        assert registry.files == (manifest,)


def test_a_manifest_that_is_not_there_any_more_is_named(made):
    run, manifest = made("plugins")
    manifest.unlink()
    registry = Registry()
    include_plugins(run / "experiment.toml", registry)
    with pytest.raises(
        UsageError, match=rf"There is no loss 'mine'\. The run was made with {manifest}.*--registry FILE"
    ):
        registry.find("loss", "mine")


def test_a_run_brings_no_code_along(made):
    run, _ = made("run/plugins")
    registry = Registry()
    include_plugins(run / "experiment.toml", registry)
    with pytest.raises(UsageError, match="There is no loss 'mine'"):
        registry.find("loss", "mine")


@pytest.mark.parametrize("text", [None, "", "[]", '{"plugins": {}}'])
def test_runs_that_remember_nothing_are_read(tmp_path, text):
    if text is not None:
        (tmp_path / "environment.json").write_text(text)
    include_plugins(tmp_path / "experiment.toml", Registry())
