"""`toolkit predict` on NIfTI volumes: labels that lie where the volume does."""

import json

import nibabel
import numpy as np
import pytest
from conftest import TINY_TRAINING
from evaluations import read_rows
from layouts import LYING, write_volume
from PIL import Image

from transeg.core.data.volume_file import VolumeFile

RANGE = "range=[0,255]"


@pytest.fixture
def scans(tmp_path):
    random = np.random.default_rng(0)
    for name in ("a.nii.gz", "b.nii"):
        write_volume(tmp_path / "scans" / name, random.integers(0, 256, (40, 5, 36), dtype=np.int16))
    return tmp_path / "scans"


def said(result):
    return " ".join(result.stderr.split())


def test_labels_lie_where_the_volume_does(joint_run, toolkit, scans, tmp_path):
    out = tmp_path / "out"
    result = toolkit("predict", joint_run, scans, "-o", out, "--set", RANGE, "--set", "axis=1")
    assert "2 label volumes in" in result.output
    assert sorted(path.name for path in (out / "masks").iterdir()) == ["a.nii.gz", "b.nii.gz"]
    made = nibabel.load(out / "masks" / "a.nii.gz")
    assert made.shape == (40, 5, 36)
    assert np.allclose(made.affine, LYING)
    assert made.get_data_dtype() == np.uint8
    assert set(np.unique(made.dataobj)) <= {0, 1}
    volume, labels = VolumeFile(scans / "a.nii.gz", "this"), VolumeFile(out / "masks" / "a.nii.gz", "this")
    pixels = np.repeat((volume.image(1, 3, (0, 255)) * 255).round().astype(np.uint8), 3, axis=2)
    Image.fromarray(pixels).save(tmp_path / "slice.png")
    toolkit("predict", joint_run, tmp_path / "slice.png", "-o", tmp_path / "image")
    mask = np.asarray(Image.open(tmp_path / "image" / "masks" / "slice.png")) > 0
    assert ((labels.labels(1, 3) > 0) == mask).mean() > 0.99
    toolkit("predict", joint_run, scans, "-o", out, "--set", RANGE)  # over what it has written itself


def test_damaged_volumes_are_named_and_others_segmented(joint_run, toolkit, scans, tmp_path):
    content = (scans / "a.nii.gz").read_bytes()
    (scans / "cut.nii.gz").write_bytes(content[: len(content) // 2])
    (scans / "text.nii").write_bytes(b"nothing")
    result = toolkit("predict", joint_run, scans, "-o", tmp_path / "out", code=1)
    assert "2 label volumes in" in result.output
    assert "2 images could not be segmented" in said(result)
    assert "text.nii is no NIfTI file" in said(result)
    assert not (tmp_path / "out" / "masks" / "cut.nii.gz").exists()


def test_nothing_is_written_over_and_options_that_do_not_fit_are_told(joint_run, toolkit, scans, tmp_path):
    (tmp_path / "out" / "masks").mkdir(parents=True)
    (tmp_path / "out" / "masks" / "a.nii.gz").write_bytes(b"mine")
    line = ["predict", joint_run, scans / "a.nii.gz", "-o", tmp_path / "out"]
    assert "a.nii.gz is there already" in said(toolkit(*line, code=2))
    assert (tmp_path / "out" / "masks" / "a.nii.gz").read_bytes() == b"mine"
    for more, clause in (
        (["--probabilities"], "--probabilities is for image files, and"),
        (["--format", "geojson"], "--format is for image files, and"),
        (["--set", "axis=3"], "--set axis=3 must be 0 for sagittal"),
        (["--set", "page=1"], "--set page is for images of several pages"),
        (["--fps", 2], "--fps is for a video"),
    ):
        assert clause in said(toolkit(*line, *more, code=2))
    write_volume(scans / "a.nii", np.zeros((4, 5, 6), np.int16))
    assert "Several volumes in" in said(toolkit("predict", joint_run, scans, "-o", tmp_path / "new", code=2))


def test_volumes_are_measured_as_such_by_runs_and_evaluations_as_their_predicted_labels_are(toolkit, tmp_path):
    random = np.random.default_rng(0)
    for name in ("a", "b", "c", "d"):
        labels = np.zeros((36, 33, 4), np.uint8)
        labels[8:28, 6:20, 1:3] = 1
        image = (labels.astype(int) * 900 + random.integers(0, 300, labels.shape)).astype(np.int16)
        write_volume(tmp_path / "data" / "images" / f"{name}.nii.gz", image, np.diag([0.5, 0.75, 3.0, 1.0]))
        write_volume(tmp_path / "data" / "labels" / f"{name}.nii.gz", labels, np.diag([0.5, 0.75, 3.0, 1.0]))
    data, run = f"nifti:{tmp_path / 'data'}", tmp_path / "run"
    line = ["run", "--strategy", "supervised", "--segmenter", "unet", "--source", data, "--test", data]
    line += ["--set", "segmenter.base=4", "data.size=32", *TINY_TRAINING, "data.source.ratio=[0.5, 0.25, 0.25]"]
    shown = " ".join(toolkit(*line, "--run-dir", run).stdout.split())
    (label,) = json.loads((run / "metrics.json").read_text())["tests"]
    found = json.loads((run / "metrics.json").read_text())["tests"][label]["volumes"]
    assert found["volumes"] == 1
    assert f"{label}, 1 volume, foreground: Dice" in shown
    (of_run,) = read_rows(run / "evaluation" / f"{label}_volumes.csv")
    assert f"{float(of_run['dice']):.3f}" == f"{found['classes']['foreground']['dice']:.3f}"
    toolkit("evaluate", run, "-o", tmp_path / "again")
    assert read_rows(tmp_path / "again" / f"{label}_volumes.csv") == [of_run]
    volume = tmp_path / "data" / "images" / f"{of_run['name']}.nii.gz"
    toolkit("predict", run, volume, "-o", tmp_path / "out")
    toolkit("measure", tmp_path / "out" / "masks", "--test", data, "--split", "test", "-o", tmp_path / "measured")
    (table,) = (tmp_path / "measured").glob("*_volumes.csv")
    assert read_rows(table) == [of_run]
