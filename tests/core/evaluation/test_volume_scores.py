"""Label volumes are measured in three dimensions, with the spacing of their voxels."""

import csv

import numpy as np
import pytest
import torch
from layouts import write_volume
from monai.metrics import compute_hausdorff_distance

from transeg.core.evaluation.volume_agreement import VolumeAgreement, volume_metrics
from transeg.core.interfaces import IGNORE

pytestmark = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy")
AFFINE = np.diag([0.5, 0.75, 3.0, 1.0])


def boxes():
    truth, predicted = np.zeros((2, 30, 24, 10), np.uint8)
    truth[5:15, 5:15, 2:8] = 1
    predicted[5:15, 7:17, 2:7] = 1
    return truth, predicted


def test_metrics_in_three_dimensions():
    truth, predicted = boxes()
    dice, distance, near = volume_metrics(predicted, truth, 2, (0.5, 0.75, 3.0))
    assert dice == pytest.approx(2 * 8 * 10 * 5 / (600 + 500))
    one_hot = [torch.from_numpy(np.stack([volume == 0, volume == 1])[None]).float() for volume in (predicted, truth)]
    theirs = compute_hausdorff_distance(*one_hot, percentile=95, spacing=[0.5, 0.75, 3.0]).item()
    assert distance == pytest.approx(theirs, rel=1e-5)
    assert 0 < near < 1
    assert volume_metrics(truth, truth, 2, (0.5, 0.75, 3.0)) == [1, 0, 1]
    assert np.isnan(volume_metrics(truth, truth, 3, (1, 1, 1))[3:]).all()
    unknown = np.where(truth != predicted, IGNORE, truth).astype(np.uint8)
    assert volume_metrics(predicted, unknown, 2, (1, 1, 1))[0] == 1


def test_measure_takes_volumes(toolkit, tmp_path):
    truth, predicted = boxes()
    for name in ("a", "b"):
        write_volume(tmp_path / "data" / "images" / f"{name}.nii.gz", truth.astype(np.int16) * 100 + 1, AFFINE)
        write_volume(tmp_path / "data" / "labels" / f"{name}.nii.gz", truth, AFFINE)
        write_volume(tmp_path / "made" / f"{name}.nii.gz", truth if name == "a" else predicted, AFFINE)
    for axis in (2, 0):
        line = ["measure", tmp_path / "made", "--test", f"nifti:{tmp_path / 'data'}", "--split", "all"]
        toolkit(*line, "--set", f"axis={axis}", "-o", tmp_path / "out")
        with next((tmp_path / "out").glob("*_volumes.csv")).open(newline="") as file:
            rows = {row["name"]: row for row in csv.DictReader(file)}
        assert (rows["a"]["dice"], rows["a"]["hd95_mm"]) == ("1.000000", "0.000000")
        wanted = volume_metrics(predicted, truth, 2, (0.5, 0.75, 3.0))
        assert [float(rows["b"][key]) for key in ("dice", "hd95_mm", "surface_dice")] == pytest.approx(wanted, abs=1e-5)
        slices = [path for path in (tmp_path / "out").glob("*.csv") if not path.name.endswith("_volumes.csv")]
        with slices[0].open(newline="") as file:
            assert len(list(csv.DictReader(file))) == 2 * truth.shape[axis]
    assert "--count is for mask files" in " ".join(
        toolkit(*line, "--count", "-o", tmp_path / "o", code=2).stderr.split()
    )
    (tmp_path / "made" / "b.nii.gz").unlink()
    assert "There is no volume b.nii.gz of" in " ".join(toolkit(*line, "-o", tmp_path / "p", code=2).stderr.split())
    write_volume(tmp_path / "made" / "b.nii.gz", predicted, np.diag([1.0, 1, 1, 1]))
    assert "different affines" in " ".join(toolkit(*line, "-o", tmp_path / "q", code=1).stderr.split())


def test_a_volume_whose_slices_are_not_all_read_is_left_out(caplog, tmp_path):
    truth, predicted = boxes()
    agreement = VolumeAgreement(
        ("background", "a", "b"), {"one": 10, "two": 10}, dict.fromkeys(("one", "two"), (3, 1, 1))
    )
    for group, count in (("one", 10), ("two", 9)):
        for number in reversed(range(count)):
            agreement.add(f"{group}_{number}", group, predicted[:, :, number], truth[:, :, number])
    found = agreement.summary()
    assert found["volumes"] == 1
    assert found["classes"]["a"]["dice"] == pytest.approx(2 * 8 * 10 * 5 / (600 + 500))
    assert found["classes"]["a"]["dice_ci"] is None  # of a single volume
    assert found["classes"]["b"] == dict.fromkeys(found["classes"]["b"])
    assert "two is not measured as a whole: 1 of its 10 slices were not read" in caplog.text
    agreement.write(tmp_path / "volumes.csv")
    assert (
        (tmp_path / "volumes.csv").read_text().splitlines()[0].startswith("name,dice_a,hd95_mm_a,surface_dice_a,dice_b")
    )
