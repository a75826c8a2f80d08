import os
import shutil

import pytest

from transeg.core.registry import Registry
from transeg.tools.doctor import places
from transeg.tools.doctor.places import check_cache, check_current_folder, check_data_root


def test_data(tmp_path, monkeypatch):
    registry = Registry()
    monkeypatch.delenv("TRANSEG_DATA", raising=False)
    assert check_data_root(registry).state == "ok"
    monkeypatch.setenv("TRANSEG_DATA", str(tmp_path))
    assert check_data_root(registry).state == "note"
    (tmp_path / "kvasir").mkdir()
    (tmp_path / "other").mkdir()
    assert check_data_root(registry).state == "ok"
    assert check_data_root(registry).found.endswith("which holds kvasir.")
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRANSEG_DATA", str(tmp_path / "file"))
    assert "Not a directory" in check_data_root(registry).found


def test_datasets_that_may_not_be_read(tmp_path, monkeypatch):
    """Of the reading itself, since root may read everything."""
    (tmp_path / "kvasir").mkdir()
    (tmp_path / "etis").mkdir()
    monkeypatch.setenv("TRANSEG_DATA", str(tmp_path))
    monkeypatch.setattr(places, "_is_readable", lambda folder: folder.name != "etis")
    assert check_data_root(Registry()).state == "fault"
    assert check_data_root(Registry()).found.endswith("cannot be read: etis.")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everywhere")
def test_rights_are_tried(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o000)
    assert not places._is_readable(tmp_path / "locked")
    (tmp_path / "seen").mkdir(mode=0o500)
    assert places._refusal_to_write(tmp_path / "seen" / "runs") == "Permission denied"


def test_the_size_of_a_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSEG_CACHE", str(tmp_path))
    (tmp_path / "images").mkdir()
    with (tmp_path / "images" / "a.sample").open("wb") as file:
        file.truncate(3 * 2**29)
    assert "holds 1.5 GiB, and can be written to." in check_cache().found
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize(("free", "state"), [(2**29, "note"), (2**31, "ok")])
def test_the_room_for_runs(tmp_path, monkeypatch, free, state):
    monkeypatch.chdir(tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert check_current_folder().state == state


def test_runs_that_cannot_be_written(tmp_path, monkeypatch):
    """Where `runs` is a file, root may not write either."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").touch()
    assert check_current_folder().state == "fault"
    assert "Not a directory" in check_current_folder().found


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    def refuse(**_):
        raise OSError(28, os.strerror(28))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(places, "TemporaryFile", refuse)
    assert "No space left on device" in check_current_folder().found
