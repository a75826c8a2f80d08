"""`toolkit predict` on DICOM images: a mask for each frame, and nothing of a patient but where it is asked for."""

import json
import shutil

import highdicom
import numpy as np
import pydicom
import pytest
from conftest import TINY_TRAINING
from evaluations import read_rows
from layouts import CT_SLICE, write_dicom
from PIL import Image

from transeg.core.data import dicom_seg_writing

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


def test_segmentations_hold_the_same_masks_and_alone_name_the_patient(joint_run, toolkit, tmp_path):
    ct = {"SOPClassUID": pydicom.uid.CTImageStorage, "Modality": "CT", "FrameOfReferenceUID": "1.2.7"}
    ct |= {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1], "SliceThickness": 2}
    rng = np.random.default_rng(1)
    for index in range(3):
        greys = np.repeat(np.repeat(rng.integers(0, 256, (5, 4), np.uint8), 8, 0), 9, 1)
        place = {"ImagePositionPatient": [0, 0, 2 * index], "SOPInstanceUID": f"1.2.6.{index + 1}"}
        write_dicom(tmp_path / "scans" / f"IM{index}", greys, patient="XYZZY^JANE", **ct, **place)
    line = ["predict", joint_run, tmp_path / "scans", "-o", tmp_path / "out", "--format", "dicom-seg"]
    result = toolkit(*line)
    assert "DICOM-SEG, which name the patients: " in result.output
    toolkit(*line)  # over what it has written itself
    (path,) = (tmp_path / "out" / "segmentations").iterdir()
    assert path.name == "series1.dcm"
    found = highdicom.seg.segread(path)
    assert (str(found.PatientName), found.StudyInstanceUID) == ("XYZZY^JANE", "1.2.3")
    assert found.get_segment_description(1).segment_label == "polyp"
    masks = [np.asarray(Image.open(tmp_path / "out" / "masks" / f"IM{index}.png")) for index in range(3)]
    assert any(mask.any() for mask in masks)
    sources = [f"1.2.6.{index + 1}" for index in range(3)]
    assert np.array_equal(found.get_pixels_by_source_instance(sources, combine_segments=True), np.stack(masks) > 0)
    others = [other for other in (tmp_path / "out").rglob("*") if other.is_file() and other != path]
    written = [result.output.encode(), result.stderr.encode(), *(other.read_bytes() for other in others)]
    assert not any(b"XYZZY" in content for content in written)


def test_what_gets_no_segmentation_is_told_and_has_its_masks(joint_run, toolkit, scans, tmp_path, monkeypatch):
    line = ["predict", joint_run, scans, "-o", tmp_path / "out", "--format", "dicom-seg"]
    result = toolkit(*line, code=1)
    assert "4 masks in" in result.output
    assert "many.dcm and what is in its series get no DICOM-SEG: some do not say where they lie" in said(result)
    assert "XYZZY" not in result.output + result.stderr
    names = sorted(path.name for path in (tmp_path / "out" / "segmentations").iterdir())
    assert names == ["series1_1.dcm", "series2.dcm"]
    Image.fromarray(GREYS).save(tmp_path / "image.png")
    line[2:5] = [tmp_path / "image.png", "-o", tmp_path / "new"]
    assert "--format dicom-seg is for DICOM images, and" in said(toolkit(*line, code=2))
    line[2:5] = [scans, "-o", tmp_path / "new"]
    monkeypatch.setattr("transeg.core.optional_packages.find_spec", lambda _: None)
    dicom_seg_writing._highdicom.cache_clear()
    assert "pip install 'transeg[dicom]'" in said(toolkit(*line, code=2))
    assert not (tmp_path / "new").exists()


def test_series_are_learned_from_measured_as_volumes_and_come_back_as_labels(toolkit, tmp_path):
    """Its own segmentation, taken for the truth, is right in every voxel."""
    random, data = np.random.default_rng(0), tmp_path / "data"
    for patient in range(4):
        for index in range(4):
            mask = np.zeros((36, 33), np.uint8)
            mask[8:28, 6:20] = index in {1, 2}
            greys = (mask * np.int16(900) + random.integers(0, 300, mask.shape)).astype(np.int16)
            lying = {**CT_SLICE, "ImagePositionPatient": [0, 0, 3 * index]}
            who = {"patient": f"XYZZY{patient}", "study": f"1.2.{patient}", "series": f"1.2.{patient}.4"}
            write_dicom(data / "images" / str(patient) / f"IM{index}.dcm", greys, **who, **lying)
            path = data / "masks" / str(patient) / f"IM{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask * 255).save(path)
    run = tmp_path / "run"
    line = ["run", "--strategy", "supervised", "--segmenter", "unet", "--source", f"dicom:{data}"]
    line += ["--test", f"dicom:{data}", "--set", "segmenter.base=4", "data.size=32", *TINY_TRAINING]
    shown = " ".join(toolkit(*line, "data.source.ratio=[0.5, 0.25, 0.25]", "--run-dir", run).stdout.split())
    (label,) = json.loads((run / "metrics.json").read_text())["tests"]
    assert f"{label}, 1 volume, foreground: Dice" in shown
    (tested,) = {row["name"].split("_")[0] for row in read_rows(run / "evaluation" / f"{label}.csv")}
    shutil.copytree(data / "images" / tested, tmp_path / "again" / "images")
    toolkit("predict", run, tmp_path / "again" / "images", "-o", tmp_path / "out", "--format", "dicom-seg")
    assert any(np.asarray(Image.open(path)).any() for path in (tmp_path / "out" / "masks").iterdir())
    shutil.copytree(tmp_path / "out" / "segmentations", tmp_path / "again" / "masks")
    test = ["--test", f"dicom:{tmp_path / 'again'}", "--split", "all"]
    toolkit("evaluate", run, *test, "-o", tmp_path / "measured")
    (row,) = read_rows(tmp_path / "measured" / "again_volumes.csv")
    assert float(row["dice"]) == 1
