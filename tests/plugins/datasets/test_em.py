import os
from pathlib import Path

import numpy as np
import pytest
from layouts import em, pixels

from transeg.core.errors import DataError
from transeg.core.interfaces import About, Sample
from transeg.plugins.datasets.em import EM, EMWriter

REAL = Path(os.environ.get("TRANSEG_DATA", "/nonexistent")) / "em-vnc" / "stack1"


def test_one_kind_of_labels_is_read(tmp_path):
    em(tmp_path)
    sample = EM(tmp_path, "all", pixel_um=0.0046)[3]
    assert (sample.name, sample.pixel_size) == ("03", (0.0046, 0.0046))
    assert (sample.mask == (pixels(3)[:, :, 0] > 128)).all()


def test_nine_classes_belong_to_sections_by_number(tmp_path):
    em(tmp_path)
    dataset = EM(tmp_path, "all", labels="labels")
    assert len(dataset.classes) == 9
    assert not dataset.faults
    assert (dataset[3].mask == (pixels(3)[:, :, 0] % 9 + 1) % 9).all()  # 255 stands for the first


def test_classes_and_values_may_be_ones_own(tmp_path):
    em(tmp_path)
    values = (0, 32, 64, 96, 128, 159, 191, 223)
    names = ("background", *(f"kind {number}" for number in range(1, 8)))
    dataset = EM(tmp_path, "all", labels="labels", classes=names, values=values, ignore=255)
    assert set(np.unique(dataset[0].mask)) == {*range(8), 255}


def test_sections_are_shared_out_in_order(tmp_path):
    em(tmp_path)
    parts = [EM(tmp_path, split, ratio=(0.6, 0.2, 0.2)) for split in ("train", "val", "test")]
    names = [[part[index].name for index in range(len(part))] for part in parts]
    assert names == [["00", "01", "02", "03", "04", "05"], ["06", "07"], ["08", "09"]]


def test_folders_that_are_not_there_are_said(tmp_path):
    with pytest.raises(ValueError, match="raw/"):
        EM(tmp_path, "all")
    em(tmp_path)
    with pytest.raises(ValueError, match="did you mean 'membranes'"):
        EM(tmp_path, "all", labels="membrane")


def test_images_without_labels_are_refused(tmp_path):
    writer = EMWriter(tmp_path, About(("background", "membrane"), 1, "mine"))
    with pytest.raises(DataError, match="no mask"):
        writer.add(Sample(np.zeros((4, 4, 1), np.uint8), None, "a", "a"), "train")


@pytest.mark.skipif(not REAL.is_dir(), reason="TRANSEG_DATA has no em-vnc/")
@pytest.mark.parametrize(("labels", "least"), [("membranes", 2), ("mitochondria", 2), ("synapses", 1), ("labels", 8)])
def test_the_real_sections(labels, least):
    dataset = EM(REAL, "all", labels=labels)
    assert len(dataset) == 6
    assert not dataset.faults
    for index in range(6):
        assert dataset[index].size == (1024, 1024)
        assert least <= len(np.unique(dataset[index].mask)) <= len(dataset.classes)
