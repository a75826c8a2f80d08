"""Built-in components use nothing that others cannot: one of each kind, moved out of the house, passes the suite."""

import shutil
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from unittest import SkipTest

import pytest
import tomli_w

import transeg
from transeg.core.evaluation.metrics.table import TABLE
from transeg.testing import checks_of

HOUSE = Path(transeg.__file__).parent
MOVED = {
    "segmenter/resunet": {"base": 4},
    "generator/cut": {"width": 4, "blocks": 5, "patches": 8},
    "loss/dice": {},
    "dataset/folder": {},
    "strategy/supervised": {},
    "metric/cldice": {},
    "command/list": {},
}


def entry_of(kind, name):
    """What a manifest says of a built-in component; of metrics, which are in none, what it would."""
    if kind == "metric":
        told = TABLE[name]
        return {key: getattr(told, key) for key in ("entry", "summary", "title", "higher_is_better")}
    return tomllib.loads((HOUSE / "registry.toml").read_text())[kind][name]


def move_out(component, place):
    """A package with the files of a component's kind, or its one file, and a manifest of that component alone, under
    another name.
    """
    kind, name = component.split("/")
    entry = entry_of(kind, name)
    package = place / f"outside_{kind}"
    if entry["entry"].startswith("transeg.plugins."):
        own = entry["entry"].removeprefix("transeg.plugins.")
        source = own.partition(".")[0]
        shutil.copytree(HOUSE / "plugins" / source, package / source, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        module, _, attribute = entry["entry"].partition(":")
        file = HOUSE.parent.joinpath(*module.split(".")).with_suffix(".py")
        package.mkdir()
        shutil.copy(file, package / f"moved_{file.name}")
        own = f"moved_{file.stem}:{attribute}"
    (package / "__init__.py").touch()
    for file in package.rglob("*.py"):
        file.write_text(file.read_text().replace("transeg.plugins.", f"{package.name}."))
    manifest = {
        "plugin": {"contract": 2},
        kind: {"moved": {**entry, "entry": f"{package.name}.{own}"}},
    }
    (package / "registry.toml").write_text(tomli_w.dumps(manifest))
    return package


@pytest.mark.parametrize("component", MOVED)
def test_a_built_in_component_passes_as_one_of_others(component, tmp_path, monkeypatch):
    kind = component.split("/")[0]
    package = move_out(component, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    checks = checks_of(package / "registry.toml", kind=kind, options={f"{kind}/moved": MOVED[component]})
    quick = [check for check in checks if not check.slow]
    assert len(quick) > 2
    for check in quick:
        with suppress(SkipTest):
            check()
    used = [name for name in sys.modules if name.startswith(package.name)]
    assert len(used) > 1  # the moved files are what was checked
