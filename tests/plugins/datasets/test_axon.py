import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from layouts import axon, fibres, pixels, save

from transeg.core.errors import DataError
from transeg.core.interfaces import IGNORE, About, Sample, Written
from transeg.plugins.datasets.axon import Axon, AxonWriter

REAL = Path(os.environ.get("TRANSEG_DATA", "/nonexistent"))
LABELS = Path("derivatives", "labels")


@pytest.fixture
def tree(tmp_path):
    axon(tmp_path, count=4)
    return tmp_path


def mask_of(tree, index, what="axonmyelin", domain="SEM"):
    subject = f"sub-rat{index // 2 + 1}"
    return tree / LABELS / subject / "micr" / f"{subject}_sample-data{index}_{domain}_seg-{what}-manual.png"


def sidecar(tree, name, content):
    (tree / name).write_text(json.dumps(content))


def names(dataset):
    return [dataset[index].name for index in range(len(dataset))]


def test_greys_are_classes_and_subjects_are_groups(tree):
    dataset = Axon(tree, "all", domain="TEM")
    sample = dataset[0]
    assert dataset.classes == ("background", "myelin", "axon")
    assert (sample.name, sample.group) == ("sub-rat1_sample-data0_TEM", "sub-rat1")
    assert (sample.image[:, :, 0] == pixels(0)[:, :, 0]).all()
    assert (sample.mask == np.select([fibres(0) == 255, fibres(0) == 127], [2, 1])).all()
    assert sample.pixel_size == (0.1, 0.2)
    assert len(dataset) == 8


def test_the_nearest_grey_counts_and_alpha_is_dropped(tree, caplog):
    greys = fibres(0)
    greys[0, :4] = (128, 130, 233, 20)
    colours = np.repeat(greys[:, :, None], 4, axis=2)
    colours[:, :, 3] = 255
    save(mask_of(tree, 0), colours)
    with caplog.at_level(logging.WARNING, "transeg.data"):
        mask = Axon(tree, "all")[0].mask
        Axon(tree, "all")[0]
    assert mask[0, :5].tolist() == [1, 1, 2, 0, 0]
    assert (mask[1:] == np.select([fibres(0) == 255, fibres(0) == 127], [2, 1])[1:]).all()
    assert sum("[20, 130, 233]" in message for message in caplog.messages) == 1


def test_masks_of_axons_and_myelin_are_put_together(tree):
    for index in range(8):
        whole = mask_of(tree, index)
        save(mask_of(tree, index, "axon"), (fibres(index) == 255).astype(np.uint8) * 255)
        save(mask_of(tree, index, "myelin"), (fibres(index) > 0).astype(np.uint8) * 255)
        expected = Axon(tree, "all")[0].mask if index == 0 else None
        whole.unlink()
        if expected is not None:
            assert (Axon(tree, "all")[0].mask == expected).all()
    assert len(Axon(tree, "all")) == 8
    mask_of(tree, 3, "axon").unlink()
    dataset = Axon(tree, "all")
    assert len(dataset) == 7
    assert "but not both" in dataset.faults[0].reason


def test_images_without_labels_are_left_out_unless_they_are_asked_for(tree, caplog):
    mask_of(tree, 5).unlink()
    with caplog.at_level(logging.WARNING, "transeg.data"):
        assert len(Axon(tree, "all")) == 7
        Axon(tree, "train")
    assert sum("1 of 8 images have no labels" in message for message in caplog.messages) == 1
    everything = Axon(tree, "all", unlabelled=True)
    assert len(everything) == 8
    assert all(everything[index].mask is None for index in range(8))
    assert all(everything[index].pixel_size == (0.1, 0.2) for index in range(8))


def test_a_domain_without_any_labels_is_unlabelled(tree):
    for index in range(8):
        mask_of(tree, index, domain="TEM").unlink()
    dataset = Axon(tree, "all", domain="TEM")
    assert len(dataset) == 8
    assert dataset[0].mask is None


