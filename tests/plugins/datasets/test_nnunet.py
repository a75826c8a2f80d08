import json

import numpy as np
import pytest
from layouts import nnunet, pixels, save

from transeg.core.errors import DataError
from transeg.core.interfaces import IGNORE, About, Sample, Written
from transeg.plugins.datasets.nnunet import NNUNet, NNUNetWriter


@pytest.fixture
def tree(tmp_path):
    nnunet(tmp_path)
    return tmp_path


def describe(root, **changes):
    path = root / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def names(dataset):
    return {dataset[index].name for index in range(len(dataset))}


def test_labels_count_by_their_numbers_and_what_is_unknown_is_ignored(tree):
    dataset = NNUNet(tree, "all")
    assert dataset.classes == ("background", "myelin", "axon")
    sample = dataset[0]
    assert sample.image.shape == (20, 24, 3)
    assert (sample.image == pixels(0)).all()
    assert (sample.mask[:2, :2] == IGNORE).all()
    assert set(np.unique(sample.mask)) == {0, 1, IGNORE}


def test_labelled_test_images_are_the_test_set(tree):
    assert names(NNUNet(tree, "test")) == {f"ts_{index:03d}" for index in range(4)}
    assert len(NNUNet(tree, "train")) == 7
    assert len(NNUNet(tree, "val")) == 1
    for path in (tree / "labelsTs").iterdir():
        path.unlink()
    (tree / "labelsTs").rmdir()
    assert names(NNUNet(tree, "test")) < {f"tr_{index:03d}" for index in range(8)}


def test_the_folds_of_nnunet_decide(tree):
    file = tree / "splits_final.json"
    cases = [f"tr_{index:03d}" for index in range(8)]
    file.write_text(json.dumps([{"train": cases[2:], "val": cases[:2]}, {"train": cases[:4], "val": cases[4:]}]))
    assert names(NNUNet(tree, "val", splits=file, fold=1)) == set(cases[4:])
    assert names(NNUNet(tree, "train", splits=file, fold=0)) == set(cases[2:])
    assert len(NNUNet(tree, "test", splits=file)) == 4
    with pytest.raises(ValueError, match="2 folds, so there is no fold 2"):
        NNUNet(tree, "val", splits=file, fold=2)


def test_channels_in_files_of_their_own_are_stacked(tmp_path):
    nnunet(tmp_path)
    for part in ("Tr", "Ts"):
        for path in (tmp_path / f"images{part}").glob("*_0000.png"):
            save(path, pixels(1)[:, :, 0])
            save(path.with_name(path.name.replace("_0000", "_0001")), pixels(1)[:, :, 1])
    describe(tmp_path, channel_names={"0": "SEM", "1": "TEM"})
    dataset = NNUNet(tmp_path, "all")
    assert (dataset[0].image == pixels(1)[:, :, :2]).all()
    (tmp_path / "imagesTr" / "tr_003_0000.png").unlink()
    assert "tr_003" in NNUNet(tmp_path, "all").faults[0].reason


def test_what_does_not_fit_is_reported(tree):
    (tree / "labelsTr" / "tr_001.png").unlink()
    (tree / "imagesTr" / "tr_002_0000.png").unlink()
    save(tree / "imagesTr" / "loose.png", pixels(0))
    reasons = [fault.reason for fault in NNUNet(tree, "all").faults]
    assert len(reasons) == 3
    assert any("has no labels tr_001.png" in reason for reason in reasons)
    assert any("tr_002.png holds the labels of no image" in reason for reason in reasons)
    assert any("case_0000.png" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"labels": {"background": 0, "whole": [1, 2]}}, "region"),
        ({"labels": {"background": 0, "axon": 2}}, r"not \[0, 2\]"),
        ({"file_ending": ".nii.gz"}, ".nii.gz files"),
        ({"modality": {"0": "SEM"}}, "nnU-Net v1"),
        ({"channel_names": None}, "channel_names"),
    ],
)
def test_a_description_that_cannot_be_used_is_refused(tree, changes, reason):
    describe(tree, **changes)
    with pytest.raises(ValueError, match=reason):
        NNUNet(tree, "train")


def test_a_folder_that_is_something_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no dataset.json"):
        NNUNet(tmp_path, "train")


def sample(name, mask, image=None):
    return Sample(np.zeros((4, 5, 1), np.uint8) if image is None else image, mask, name, name)


def test_the_description_says_what_was_written(tmp_path):
    writer = NNUNetWriter(tmp_path, About(("background", "axon"), 1, "Axons"))
    mask = np.zeros((4, 5), np.uint8)
    writer.add(sample("a", mask), "train")
    writer.add(sample("b", mask), "val")
    writer.add(sample("c", None), "test")
    written = [Written(name, split, name) for name, split in (("a", "train"), ("b", "val"), ("c", "test"))]
    writer.finish(written)
    described = json.loads((tmp_path / "dataset.json").read_text())
    assert described == {
        "name": "Axons",
        "channel_names": {"0": "channel 0"},
        "labels": {"background": 0, "axon": 1},
        "numTraining": 2,
        "file_ending": ".png",
    }
    assert sorted(path.name for path in tmp_path.glob("images*/*")) == ["a_0000.png", "b_0000.png", "c_0000.png"]
    assert not (tmp_path / "labelsTs").exists()
    mask[0, 0] = IGNORE
    writer.add(sample("d", mask), "train")
    writer.finish([*written, Written("d", "train", "d")])
    assert json.loads((tmp_path / "dataset.json").read_text())["labels"] == {"background": 0, "axon": 1, "ignore": 2}


def test_what_nnunet_cannot_hold_is_refused(tmp_path):
    writer = NNUNetWriter(tmp_path, About(("background", "axon"), 1, "Axons"))
    with pytest.raises(DataError, match="trains on labelled images only"):
        writer.add(sample("a", None), "train")
    mask = np.zeros((4, 5), np.uint8)
    writer.add(sample("a", mask), "train")
    writer.add(sample("b", mask, np.zeros((4, 5, 1), np.float32)), "train")
    with pytest.raises(DataError, match="several types"):
        writer.finish([Written("a", "train", "a"), Written("b", "train", "b")])
