"""Plugins of others, installed by pip into an environment of their own that sees this one's packages."""

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from conftest import TINY_DATA, TINY_TARGET, TINY_TEST, TINY_TRAINING, command

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A virtual environment without packages but a path to this one's."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip())
    parents = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    lines = [f"import site; site.addsitedir({path!r})" for path in sorted(parents)]
    (site / "parent.pth").write_text("\n".join(lines) + "\n")
    return python


def install(python, sources, tmp_path):
    copies = [shutil.copytree(source, tmp_path / source.name) for source in sources]  # building leaves files behind
    line = [python, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index", *map(str, copies)]
    result = subprocess.run(line, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def toolkit(python, *arguments):
    return subprocess.run([python, "-m", "transeg", *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture
def broken(tmp_path):
    """Write a plugin's source with something wrong in it."""

    def make(name, init="", manifest=None, net="class Net: pass\n"):
        root = tmp_path / "src" / name
        package = root / name
        package.mkdir(parents=True)
        (root / "pyproject.toml").write_text(
            '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
            f'[project]\nname = "{name}"\nversion = "1"\n[project.entry-points.transeg]\n{name} = "{name}"\n'
            f'[tool.setuptools]\npackages = ["{name}"]\n[tool.setuptools.package-data]\n{name} = ["registry.toml"]\n'
        )
        (package / "__init__.py").write_text(init)
        if net is not None:
            (package / "net.py").write_text(net)
        default = f'[plugin]\ncontract = 1\n[segmenter.{name}-net]\nentry = "{name}.net:Net"\n'
        (package / "registry.toml").write_text(default if manifest is None else manifest)
        return root

    return make


@pytest.mark.slow
def test_plugins_of_others(environment, broken, tmp_path):
    raising = broken("raising", init="raise RuntimeError('boom')\n")
    others = raising, broken("unparsable", manifest="[plugin\n"), broken("hollow", net=None)
    install(environment, [EXAMPLE, *others], tmp_path)

    rows = json.loads(toolkit(environment, "list", "--json").stdout)
    by_package = {}
    for row in rows:
        by_package.setdefault(row["package"], []).append(row)
    assert {(r["kind"], r["name"], r["status"]) for r in by_package["transeg-example"]} == {
        ("segmenter", "two-layers", "ok"),
        ("loss", "squared", "ok"),
        ("strategy", "pseudo-labels", "ok"),
        ("metric", "brier", "ok"),
    }
    assert [r["status"] for r in by_package["raising"]] == ["broken"]
    assert [r["status"] for r in by_package["hollow"]] == ["broken"]
    assert [(r["kind"], r["status"]) for r in by_package["unparsable"]] == [("plugin", "broken")]
    assert all(row["status"] == "ok" for row in by_package["transeg"])
    table = toolkit(environment, "list")
    assert table.returncode == 0
    for word in ("two-layers", "raising", "unparsable", "broken"):
        assert word in table.stdout

    # the example trains beside the broken ones, and its hook runs
    parts = ["--segmenter", "two-layers", "--loss", "squared+dice"], [*TINY_DATA, *TINY_TRAINING, *TINY_TEST]
    run = tmp_path / "run"
    result = toolkit(environment, *command(parts, "--run-dir", run, "--set", "segmenter.width=4"))
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert any({"train/squared", "train/dice", "train/weight_norm"} <= set(line) for line in lines)
    assert toolkit(environment, "info", "segmenter/two-layers").returncode == 0

    # so does its strategy of two stages, resumed between them, searched and swept
    options = ["--strategy", "pseudo-labels", "--segmenter", "two-layers", "--target", "phantom:scope"]
    settings = [*TINY_DATA, *TINY_TRAINING, *TINY_TARGET, *TINY_TEST, "loss.name=squared+dice", "strategy.certain=0.5"]
    run = tmp_path / "two-stages"
    result = toolkit(environment, *command((options, settings), "--source", "phantom:clean", "--run-dir", run))
    assert result.returncode == 0, result.stderr
    for path in ("teacher/checkpoints/best.pt", "pseudo-labelled/manifest.json", "checkpoints/best.pt"):
        assert (run / path).exists()
    before = (run / "metrics.json").read_bytes()
    shutil.rmtree(run / "checkpoints")
    result = toolkit(environment, "run", "--run-dir", run, "--resume")
    assert result.returncode == 0, result.stderr
    assert (run / "metrics.json").read_bytes() == before
    line = [*command((options, settings), "--source", "phantom:clean")[1:]]
    found = toolkit(environment, "search", *line, "--space", "strategy.certain=0.5..0.9", "--trials", "1",
                    "--search-dir", tmp_path / "search")  # fmt: skip
    assert found.returncode == 0, found.stderr
    swept = toolkit(environment, "sweep", tmp_path / "sweep", *line, "--seed", "0", "--seed", "1", "--json")
    assert swept.returncode == 0, swept.stderr
    assert len(list((tmp_path / "sweep").rglob("teacher/checkpoints/best.pt"))) == 2

    # using a broken one is an error of a sentence
    result = toolkit(environment, "run", "--segmenter", "raising-net")
    assert result.returncode == 2
    assert "pip uninstall raising" in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_the_example_keeps_its_manifest():
    """Its number of parameters, without installing it."""
    sys.path.insert(0, str(EXAMPLE))
    try:
        from transeg_example.two_layers import TwoLayers
    finally:
        sys.path.remove(str(EXAMPLE))
    assert sum(p.numel() for p in TwoLayers(3, 1).parameters()) == 1617
