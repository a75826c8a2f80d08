import os
import subprocess
import sys
from contextlib import suppress

import pytest

from transeg.core import files
from transeg.core.errors import TransegError


def gone():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def left(folder, machine, process):
    hidden = folder / f".transeg-{machine}-{process}"
    hidden.mkdir(parents=True)
    (hidden / "image.png").write_bytes(b"half")
    return hidden


class TestReplacing:
    def test_nothing_of_it_is_a_file_of_the_folder_before_it_is_whole(self, tmp_path):
        place = tmp_path / "deep" / "image.png"
        with files.replacing(place) as unfinished:
            unfinished.write_text("new")
            assert unfinished.name == "image.png"  # writers go by endings
            assert not any(path.is_file() for path in place.parent.iterdir())
        assert place.read_text() == "new"
        assert list(place.parent.iterdir()) == [place]

    def test_what_was_there_outlives_a_failure(self, tmp_path):
        place = tmp_path / "table.csv"
        place.write_text("old")
        with suppress(ValueError), files.replacing(place) as unfinished:
            unfinished.write_text("half")
            raise ValueError
        assert place.read_text() == "old"
        assert list(tmp_path.iterdir()) == [place]

    def test_a_full_disk_gets_a_sentence(self, tmp_path, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(TransegError, match=r"a\.json cannot be written: No space left on device"):
            files.write_json(tmp_path / "a.json", {})
        assert list(tmp_path.iterdir()) == []

    def test_a_hard_link_keeps_its_content(self, tmp_path):
        (tmp_path / "original").write_text("original")
        os.link(tmp_path / "original", tmp_path / "link")
        files.write_text(tmp_path / "link", "new")
        assert (tmp_path / "original").read_text() == "original"

    def test_file_and_folder_are_on_the_disk_in_that_order(self, tmp_path, monkeypatch):
        synced = []
        real = os.fsync
        monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(os.fstat(handle).st_ino), real(handle)))
        files.write_json(tmp_path / "a.json", {})
        assert synced == [(tmp_path / "a.json").stat().st_ino, tmp_path.stat().st_ino]


class TestSweeping:
    def test_what_dead_processes_left_goes_and_all_else_stays(self, tmp_path):
        dead = left(tmp_path / "deep", files._machine(), gone())
        alive = left(tmp_path, files._machine(), os.getpid())
        elsewhere = left(tmp_path, "00000000", gone())
        (tmp_path / ".hidden").mkdir()
        files.sweep_unfinished(tmp_path, deep=False)
        assert dead.exists()
        files.sweep_unfinished(tmp_path)
        assert not dead.exists()
        assert alive.exists()
        assert elsewhere.exists()
        assert (tmp_path / ".hidden").exists()

    def test_what_another_machine_left_goes_after_a_day(self, tmp_path):
        elsewhere = left(tmp_path, "00000000", os.getpid())
        os.utime(elsewhere, (0, 0))
        files.sweep_unfinished(tmp_path)
        assert not elsewhere.exists()

    def test_a_folder_that_is_not_there(self, tmp_path):
        files.sweep_unfinished(tmp_path / "none")