def test_sessions_and_older_folders_are_found(tmp_path):
    axon(tmp_path, place="microscopy", count=3)
    assert len(Axon(tmp_path, "all")) == 6
    stem = "sub-rat1_ses-2_sample-data9_SEM"
    save(tmp_path / "sub-rat1" / "ses-2" / "micr" / f"{stem}.tif", pixels(1))
    save(tmp_path / LABELS / "sub-rat1" / "ses-2" / "micr" / f"{stem}_seg-axonmyelin-manual.png", fibres(1))
    dataset = Axon(tmp_path, "all")
    assert stem in names(dataset)
    assert {sample.group for sample in (dataset[i] for i in range(7)) if sample.name == stem} == {"sub-rat1"}


@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [([70, 50], "nm", (0.07, 0.05)), (0.0001, "mm", (0.1, 0.1)), ([0.2, 0.3, 5], "µm", (0.2, 0.3))],
)
def test_pixel_sizes_are_brought_to_micrometres(tree, size, unit, expected):
    sidecar(tree, "sub-rat2/micr/sub-rat2_sample-data2_SEM.json", {"PixelSize": size, "PixelSizeUnits": unit})
    assert Axon(tree, "all")[2].pixel_size == pytest.approx(expected)


def test_the_sidecar_that_is_nearest_to_an_image_counts(tree):
    for path in tree.rglob("*_SEM.json"):
        path.unlink()
    assert Axon(tree, "all")[0].pixel_size is None
    sidecar(tree, "SEM.json", {"PixelSize": [1, 1], "PixelSizeUnits": "um"})
    sidecar(tree, "sub-rat1/sub-rat1_SEM.json", {"PixelSize": [2, 2]})
    sidecar(tree, "sub-rat1/micr/sub-rat1_sample-data1_SEM.json", {"PixelSize": [3, 3]})
    sidecar(tree, "sub-rat1/micr/sub-rat1_sample-other_SEM.json", {"PixelSize": [4, 4]})
    dataset = Axon(tree, "all")
    assert [dataset[index].pixel_size[0] for index in range(3)] == [2, 3, 1]


@pytest.mark.parametrize(
    "content",
    [
        {"PixelSize": [1, 1]},
        {"PixelSize": [1, 1], "PixelSizeUnits": "inch"},
        {"PixelSize": [0, 1], "PixelSizeUnits": "um"},
    ],
)
def test_a_pixel_size_that_says_nothing_is_reported(tree, content):
    sidecar(tree, "sub-rat2/micr/sub-rat2_sample-data2_SEM.json", content)
    assert "PixelSize" in Axon(tree, "all").faults[0].reason


def test_lists_may_name_subjects_or_images(tree):
    splits = tree / "splits.json"
    lists = {"train": ["sub-rat1", "sub-rat9"], "val": ["sub-rat2_sample-data2_SEM"], "test": ["sub-rat3", "sub-rat4"]}
    splits.write_text(json.dumps(lists))
    assert [len(Axon(tree, split, splits=splits)) for split in ("train", "val", "test")] == [2, 1, 4]


def test_one_subject_is_not_cut(tmp_path):
    axon(tmp_path, count=1)
    assert [len(Axon(tmp_path, split)) for split in ("train", "val", "test", "all")] == [2, 0, 0, 2]


def test_the_old_layout_of_axondeepseg_is_read(tmp_path):
    for index in range(4):
        save(tmp_path / f"rat{index}" / "image.png", pixels(index)[:, :, 0])
        save(tmp_path / f"rat{index}" / "mask.png", fibres(index))
        (tmp_path / f"rat{index}" / "pixel_size_in_micrometer.txt").write_text("0.07\n")
    sample = Axon(tmp_path, "all")[1]
    assert (sample.name, sample.group, sample.pixel_size) == ("rat1", "rat1", (0.07, 0.07))
    assert set(np.unique(sample.mask)) == {0, 1, 2}


