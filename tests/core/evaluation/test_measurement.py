"""Mask files from anywhere, from the command line to the files."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from transeg.core.data.wrapper import DatasetWrapper
from transeg.core.evaluation.measurement import measure_masks
from transeg.plugins.datasets.folder import Folder

SIZE = (12, 16)
CLASSES = "classes=['background', 'myelin', 'axon']"


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def data(tmp_path):
    """Two images; the first is all myelin, the second has both classes."""
    truth = {"a": np.full(SIZE, 1), "b": np.zeros(SIZE)}
    truth["b"][2:8, 2:8] = 1
    truth["b"][4:6, 4:6] = 2
    for name, mask in truth.items():
        save(tmp_path / "clinic" / "images" / f"{name}.png", np.zeros((*SIZE, 3)))
        save(tmp_path / "clinic" / "masks" / f"{name}.png", mask)
    return truth


@pytest.fixture
def measured(toolkit, tmp_path):
    def call(*more, classes=CLASSES, code=0):
        line = ["measure", tmp_path / "masks", "--test", f"folder:{tmp_path / 'clinic'}", "--split", "all"]
        return toolkit(*line, "--set", classes, "-o", tmp_path / "out", *more, code=code)

    return call


def test_an_image_that_is_all_myelin_stays_myelin(data, measured, tmp_path):
    """Divided by its own maximum, as masks of 0, 127 and 255 often are, it would be all axon."""
    for name, mask in data.items():
        save(tmp_path / "masks" / f"{name}.png", np.array([0, 127, 255])[mask.astype(int)])
    tests = json.loads(measured("--values", "0,127,255", "--json").stdout)["tests"]["clinic"]
    assert tests["dice"] == tests["iou_myelin"] == tests["dice_axon"] == tests["surface_dice"] == 1
    assert tests["hd95_axon"] == 0
    assert tests["images"] == 2
    assert not {"ece", "mae", "ece_pooled"} & set(tests)


def test_it_gives_what_a_run_gives(data, measured, toolkit, tmp_path):
    shifted = {name: np.roll(mask, 2, axis=1) for name, mask in data.items()}
    for name, mask in shifted.items():
        save(tmp_path / "masks" / f"{name}.png", mask)
    table = " ".join(measured("--count").stdout.split())
    rows = list(csv.DictReader((tmp_path / "out" / "clinic.csv").open()))
    assert [row["name"] for row in rows] == ["a", "b"]
    assert float(rows[1]["dice_axon"]) == 0
    assert float(rows[1]["hd95_axon"]) == 2
    assert rows[0]["hd95_axon"] == ""
    for word in ("myelin", "axon", "HD95", "bias"):
        assert word in table
    assert (tmp_path / "out" / "counts" / "clinic.csv").exists()
    compared = json.loads(
        toolkit("compare", tmp_path / "out", tmp_path / "out", "--metric", "hd95_axon", "--json").stdout
    )
    assert compared["tests"]["clinic"]["metrics"]["hd95_axon"]["difference"] == 0


class Sized(DatasetWrapper):
    """Images that say how large their pixels are."""

    def __init__(self, dataset, *sizes):
        super().__init__(dataset)
        self.sizes = sizes

    def __getitem__(self, index):
        return replace(self._dataset[index], pixel_size=self.sizes[index])


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((None, None), {"hd95_axon": 2}),
        (((0.5, 0.5), (0.25, 0.25)), {"hd95_um_axon": 0.5}),
        (((0.5, 0.5), (3.0, 0.1)), {"hd95_um_axon": 0.2}),  # axons are moved along a row
        (((0.5, 0.5), None), {"hd95_axon": 2}),
    ],
)
def test_distances_are_in_one_unit(data, tmp_path, sizes, expected, caplog, toolkit):
    for name, mask in data.items():
        save(tmp_path / "masks" / f"{name}.png", np.roll(mask, 2, axis=1))
    images = Folder(tmp_path / "clinic", "all", classes=("background", "myelin", "axon"))
    table = measure_masks(tmp_path / "masks", {"set": Sized(images, *sizes)}, tmp_path / "out")["set"]
    assert {key: value for key, value in table.items() if key in ("hd95_axon", "hd95_um_axon")} == pytest.approx(
        expected
    )
    columns = (tmp_path / "out" / "set.csv").read_text().splitlines()[0].split(",")
    told = {"hd95_um" if "hd95_um_axon" in expected else "hd95"}
    assert {"hd95", "hd95_um"} & set(columns) == {"hd95", "hd95_um"} & set(table) == told
    partly = "set: the pixel size of 1 of 2 images is known, so distances are in pixels for all."
    assert (partly in caplog.text) == (sizes[1] is None and sizes[0] is not None)
    compared = json.loads(toolkit("compare", tmp_path / "out", tmp_path / "out", "--json").stdout)
    assert {"hd95", "hd95_um"} & set(compared["tests"]["set"]["metrics"]) == told


def test_two_classes_are_cut_at_half_of_the_range(data, measured, tmp_path):
    for name in data:
        save(tmp_path / "masks" / f"{name}_seg.png", np.full(SIZE, 255))
        save(tmp_path / "clinic" / "masks" / f"{name}.png", np.full(SIZE, 255))
    settings = "classes=['background', 'myelin']"
    document = json.loads(measured("--suffix", "_seg", "--json", classes=settings).stdout)
    assert document["tests"]["clinic"]["dice"] == 1
    table = measured("--suffix", "_seg", classes=settings).stdout
    assert "HD95" not in table  # of one class, which has its line already


def test_masks_of_no_image_are_named(data, measured, tmp_path, caplog):
    for name in (*data, "c"):
        save(tmp_path / "masks" / f"{name}.png", np.zeros(SIZE))
    measured()
    assert "of no measured image: 1, such as c.png" in caplog.text


@pytest.mark.parametrize(
    ("made", "options", "code", "said"),
    [
        ({}, [], 2, "the folder"),
        ({"a": SIZE}, [], 2, "has no mask b.* of an image of clinic"),
        ({"a": SIZE, "b": (3, 3)}, [], 1, "b.png has 3x3 pixels, but its image has 16x12"),
        ({"a": SIZE, "b": SIZE}, ["--values", "0,1"], 2, "2 mask values cannot stand for the classes"),
        ({"a": SIZE, "b": SIZE}, ["--values", "0,x,2"], 2, "--values 0,x,2 must be whole numbers"),
        ({"a": SIZE, "b": SIZE}, ["--values", "1,2,3"], 1, "has the pixel values [0], which stand for no class"),
        ({"a": SIZE, "b": SIZE}, ["--suffix", "_seg"], 2, "holds no mask whose name ends in '_seg'"),
    ],
)
def test_what_cannot_be_measured(data, measured, tmp_path, made, options, code, said):
    for name, size in made.items():
        save(tmp_path / "masks" / f"{name}.png", np.zeros(size))
    assert said in " ".join(measured(*options, code=code).stderr.split())
