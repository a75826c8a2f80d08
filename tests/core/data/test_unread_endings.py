import logging

import pytest
from PIL import Image

from transeg.core.data import unread_endings
from transeg.core.data.file_dataset import list_pairs
from transeg.core.data.unread_endings import KINDS, VIDEO, count_unread, describe_unread
from transeg.core.data.video_frames import ENDINGS
from transeg.core.errors import UsageError
from transeg.core.inference.prediction import list_image_files


@pytest.fixture(autouse=True)
def _forget_what_was_said():
    unread_endings._said.clear()


def fill(folder, *names):
    for name in names:
        (folder / name).write_bytes(b"x")


def test_files_that_nothing_reads_are_counted_and_named(tmp_path):
    fill(tmp_path, "a.MP4", "b.mp4", "c.nii.gz", "d.dcm", "notes.txt", ".e.dcm", "f.v2.svs")
    assert count_unread(tmp_path) == {".mp4": 2, ".nii.gz": 1, ".dcm": 1, ".svs": 1}
    said = describe_unread(tmp_path)
    assert said.startswith(
        "holds 2 videos (.mp4), 1 NIfTI volume (.nii.gz), 1 DICOM file (.dcm), 1 whole slide (.svs), "
    )
    assert f"ffmpeg -i {tmp_path / 'a.MP4'} frames/%06d.png" in said
    assert describe_unread(tmp_path / "c.nii.gz").startswith(
        f"is a NIfTI volume, which transeg does not read as images; name it as a dataset, nifti:{tmp_path / 'c.nii.gz'}"
    )
    assert describe_unread(tmp_path / "notes.txt") == ""


def test_every_video_is_called_one():
    assert {ending for ending in KINDS if KINDS[ending] is VIDEO} == set(ENDINGS)


def test_commands_name_them(tmp_path, caplog):
    fill(tmp_path, "scope.mp4")
    for path in (tmp_path, tmp_path / "scope.mp4"):
        with pytest.raises(
            UsageError, match=r"video.*which transeg does not read as images; name it as a dataset, video:.*ffmpeg"
        ):
            list_image_files(path)
    with pytest.raises(ValueError, match=r"holds 1 video .*ffmpeg"):
        list_pairs(tmp_path, None)
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with caplog.at_level(logging.WARNING):
        assert [path.name for path in list_image_files(tmp_path)] == ["a.png"]
        assert len(list_pairs(tmp_path, None)[0]) == 1
    assert caplog.text.count("holds 1 video (.mp4), which transeg does not read") == 1
