import importlib
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from transeg.core.errors import TransegError, UsageError
from transeg.core.manifest import CONTRACT, OLDEST_CONTRACT
from transeg.core.registry import Registry

MANIFEST = """
[plugin]
contract = 1
[segmenter.{name}]
entry = "{package}.net:Net"
summary = "A test"
params = 12
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Write a plugin's package into a folder on the path, with an entry point, without pip."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(package, manifest=None, init="", net="class Net: pass\n", point=None, module=None):
        folder = tmp_path.joinpath(*(module or package).split("."))
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(textwrap.dedent(init))
        if net is not None:
            (folder / "net.py").write_text(net)
        if manifest is not False:
            text = manifest or MANIFEST.format(name="tiny", package=module or package)
            (folder / "registry.toml").write_text(text)
        info = tmp_path / f"{package}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[transeg]\n{point or package} = {module or package}\n")
        importlib.invalidate_caches()

    yield write
    for name, module in list(sys.modules.items()):
        if str(tmp_path) in (getattr(module, "__file__", None) or ""):
            del sys.modules[name]


def statuses(registry):
    return {component.package: (component.status, component.reason) for component in registry.components("segmenter")}


def test_built_in_components_come_by_the_same_way():
    registry = Registry()
    assert registry.plugins[0].package == "transeg"
    assert {c.name for c in registry.components("segmenter")} >= {"hardnet", "unet"}
    assert {c.name for c in registry.components("loss")} >= {"bce", "dice", "log-dice", "iou", "structure", "focal"}
    assert all(c.status == "ok" for c in registry.components())


def test_a_plugin_is_listed_without_being_imported(install):
    install("quiet_plugin", init="import sys\nsys.quiet_plugin_was_imported = True\n")
    registry = Registry()
    component = registry.find("segmenter", "tiny")
    assert (component.package, component.version, component.entry.params) == ("quiet_plugin", "1.2", 12)
    assert not hasattr(sys, "quiet_plugin_was_imported")
    assert registry.load(component).__name__ == "Net"


def test_a_plugin_in_a_sub_package_is_found_without_importing_its_parent(install, tmp_path):
    install("nested_plugin", module="nested_parent.inner")
    (tmp_path / "nested_parent" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    assert Registry().find("segmenter", "tiny").package == "nested_plugin"


@pytest.mark.parametrize(
    ("kwargs", "reason"),
    [
        ({"init": "raise RuntimeError('boom')\n"}, "raises an exception when it is imported (line 1)"),
        ({"init": "import surely_not_installed\n"}, "imports surely_not_installed, which is not installed"),
        ({"init": "def broken(:\n"}, "is not valid Python"),
        ({"net": None}, "its file net.py is missing"),
        ({"net": "class Other: pass\n"}, "net.py has no 'Net'"),
        ({"net": "import surely_not_installed\nclass Net: pass\n"}, "imports surely_not_installed"),
    ],
)
def test_what_can_be_seen_to_be_broken_is(install, kwargs, reason):
    install("broken_plugin", **kwargs)
    registry = Registry()
    status, found = statuses(registry)["broken_plugin"]
    assert status == "broken"
    assert reason in found
    with pytest.raises(UsageError, match="pip uninstall broken_plugin"):
        registry.find("segmenter", "tiny")
    assert registry.find("segmenter", "unet").status == "ok"


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ("[plugin\n", "is not valid TOML"),
        ("[segmenter.x]\nentry = 'a:B'\n", "the table [plugin] is missing"),
        (
            "[plugin]\ncontract = 99\n",
            "is written for contract 99, but this transeg speaks contract 2: install a newer transeg",
        ),
        (
            "[plugin]\ncontract = 0\n",
            "for contract 0, but this transeg speaks contract 2 and reads from 1 on: install a newer release of",
        ),
        ("[plugin]\ncontract = 1\n[segmenter.x]\nentry = 'nonsense'\n", "segmenter.x: Expected `str` matching regex"),
        (
            "[plugin]\ncontract = 1\n[segmenter.x]\nentry = 'a:B'\nparms = 3\n",
            "segmenter.x: The table contains unknown field `parms`",
        ),
        ("[plugin]\ncontract = 2\n[segmentr.x]\nentry = 'a:B'\n", "there is no table [segmentr]"),
        (False, "cannot read"),
    ],
)
def test_a_broken_manifest_harms_nothing(install, manifest, reason):
    install("bad_manifest", manifest=manifest)
    registry = Registry()
    (plugin,) = (p for p in registry.plugins if p.package == "bad_manifest")
    assert plugin.status == "broken"
    assert reason in plugin.reason
    assert registry.find("segmenter", "hardnet").status == "ok"


def test_the_policy_of_contracts_is_that_of_the_code():
    text = (Path(__file__).parents[2] / "docs" / "plugins" / "first.md").read_text()
    assert f"speaks contract {CONTRACT} and reads contracts from {OLDEST_CONTRACT} on" in text
    assert [line.split("|")[1].strip() for line in text.splitlines() if re.match(r"\| \d+ \|", line)] == [
        str(contract) for contract in range(1, CONTRACT + 1)
    ]


def test_a_packages_own_manifest_works_before_it_is_installed(tmp_path, monkeypatch):
    package = tmp_path / "early_plugin"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "layers.py").write_text("WIDTH = 3\n")
    (package / "net.py").write_text("from early_plugin.layers import WIDTH\nclass Net: width = WIDTH\n")
    (package / "registry.toml").write_text(MANIFEST.format(name="early", package="early_plugin"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    registry = Registry([package / "registry.toml"])
    component = registry.find("segmenter", "early")
    assert (component.package, component.status) == ("early_plugin", "ok")
    assert registry.load(component).width == 3
    for name in [name for name in sys.modules if name.startswith("early_plugin")]:
        del sys.modules[name]


def test_an_entry_point_to_nowhere_harms_nothing(install, tmp_path):
    install("lost_plugin")
    shutil.rmtree(tmp_path / "lost_plugin")
    (plugin,) = (p for p in Registry().plugins if p.package == "lost_plugin")
    assert plugin.status == "broken"
    assert "cannot be found" in plugin.reason


def test_two_plugins_of_one_name_are_both_there(install):
    install("plugin_one")
    install("plugin_two")
    registry = Registry()
    assert statuses(registry)["plugin_one"][0] == statuses(registry)["plugin_two"][0] == "conflict"
    with pytest.raises(UsageError, match="plugin_one:tiny or plugin_two:tiny"):
        registry.find("segmenter", "tiny")
    assert registry.find("segmenter", "plugin_two:tiny").package == "plugin_two"


def test_the_built_in_keeps_its_name(install):
    install("usurper", manifest=MANIFEST.format(name="unet", package="usurper"))
    registry = Registry()
    assert registry.find("segmenter", "unet").package == "transeg"
    assert registry.find("segmenter", "usurper:unet").package == "usurper"
    assert {c.package: c.status for c in registry.components("segmenter") if c.name == "unet"} == {
        "transeg": "ok",
        "usurper": "conflict",
    }


@pytest.mark.parametrize("names", ["quiet_plugin", "*", "other, quiet_plugin"])
def test_plugins_can_be_left_out(install, monkeypatch, names):
    install("quiet_plugin")
    monkeypatch.setenv("TRANSEG_DISABLE_PLUGINS", names)
    registry = Registry()
    assert {p.package: p.status for p in registry.plugins}["quiet_plugin"] == "disabled"
    assert registry.find("segmenter", "unet").package == "transeg"
    with pytest.raises(UsageError):
        registry.find("segmenter", "tiny")


def test_unknown_names_get_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'hardnet'"):
        Registry().find("segmenter", "hartnet")


def test_a_component_that_fails_to_load_gets_a_sentence(install):
    install("late_plugin", net="class Net: pass\n1 / 0\n")
    registry = Registry()
    with pytest.raises(TransegError, match=r"segmenter/tiny of late_plugin cannot be loaded: ZeroDivisionError"):
        registry.load(registry.find("segmenter", "tiny"))


def test_a_file_of_ones_own_counts_too(tmp_path):
    (tmp_path / "mynet.py").write_text("class MyNet: pass\n")
    file = tmp_path / "mine.toml"
    file.write_text('[plugin]\ncontract = 1\n[segmenter.mynet]\nentry = "mynet.py:MyNet"\n')
    registry = Registry([file])
    assert registry.load(registry.find("segmenter", "mynet")).__name__ == "MyNet"
    file.write_text("[nonsense]\n")
    with pytest.raises(UsageError, match="--registry"):
        Registry([file])


def test_files_of_one_name_in_two_folders_are_two(tmp_path):
    """A program may work with the plugins of two projects."""
    found = []
    for folder in ("one", "two", "one"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "same.py").write_text(f"class Net:\n    folder = {folder!r}\n")
        manifest = tmp_path / folder / "mine.toml"
        manifest.write_text('[plugin]\ncontract = 1\n[segmenter.net]\nentry = "same.py:Net"\n')
        registry = Registry([manifest])
        found.append(registry.load(registry.find("segmenter", "net")))
    assert [net.folder for net in found] == ["one", "two", "one"]
    assert found[0] is found[2]


def test_what_a_plugin_prints_is_no_result(tmp_path, capsys):
    (tmp_path / "chatty.py").write_text("print('hello')\nclass Thing: ...\n")
    manifest = tmp_path / "mine.toml"
    manifest.write_text('[plugin]\ncontract = 1\n\n[loss.thing]\nentry = "chatty.py:Thing"\n')
    registry = Registry([manifest])
    registry.load(registry.find("loss", "thing"))
    assert capsys.readouterr() == ("", "hello\n")


def test_hooks_of_plugins_are_called_and_a_broken_one_is_left_out(install):
    hook = """
        from transeg.core.hookspecs import hookimpl
        @hookimpl
        def transeg_runner_hooks(experiment):
            return [f"hook for {experiment}"]
    """
    install("hooked_plugin", init=hook)
    install("failing_plugin", init="1 / 0\n", manifest=MANIFEST.format(name="other", package="failing_plugin"))
    relay, failures = Registry().plugin_hooks()
    assert ["hook for me"] in relay.transeg_runner_hooks(experiment="me")
    (failure,) = failures
    assert "failing_plugin" in failure
    assert "ZeroDivisionError" in failure


def test_unknown_hooks_are_said(install):
    init = """
        from transeg.core.hookspecs import hookimpl
        @hookimpl
        def transeg_no_such_hook():
            pass
    """
    install("eager_plugin", init=init)
    _, failures = Registry().plugin_hooks()
    assert any("eager_plugin" in failure and "transeg_no_such_hook" in failure for failure in failures)


def test_discovery_imports_nothing_heavy():
    code = """
        import sys, transeg, transeg.cli, transeg.core.registry
        transeg.core.registry.Registry().plugins
        heavy = {"torch", "numpy", "mmengine", "albumentations", "timm", "torchmetrics", "torchvision", "cv2", "PIL"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_a_component_whose_extra_is_not_installed_says_how_to_get_it(install):
    manifest = MANIFEST.format(name="tiny", package="needy") + 'requires = "big"\n'
    install("needy", manifest, net="import nothing_of_that_name\nclass Net: pass\n")
    (component,) = (c for c in Registry().components("segmenter") if c.name == "tiny")
    assert component.status == "missing"
    with pytest.raises(UsageError, match=r"needs more than is installed: pip install 'needy\[big\]'"):
        Registry().find("segmenter", "tiny")


def test_what_a_manifest_of_contract_1_does_not_say_its_class_does(tmp_path):
    (tmp_path / "old.py").write_text(
        "from transeg.core.interfaces import Dataset\n"
        "class Old(Dataset):\n"
        "    classes = ('background', 'cell', 'wall')\n"
        "    needs_root = False\n"
        "    preset = {'data': {'size': 64}}\n"
    )
    manifest = '[plugin]\ncontract = {}\n[dataset.old]\nentry = "old.py:Old"\n'
    for contract, classes, needs_root, preset in (
        (1, ("background", "cell", "wall"), False, {"data": {"size": 64}}),
        (2, ("background", "foreground"), True, {}),
    ):
        (tmp_path / "old.toml").write_text(manifest.format(contract))
        registry = Registry([tmp_path / "old.toml"])
        entry = registry.describe(registry.find("dataset", "old"))
        assert (entry.classes, entry.needs_root, entry.preset) == (classes, needs_root, preset)
