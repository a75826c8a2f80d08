"""What `toolkit plugin new` writes keeps every contract, and pip installs it."""

import json
import os
import runpy
import subprocess
import sys
from typing import get_args
from unittest import SkipTest

import pytest

from transeg.testing import checks_of
from transeg.tools.plugin.new_package import Kind

KINDS = get_args(Kind)


@pytest.fixture
def written(toolkit, tmp_path, monkeypatch):
    """Write a package of a kind, and forget its modules again."""
    before = set(sys.modules)

    def make(kind, *more):
        toolkit("plugin", "new", f"fresh-{kind}", "--kind", kind, "-o", tmp_path / kind, *more)
        monkeypatch.syspath_prepend(tmp_path / kind)
        return tmp_path / kind

    yield make
    for name in set(sys.modules) - before:
        if name.startswith("fresh_"):
            del sys.modules[name]


@pytest.mark.parametrize("kind", KINDS)
def test_it_keeps_every_contract(written, kind):
    """Exports and trainings take longer: their tests are slow."""
    folder = written(kind)
    tests = runpy.run_path(str(folder / "tests" / "test_contract.py")) if kind == "dataset" else {}
    trees = {"fresh-dataset": tests["write_a_small_tree"]} if tests else {}
    checks = checks_of(folder / f"fresh_{kind}" / "registry.toml", trees=trees)
    assert len(checks) >= 3
    skipped = set()
    for check in checks:
        if not check.slow:
            try:
                check()
            except SkipTest:
                skipped.add(check.name)
    assert not skipped


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["segmenter", "generator", "strategy"])
def test_it_is_exported_and_trained(written, kind):
    for check in checks_of(written(kind) / f"fresh_{kind}" / "registry.toml"):
        if check.slow:
            check()


def test_its_own_tests_pass_and_pip_installs_it(written, tmp_path):
    folder, site = written("metric", "--licence", "MIT", "--author", 'Ada "A" Lovelace'), tmp_path / "site"
    result = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert "9 passed" in result.stdout
    line = ["pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-t", str(site), str(folder)]
    subprocess.run([sys.executable, "-m", *line], check=True, capture_output=True)
    assert 'Ada "A" Lovelace' in (folder / "LICENSE").read_text()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *filter(None, sys.path)])}
    listed = [sys.executable, "-m", "transeg", "plugin", "list", "--json"]
    rows = json.loads(subprocess.run(listed, env=environment, capture_output=True, text=True, check=True).stdout)
    (row,) = (row for row in rows if row["package"] == "fresh-metric")
    assert (row["status"], row["offers"], row["version"]) == ("ok", {"metric": ["fresh-metric"]}, "0.1.0")
    assert 0 <= row["seconds"] < 60


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("4you", "cannot be the name of a package"),
        ("my net", "cannot be the name of a package"),
        ("net-", "cannot be the name of a package"),
        ("class", "cannot be the name of a package"),
        ("json", "There is a package 'json' already"),
        ("torch", "There is a package 'torch' already"),
        ("hardnet", "The segmenter 'hardnet' is built in"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused(toolkit, tmp_path, name, words):
    said = toolkit("plugin", "new", name, "--kind", "segmenter", "-o", tmp_path / "new", code=2).stderr
    assert words in " ".join(said.split())
    assert not (tmp_path / "new").exists()


def test_a_folder_that_holds_something_stays_as_it_is(toolkit, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    said = toolkit("plugin", "new", "my-net", "--kind", "segmenter", "-o", tmp_path, code=2).stderr
    assert "is not empty and holds no package of this command; choose another folder with -o" in " ".join(said.split())
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_is_taken(toolkit, tmp_path):
    (tmp_path / "empty").mkdir()
    toolkit("plugin", "new", "My.Net", "--kind", "loss", "-o", tmp_path / "empty")
    assert "class MyNet(Loss)" in (tmp_path / "empty" / "my_net" / "loss.py").read_text()
