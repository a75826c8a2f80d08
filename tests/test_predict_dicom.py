"""`toolkit predict` on DICOM images: a mask for each frame, and nothing of a patient."""

import numpy as np
import pytest
from layouts import write_dicom
from PIL import Image

GREYS = np.random.default_rng(0).integers(0, 256, (40, 36), dtype=np.uint8)


@pytest.fixture
def scans(tmp_path):
    write_dicom(tmp_path / "scans" / "a" / "IM1", GREYS, patient="XYZZY^JANE")
    write_dicom(tmp_path / "scans" / "b" / "1.2.3", GREYS, patient="XYZZY^JANE", series="1.2.9")
    write_dicom(tmp_path / "scans" / "many.dcm", np.stack([GREYS, GREYS]), NumberOfFrames=2, patient="XYZZY^JANE")
    return tmp_path / "scans"


def said(result):
    return " ".join(result.stderr.split())


def test_every_frame_gets_a_mask_as_its_image_would(joint_run, toolkit, scans, tmp_path):
    out = tmp_path / "out"
    result = toolkit("predict", joint_run, scans, "-o", out)
    assert "4 masks in" in result.output
    wanted = ["a_IM1.png", "b_1.2.3.png", "many_0000.png", "many_0001.png"]
    for folder in ("masks", "overlays"):
        assert sorted(path.name for path in (out / folder).iterdir()) == wanted
    Image.fromarray(GREYS).save(tmp_path / "image.png")
    toolkit("predict", joint_run, tmp_path / "image.png", "-o", tmp_path / "plain")
    assert (out / "masks" / "a_IM1.png").read_bytes() == (tmp_path / "plain" / "masks" / "image.png").read_bytes()
    written = [path.read_bytes() for path in out.rglob("*") if path.is_file()]
    assert not any(b"XYZZY" in content for content in [*written, result.output.encode(), result.stderr.encode()])
    assert "2 masks in" in toolkit("predict", joint_run, scans / "many.dcm", "-o", tmp_path / "two").output


def test_bad_files_are_named_and_options_that_do_not_fit_are_told(joint_run, toolkit, scans, tmp_path):
    content = (scans / "a" / "IM1").read_bytes()
    (scans / "a" / "cut.dcm").write_bytes(content[:-100])
    (scans / "a" / "text.dcm").write_bytes(b"nothing")
    result = toolkit("predict", joint_run, scans, "-o", tmp_path / "out", code=1)
    assert "4 masks in" in result.output
    assert "text.dcm is no DICOM file" in said(result)
    assert "cut.dcm cannot be decoded (Explicit VR Little Endian)" in said(result)
    line = ["predict", joint_run, scans, "-o", tmp_path / "new"]
    for more, clause in (
        (["--count"], "--count is for image files, and"),
        (["--format", "coco"], "--format is for image files, and"),
        (["--set", "page=1"], "all frames of a DICOM file are segmented"),
    ):
        assert clause in said(toolkit(*line, *more, code=2))
