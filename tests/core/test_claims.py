import os
from contextlib import suppress

import pytest

from transeg.core.claims import NOTE, claimed, read_note
from transeg.core.errors import UsageError
from transeg.core.files import replacing, write_text


def write(folder, text="made", *, command="predict", name="masks/a.png", inputs=()):
    with claimed(folder, command, inputs):
        write_text(folder / name, text)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_a_command_writes_over_its_own_files(out):
    write(out)
    write(out, "again")
    assert (out / "masks" / "a.png").read_text() == "again"
    assert len((out / NOTE).read_text().splitlines()) == 1


def test_not_over_those_of_a_user_or_of_another_command(out):
    write(out)
    with pytest.raises(UsageError, match=r"masks/a\.png is there already, and toolkit evaluate has not written it"):
        write(out, "other", command="evaluate")
    (out / "masks" / "b.png").write_text("mine")
    with pytest.raises(UsageError, match=r"masks/b\.png is there already"):
        write(out, name="masks/b.png")
    assert (out / "masks" / "a.png").read_text() == "made"
    assert (out / "masks" / "b.png").read_text() == "mine"


def test_not_over_one_that_a_user_has_corrected(out):
    write(out)
    (out / "masks" / "a.png").write_text("corrected")
    with pytest.raises(UsageError, match="or it was changed since"):
        write(out)
    assert (out / "masks" / "a.png").read_text() == "corrected"


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic", "hard"])
def test_not_over_a_link_to_what_is_read(out, tmp_path, link):
    """Even where an earlier call of the same command has made it."""
    write(out)
    link(out / "masks" / "a.png", tmp_path / "link.png")
    with pytest.raises(UsageError, match="is read, so nothing is written over it"):
        write(out, "again", inputs=[tmp_path / "link.png"])


def test_not_through_a_link_to_a_folder(out, tmp_path):
    (tmp_path / "set" / "masks").mkdir(parents=True)
    (tmp_path / "set" / "masks" / "a.png").write_text("truth")
    out.symlink_to(tmp_path / "set")
    with pytest.raises(UsageError, match="is there already"):
        write(out)
    (tmp_path / "set" / "masks" / "a.png").unlink()
    (tmp_path / "set" / "masks" / "a.png").symlink_to("nowhere")
    with pytest.raises(UsageError, match="is there already"):
        write(out)


@pytest.mark.parametrize("arrived", [False, True])
def test_a_command_that_was_killed_knows_its_files_again(out, arrived):
    """Before or after the file has got its name; a kill may have cut the line before short."""
    write(out)
    with suppress(KeyboardInterrupt), claimed(out, "predict"), replacing(out / "masks" / "a.png") as unfinished:
        unfinished.write_text("again")
        raise KeyboardInterrupt
    with (out / NOTE).open("a") as note:
        note.write('["predict", "masks/b.p')
    with claimed(out, "predict"):
        write_text(out / "masks" / "c.png", "c")
        if arrived:
            write_text(out / "masks" / "a.png", "again")
    write(out, "once more")
    assert (out / "masks" / "a.png").read_text() == "once more"


def test_what_lies_outside_is_not_claimed(out, tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with claimed(out, "predict"):
        write_text(tmp_path / "a.txt", "new")
    assert not out.exists()


def test_a_folder_that_is_all_one_command_s(tmp_path):
    assert read_note(tmp_path / "new" / "note.json", "conversion") == {}
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UsageError, match="is not empty and holds no conversion"):
        read_note(tmp_path / "note.json", "conversion")
    with pytest.raises(UsageError, match="is a file, not a folder"):
        read_note(tmp_path / "mine.txt" / "note.json", "conversion")