def test_a_mask_of_class_numbers_is_refused(tree):
    save(mask_of(tree, 0), (fibres(0) > 0).astype(np.uint8))
    with pytest.raises(DataError, match="0, 127 and 255"):
        Axon(tree, "all")[0]


def test_a_folder_that_is_something_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match="sub-"):
        Axon(tmp_path, "train")


def test_what_bids_cannot_hold_is_refused(tmp_path):
    with pytest.raises(ValueError, match="SEM or TEM"):
        AxonWriter(tmp_path, About(Axon.classes, 1, "mine"))
    with pytest.raises(ValueError, match="not background, polyp"):
        AxonWriter(tmp_path, About(("background", "polyp"), 1, "mine", "SEM"))
    writer = AxonWriter(tmp_path, About(Axon.classes, 1, "mine", "SEM"))
    with pytest.raises(DataError, match="without a label"):
        writer.add(Sample(np.zeros((4, 4, 1), np.uint8), np.full((4, 4), IGNORE), "a", "b"), "train")


def test_two_domains_share_a_tree_that_other_programs_read(tmp_path):
    mask = np.zeros((4, 4), np.uint8)
    mask[0, :2] = (1, 2)
    for domain in ("SEM", "TEM"):
        writer = AxonWriter(tmp_path, About(Axon.classes, 1, "mine", domain))
        name = f"sub-rat1_sample-data1_{domain}"
        writer.add(Sample(np.zeros((4, 4, 1), np.uint8), mask, name, "sub-rat1", pixel_size=(0.1, 0.2)), "test")
        writer.finish([Written(name, "test", "sub-rat1", (0.1, 0.2))])
    place = tmp_path / "sub-rat1" / "micr"
    assert json.loads((place / "sub-rat1_sample-data1_TEM.json").read_text()) == {
        "PixelSize": [0.1, 0.2],
        "PixelSizeUnits": "um",
    }
    assert (tmp_path / "participants.tsv").read_text() == "participant_id\nsub-rat1\n"
    assert (tmp_path / "samples.tsv").read_text().splitlines()[1] == "sample-data1\tsub-rat1\ttissue"
    assert len(Axon(tmp_path, "test", domain="SEM")) == len(Axon(tmp_path, "test", domain="TEM")) == 1
    for domain in ("SEM", "TEM"):  # without the manifest, the layout itself says the same
        (tmp_path / "manifest.json").unlink(missing_ok=True)
        sample = Axon(tmp_path, "all", domain=domain)[0]
        assert (sample.name, sample.group, sample.pixel_size) == (
            f"sub-rat1_sample-data1_{domain}",
            "sub-rat1",
            (0.1, 0.2),
        )
        assert (sample.mask == mask).all()


@pytest.mark.skipif(not (REAL / "axon-sem").is_dir(), reason="TRANSEG_DATA has no axon-sem/")
def test_the_real_images():
    dataset = Axon(REAL / "axon-sem", "all")
    samples = {dataset[index].name: dataset[index] for index in range(len(dataset))}
    assert not dataset.faults
    assert len(samples) == 8
    assert {sample.group for sample in samples.values()} == {f"sub-rat{number}" for number in (1, 2, 3, 5, 7, 8)}
    assert samples["sub-rat3_sample-data11_SEM"].pixel_size == (0.1, 0.1)
    for sample in samples.values():
        assert set(np.unique(sample.mask)) == {0, 1, 2}


@pytest.mark.skipif(not (REAL / "axon-tem").is_dir(), reason="TRANSEG_DATA has no axon-tem/")
def test_the_real_image_of_the_other_domain():
    dataset = Axon(REAL / "axon-tem", "all", domain="TEM")
    assert len(dataset) == 1
    assert dataset[0].pixel_size == (0.00236, 0.00236)
    assert dataset[0].size == dataset.size_of(0) == (1332, 2000)
