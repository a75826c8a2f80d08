"""`toolkit doctor`, as users call it."""

import json
import os

import pytest

from transeg.tools.doctor import command as doctor_command
from transeg.tools.doctor.finding import Finding, without_user


@pytest.fixture(autouse=True)
def sound_machine(monkeypatch, tmp_path):
    """Whatever this machine has set."""
    for name in ("TRANSEG_DATA", "TRANSEG_DISABLE_PLUGINS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRANSEG_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A plugin's package with that manifest and code."""

    def make(manifest, code=""):
        package = tmp_path / "site" / "ailing"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(code)
        (package / "registry.toml").write_text(manifest)
        info = tmp_path / "site" / "ailing-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ailing\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text("[transeg]\nailing = ailing\n")
        monkeypatch.syspath_prepend(str(tmp_path / "site"))

    return make


def findings(toolkit, *, code=0):
    document = json.loads(toolkit("doctor", "--json", code=code).stdout)
    return {
        name: [each for each in document["findings"] if each["name"] == name]
        for name in dict.fromkeys(each["name"] for each in document["findings"])
    }


def test_everything_is_looked_at_and_nothing_left_behind(toolkit, tmp_path):
    found = findings(toolkit)
    assert {*found} == {
        *("transeg", "packages", "versions", "imports", "extras", "devices", "cores", "memory", "shared memory"),
        "open files",
        *("cache", "runs", "plugins", "data"),
    }
    assert all(set(each) == {"name", "state", "found", "advice"} for group in found.values() for each in group)
    assert all(each["advice"] for group in found.values() for each in group if each["state"] != "ok")
    assert "torch 2" in found["packages"][0]["found"]
    assert not (tmp_path / "cache").exists()
    assert not any((tmp_path / "here").iterdir())


def test_a_table_fits_a_pipe(process, tmp_path):
    environment = {**os.environ, "TRANSEG_DATA": str(tmp_path / ("gone" * 30))}
    environment.pop("COLUMNS", None)
    result = process("doctor", env=environment)
    assert result.returncode == 1
    assert result.stderr == ""
    assert "\x1b" not in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 80
    assert "fault  data" in result.stdout
    assert "1 fault, " in result.stdout


def test_a_missing_data_root(toolkit, tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSEG_DATA", str(tmp_path / "gone"))
    (data,) = findings(toolkit, code=1)["data"]
    assert data["state"] == "fault"
    assert "gone, which cannot be read: No such file or directory." in data["found"]
    assert "Set TRANSEG_DATA" in data["advice"]


def test_a_plugin_whose_manifest_is_broken(toolkit, install):
    install("[plugin]\ncontract = 99\n")
    ours, theirs = findings(toolkit, code=1)["plugins"]
    assert ours["state"] == "ok"
    assert theirs["state"] == "fault"
    assert theirs["found"].startswith("ailing 1.2 is broken: ")
    assert "contract 99" in theirs["found"]
    assert "pip uninstall ailing" in theirs["advice"]


def test_a_plugin_that_cannot_be_imported(toolkit, install):
    install("[plugin]\ncontract = 2\n", "print('hello')\n{}['nothing']\n")
    *_, fault = findings(toolkit, code=1)["plugins"]
    assert fault["state"] == "fault"
    assert "The hooks of the plugin ailing are left out: KeyError: 'nothing'." in fault["found"]


def test_a_plugin_that_is_left_out(toolkit, install, monkeypatch):
    install("[plugin]\ncontract = 2\n", "1 / 0\n")
    monkeypatch.setenv("TRANSEG_DISABLE_PLUGINS", "ailing")
    _, theirs = findings(toolkit)["plugins"]
    assert theirs["state"] == "note"
    assert "left out by TRANSEG_DISABLE_PLUGINS" in theirs["found"]


def test_a_component_that_is_broken(toolkit, tmp_path):
    (tmp_path / "mine.toml").write_text('[plugin]\ncontract = 2\n[loss.none]\nentry = "gone.py:Gone"\n')
    result = toolkit("doctor", "--registry", tmp_path / "mine.toml", code=1)
    assert "loss/none is broken: its file gone.py is missing." in " ".join(result.stdout.split())


def test_a_cache_that_cannot_be_written(toolkit, tmp_path, monkeypatch):
    """Below a file, where root may not write either."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRANSEG_CACHE", str(tmp_path / "file" / "cache"))
    (cache,) = findings(toolkit)["cache"]
    assert cache["state"] == "note"
    assert "cannot be written to: Not a directory" in cache["found"]
    assert "TRANSEG_CACHE" in cache["advice"]


def test_a_check_that_fails_stops_no_other(toolkit, monkeypatch):
    def check():
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(doctor_command, "CHECKS", (check, *doctor_command.CHECKS))
    found = findings(toolkit, code=1)
    assert found["doctor"][0]["found"] == "A check failed itself: ZeroDivisionError: oh."
    assert found["memory"]


def test_reports_do_not_say_whose_they_are(toolkit, tmp_path, monkeypatch):
    home = tmp_path / "people" / "ada"
    (home / "data" / "kvasir").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LOGNAME", "ada")
    monkeypatch.setenv("TRANSEG_DATA", str(home / "data"))
    monkeypatch.setenv("TRANSEG_CACHE", str(tmp_path / "scratch" / "ada" / "cache"))
    text = toolkit("doctor", "--json").stdout
    assert "TRANSEG_DATA names ~/data, which holds kvasir." in text
    assert "scratch/USER/cache" in text
    assert "ada" not in text


def test_names_that_only_begin_like_the_users_stay(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("LOGNAME", "ada")
    said = Finding("x", "ok", "/home/adam/x /home/ada/x /home/ada. /data/ada.old /data/ada/x", "")
    assert without_user(said).found == "/home/adam/x ~/x ~. /data/ada.old /data/USER/x"
