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


@pytest.mark.parametrize("way", ["relative", "around", "of a stage"])
def test_a_run_brings_no_code_along_by_another_way(made, tmp_path, monkeypatch, way):
    """Each path names the manifest that lies in the run."""
    run, manifest = made("run/plugins")
    (run / "experiment.toml").touch()
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path)
    stage = run / "fold-1" if way == "of a stage" else run
    stage.mkdir(exist_ok=True)
    ways = {"relative": "run/plugins/mine.toml", "around": f"{tmp_path}/else/../run/plugins/mine.toml"}
    (stage / "environment.json").write_text(json.dumps({"registry": [ways.get(way, str(manifest))]}))
    registry = Registry()
    include_plugins(stage / "experiment.toml", registry)
    assert registry.files == ()
    with pytest.raises(UsageError, match="There is no loss 'mine'"):
        registry.find("loss", "mine")


@pytest.mark.parametrize("text", [None, "", "[]", '{"plugins": {}}', '{"registry": [3, null]}', '{"registry": 3}'])
def test_runs_that_remember_nothing_are_read(tmp_path, text):
    if text is not None:
        (tmp_path / "environment.json").write_text(text)
    include_plugins(tmp_path / "experiment.toml", Registry())
