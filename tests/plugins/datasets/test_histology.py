"""The readers of histology sets, on small trees in the official layouts and on real fixtures where there are any."""

import logging
import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import yaml
from layouts import (
    annotation,
    consep,
    glas,
    monuseg,
    objects,
    pannuke,
    pixels,
    save,
    tissue,
    unitopatho,
    unitopatho_mask,
)
from scipy.io import savemat

from transeg.core.errors import DataError
from transeg.plugins.datasets.consep import CoNSeP
from transeg.plugins.datasets.glas import GlaS
from transeg.plugins.datasets.monuseg import MoNuSeg, fill_polygons
from transeg.plugins.datasets.pannuke import PanNuke, flatten_labels
from transeg.plugins.datasets.tissue import Tissue
from transeg.plugins.datasets.unitopatho import UniToPatho, UniToPathoMask

REAL = Path(os.environ.get("TRANSEG_DATA", "/nonexistent"))


def names(dataset):
    return [dataset[i].name for i in range(len(dataset))]


def real(path):
    if not (REAL / path).exists():
        pytest.skip(f"TRANSEG_DATA has no {path}")
    return REAL / path


class TestPanNuke:
    def test_classes_and_numbers(self, tmp_path):
        pannuke(tmp_path)
        sample = PanNuke(tmp_path, "train")[0]
        assert sample.image.dtype == np.uint8
        assert (sample.image == pixels(10, 32, 32)).all()
        assert sample.mask[3, 3] == sample.mask[3, 9] == 1
        assert sample.mask[21, 3] == 5
        assert (sample.mask > 0).sum() == 48
        assert [sample.instances[3, 3], sample.instances[3, 9], sample.instances[21, 3]] == [1, 2, 3]

    def test_where_classes_overlap_the_first_counts(self):
        channels = np.zeros((4, 4, 6))
        channels[:2, :, 1], channels[1:3, :, 3] = 8, 8
        mask, instances = flatten_labels(channels)
        assert mask[:, 0].tolist() == [2, 2, 4, 0]
        assert instances[:, 0].tolist() == [1, 1, 2, 0]

    @pytest.mark.parametrize("dtype", [np.float64, np.uint8, np.uint16, np.int32])
    def test_any_dtype_is_the_same(self, tmp_path, dtype):
        pannuke(tmp_path / "a", folds=[1])
        pannuke(tmp_path / "b", folds=[1], dtype=dtype)
        one, two = PanNuke(tmp_path / "a", "all")[1], PanNuke(tmp_path / "b", "all")[1]
        assert (one.image == two.image).all()
        assert (one.instances == two.instances).all()

    def test_each_archive_unpacked_into_a_folder_of_its_name(self, tmp_path):
        for fold in (1, 2, 3):
            pannuke(tmp_path / f"fold_{fold}", folds=[fold])
        assert len(PanNuke(tmp_path, "all")) == 15

    @pytest.mark.parametrize(("protocol", "folds"), [(1, "123"), (2, "213"), (3, "321")])
    def test_the_official_runs(self, tmp_path, protocol, folds):
        pannuke(tmp_path)
        for split, fold in zip(("train", "val", "test"), folds, strict=True):
            found = names(PanNuke(tmp_path, split, protocol=protocol))
            assert len(found) == 5
            assert all(name.startswith(f"fold{fold}_") for name in found)

    @pytest.mark.parametrize("wanted", ["Adrenal_gland", "adrenal gland", "ADRENALGLAND"])
    def test_one_tissue(self, tmp_path, wanted):
        pannuke(tmp_path)
        assert names(PanNuke(tmp_path, "train", tissue=wanted)) == ["fold1_0001_Adrenal_gland"]
        assert len(PanNuke(tmp_path, "all", tissue=("colon", "HeadNeck"))) == 9
        with pytest.raises(ValueError, match=r"no tissue 'Colom' \(did you mean 'Colon'\?\)"):
            PanNuke(tmp_path, "train", tissue="Colom")

    def test_missing_folds_leave_their_splits_empty(self, tmp_path, caplog):
        pannuke(tmp_path, folds=[1])
        with caplog.at_level(logging.WARNING):
            assert [len(PanNuke(tmp_path, split)) for split in ("train", "val", "test", "all")] == [5, 0, 0, 5]
        assert "so the split val is empty" in caplog.text
        with pytest.raises(ValueError, match="none of the folders Fold 1"):
            PanNuke(tmp_path / "Fold 1", "train")

    def test_a_fold_is_never_in_memory_nor_sent_to_workers(self, tmp_path):
        """A sparse file of 1.3 GB, of which a patch has 3 MB."""
        images, masks = tmp_path / "Fold 1/images/fold1", tmp_path / "Fold 1/masks/fold1"
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for path, channels in ((images / "images.npy", 3), (masks / "masks.npy", 6)):
            np.lib.format.open_memmap(path, "w+", np.float64, (400, 256, 256, channels))
        np.save(images / "types.npy", np.array(["Colon"] * 400))
        tracemalloc.start()
        dataset = PanNuke(tmp_path, "train")
        sample = dataset[399]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert sample.image.shape == (256, 256, 3)
        assert peak < 20e6
        assert len(pickle.dumps(dataset)) < 1e5

    def test_damaged_files_get_a_sentence(self, tmp_path):
        pannuke(tmp_path, folds=[1])
        images = tmp_path / "Fold 1/images/fold1/images.npy"
        dataset = PanNuke(tmp_path, "all")
        whole = images.read_bytes()
        np.save(images, np.full((5, 32, 32, 3), 300.0))
        with pytest.raises(DataError, match="values outside of 0 to 255"):
            dataset[0]
        images.write_bytes(whole[:5000])
        with pytest.raises(DataError, match="cannot be read"):
            dataset[0]
        with pytest.raises(ValueError, match="cannot be read"):
            PanNuke(tmp_path, "all")
        np.save(images, np.zeros((4, 32, 32, 3)))
        with pytest.raises(ValueError, match=r"images of the shape \(4, 32, 32, 3\)"):
            PanNuke(tmp_path, "all")
        np.save(images.with_name("types.npy"), np.array([object()]), allow_pickle=True)
        with pytest.raises(ValueError, match="cannot be read"):
            PanNuke(tmp_path, "all")

    def test_the_real_fixture(self):
        dataset = PanNuke(real("pannuke/layout_fixture"), "train", tissue="breast")
        assert len(dataset) == 6
        for sample in (dataset[i] for i in range(6)):
            assert sample.image.shape == (256, 256, 3)
            assert set(np.unique(sample.mask)) <= {0, 1, 5}
            numbers = np.unique(sample.instances)
            assert numbers.tolist() == list(range(len(numbers)))
            assert len(numbers) > 5


class TestCoNSeP:
    def test_types_are_merged_or_kept(self, tmp_path):
        consep(tmp_path)
        by_name = {sample.name: sample for sample in CoNSeP(tmp_path, "all")}
        kept = {sample.name: sample for sample in CoNSeP(tmp_path, "all", merge=False)}
        assert len(by_name) == 14
        for index in range(1, 8):
            numbers, original = objects(index), 1 + index % 7
            sample = by_name[f"train_{index}"]
            assert (sample.instances == numbers).all()
            assert (sample.mask[numbers == 3] == 3).all()
            assert (sample.mask[numbers == 7] == {1: 1, 2: 2, 3: 3, 4: 3, 5: 4, 6: 4, 7: 4}[original]).all()
            assert (kept[f"train_{index}"].mask[numbers == 7] == original).all()
        assert len(CoNSeP(tmp_path, "all", merge=False).classes) == 8

    def test_validation_is_taken_out_of_training(self, tmp_path):
        consep(tmp_path)
        assert [len(CoNSeP(tmp_path, split)) for split in ("train", "val", "test")] == [9, 1, 4]
        assert len(CoNSeP(tmp_path / "CoNSeP", "val", val_share=0.3)) == 3
        assert all(name.startswith("test_") for name in names(CoNSeP(tmp_path, "test")))

    def test_damaged_labels_get_a_sentence(self, tmp_path):
        consep(tmp_path)
        path = tmp_path / "CoNSeP/Test/Labels/test_1.mat"
        dataset = CoNSeP(tmp_path, "test")
        savemat(path, {"inst_map": objects(1), "type_map": objects(1) * 3})
        with pytest.raises(DataError, match=r"types \[9, 21\]; there are the types 0 to 7"):
            dataset[0]
        savemat(path, {"inst_map": objects(1)})
        with pytest.raises(DataError, match="has no type_map"):
            dataset[0]
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(DataError, match="cannot be decoded"):
            dataset[0]
        path.unlink()
        assert "test_1.png has no mask test_1.*" in CoNSeP(tmp_path, "all").faults[0].reason
        with pytest.raises(ValueError, match="holds neither CoNSeP/"):
            CoNSeP(tmp_path / "CoNSeP" / "Train", "all")

    def test_real_instance_maps(self, tmp_path):
        """They come in another packing, so they are brought into the official one."""
        for path in sorted(real("consep/raw_examples").glob("*_inst.npy")):
            numbers = np.load(path)
            name = path.stem.removesuffix("_inst")
            for folder in ("Images", "Labels"):
                (tmp_path / "Train" / folder).mkdir(parents=True, exist_ok=True)
            save(tmp_path / "Train/Images" / f"{name}.png", pixels(0, *numbers.shape))
            maps = {"inst_map": numbers.astype(float), "type_map": (numbers > 0).astype(float)}
            savemat(tmp_path / "Train/Labels" / f"{name}.mat", maps)
        dataset = CoNSeP(tmp_path, "all")
        assert len(dataset) == 3
        assert all((s.instances > 0).sum() == s.mask.sum() > 0 for s in dataset)


class TestGlaS:
    def test_official_parts(self, tmp_path):
        glas(tmp_path)
        assert [len(GlaS(tmp_path, split)) for split in ("train", "val", "test")] == [9, 1, 6]
        assert names(GlaS(tmp_path, "test", part="testB")) == ["testB_1", "testB_2"]
        sample = GlaS(tmp_path, "test")[0]
        assert (sample.instances == objects(1)).all()
        assert (sample.mask == (objects(1) > 0)).all()

    def test_validation_cuts_no_patient(self, tmp_path):
        glas(tmp_path)
        folder = tmp_path / "Warwick QU Dataset (Released 2016_07_08)"
        rows = "".join(f"train_{i}, {i % 4}, benign, healthy\n" for i in range(1, 11))
        (folder / "Grade.csv").write_text(
            f"name,patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)\n{rows}"
        )
        groups = [{s.group for s in GlaS(folder, split, val_share=0.3)} for split in ("train", "val")]
        assert not groups[0] & groups[1]
        assert groups[0] | groups[1] == {f"patient {i}" for i in range(4)}

    def test_what_is_wrong_is_said(self, tmp_path):
        with pytest.raises(ValueError, match=r"holds no train_1\.bmp"):
            GlaS(tmp_path, "all")
        glas(tmp_path)
        next(tmp_path.rglob("testA_1_anno.bmp")).unlink()
        assert "has no annotation testA_1_anno" in GlaS(tmp_path, "all").faults[0].reason


class TestMoNuSeg:
    def test_polygons(self, tmp_path):
        monuseg(tmp_path)
        sample = MoNuSeg(tmp_path, "test")[0]
        wanted = np.zeros((20, 24), bool)
        wanted[2:10, 2:11] = True
        assert (sample.instances == wanted).all()
        assert (sample.mask == wanted).all()

    def test_where_nuclei_overlap_the_smallest_stays_whole(self):
        small, large = (
            [(x, y), (x + side, y), (x + side, y + side), (x, y + side)] for x, y, side in ((4, 4, 2), (0, 0, 9))
        )
        for order in ((small, large), (large, small)):
            instances = fill_polygons([np.array(polygon, float) for polygon in order], (12, 12))
            number = 1 + order.index(small)
            assert (instances == number).sum() == 9
            assert (instances > 0).sum() == 100
            assert (instances[4:7, 4:7] == number).all()

    def test_official_parts_and_patients(self, tmp_path):
        monuseg(tmp_path)
        parts = {split: MoNuSeg(tmp_path, split, val_share=0.3) for split in ("train", "val", "test")}
        assert sum(map(len, parts.values())) == 14
        assert len(parts["test"]) == 4
        assert not {s.group for s in parts["train"]} & {s.group for s in parts["val"]}
        assert {len(s.group) for s in parts["train"]} == {12}

    def test_one_download_alone(self, tmp_path):
        monuseg(tmp_path)
        assert len(MoNuSeg(tmp_path / "MoNuSeg 2018 Training Data", "all")) == 10
        (tmp_path / "MoNuSeg 2018 Training Data").rename(tmp_path / "elsewhere")
        assert [len(MoNuSeg(tmp_path, split)) for split in ("train", "val", "test")] == [0, 0, 4]

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("<Annotations><Region>", "cannot be read as an annotation: no element found|mismatched"),
            (annotation([[(0, 0), ("left", 1), (1, 1)]]), "could not convert string to float"),
            ('<A><Region><Vertex X="1" /></Region></A>', "a vertex has no 'Y'"),
        ],
    )
    def test_damaged_annotations_get_a_sentence(self, tmp_path, text, sentence):
        monuseg(tmp_path)
        dataset = MoNuSeg(tmp_path, "test")
        dataset.pairs[0].mask.write_text(text)
        with pytest.raises(DataError, match=sentence):
            dataset[0]

    def test_fewer_than_three_points_enclose_nothing(self, tmp_path):
        monuseg(tmp_path)
        dataset = MoNuSeg(tmp_path, "test")
        dataset.pairs[0].mask.write_text(annotation([[(1, 1), (5, 5)], [(1, 1), (1, 3), (3, 3)]]))
        assert dataset[0].instances.max() == 1
        dataset.pairs[0].mask.write_text(annotation([]))
        assert not dataset[0].mask.any()


class TestTissue:
    def test_names_that_end_in_03_validate(self, tmp_path):
        tissue(tmp_path)
        assert [len(Tissue(tmp_path, split)) for split in ("train", "val", "test")] == [40, 20, 0]
        assert all(name.endswith("_03") for name in names(Tissue(tmp_path, "val")))

    def test_another_split_when_asked(self, tmp_path):
        tissue(tmp_path)
        assert len(Tissue(tmp_path, "test", ratio=(0.5, 0.2, 0.3))) == 18
        (tmp_path / "splits.json").write_text('{"test": ["Human_Organ1_01.tif"]}')
        assert names(Tissue(tmp_path, "test", splits=tmp_path / "splits.json")) == ["Human_Organ1_01"]

    def test_the_real_fixture(self):
        root = real("tissue")
        assert len(Tissue(root, "train")) == len(Tissue(root, "all")) == 7
        sizes = [len(Tissue(root, split, ratio=(0.6, 0.2, 0.2))) for split in ("train", "val", "test")]
        assert sizes == [5, 1, 1]
        assert Tissue(root, "all")[0].size == (512, 512)
        assert 0.05 < Tissue(root, "all")[0].mask.mean() < 0.6


class TestUniToPatho:
    @pytest.mark.parametrize("scale", [800, 7000])
    def test_yaml(self, tmp_path, scale):
        unitopatho(tmp_path, scale=scale, tables=["yaml"])
        parts = {split: UniToPatho(tmp_path, split, scale=scale) for split in ("train", "val", "test", "all")}
        assert [len(part) for part in parts.values()] == [4, 4, 4, 12]
        sample = next(s for s in parts["train"] if s.name.startswith("TA.LG_"))
        assert sample.group == "TA.LG CASO 56 - 2019-03-04 10.00.26"
        assert sample.name == f"TA.LG_{sample.group}.ndpi_ROI__mpp0.44_reg000_crop_sk00002_(0,34877,15855,15855)"
        assert sample.mask is None
        with pytest.raises(ValueError, match="does not have the folder"):
            UniToPatho(tmp_path, "train", scale=7800 - scale)

    def test_csv(self, tmp_path):
        unitopatho(tmp_path, tables=["csv"])
        parts = {split: UniToPatho(tmp_path, split, val_share=0.25) for split in ("train", "val", "test")}
        assert [len(part) for part in parts.values()] == [6, 2, 4]
        assert {s.group for s in parts["test"]} == {"TA.HG CASO 4 A1", "77-B2-TVALG"}
        assert len({s.group for part in parts.values() for s in part}) == 6
        (tmp_path / "800/train.csv").write_text("image,label\nx,y\n")
        with pytest.raises(DataError, match="has no column 'top_label_name'"):
            UniToPatho(tmp_path, "train")
        (tmp_path / "800/train.csv").unlink()
        with pytest.raises(ValueError, match=r"neither unitopath-public-800\.yml nor train\.csv"):
            UniToPatho(tmp_path, "train")

    def test_one_label_and_the_same_slides_validate(self, tmp_path):
        unitopatho(tmp_path, tables=["csv"])
        everything = {s.name for s in UniToPatho(tmp_path, "val", val_share=0.5)}
        for label_name in ("TA.LG", "HP", "TVA.HG", "NORM"):
            assert set(names(UniToPatho(tmp_path, "val", val_share=0.5, label=label_name))) <= everything
        assert {n.partition("_")[0] for n in names(UniToPatho(tmp_path, "all", label=("HP", "NORM")))} == {"HP", "NORM"}
        with pytest.raises(ValueError, match=r"no label 'TVA\.HQ' \(did you mean 'TVA\.HG'\?\)"):
            UniToPatho(tmp_path, "all", label="TVA.HQ")

    def test_a_partial_copy_works_and_is_said(self, tmp_path, caplog):
        unitopatho(tmp_path)
        next((tmp_path / "800/HP").glob("*.png")).unlink()
        with caplog.at_level(logging.WARNING):
            assert len(UniToPatho(tmp_path, "train")) == 3
        assert "1 of 4 listed patches" in caplog.text

    @pytest.mark.parametrize(
        "content", ["images: [", "images: []", "- 1", yaml.safe_dump({"images": [{}], "split": {}})]
    )
    def test_another_yaml_gets_a_sentence(self, tmp_path, content):
        unitopatho(tmp_path)
        (tmp_path / "unitopath-public-800.yml").write_text(content)
        with pytest.raises(DataError, match="is not a description of the patches and their split"):
            UniToPatho(tmp_path, "train")

    def test_yaml_runs_no_code(self, tmp_path):
        unitopatho(tmp_path)
        (tmp_path / "unitopath-public-800.yml").write_text(f"!!python/object/apply:os.mkdir [{tmp_path / 'was run'}]")
        with pytest.raises(DataError):
            UniToPatho(tmp_path, "train")
        assert not (tmp_path / "was run").exists()


class TestUniToPathoMask:
    def test_masks_of_a_parallel_folder(self, tmp_path):
        root = tmp_path / "unitopatho-mask"
        unitopatho_mask(root)
        assert [len(UniToPathoMask(root, split)) for split in ("train", "val", "test")] == [4, 4, 4]
        assert [s.name for s in UniToPathoMask(root, "val")] == names(UniToPatho(tmp_path / "unitopatho", "val"))
        assert set(np.unique(UniToPathoMask(root, "all")[0].mask)) == {0, 1}

    def test_patches_without_a_mask_are_left_out(self, tmp_path):
        root = tmp_path / "masks"
        places = unitopatho(tmp_path / "images")
        label_name, name, _ = places[0]
        save(root / "800" / label_name / name, np.array([[0, 100], [200, 7]], np.uint8).repeat(10, 0).repeat(12, 1))
        options = {"images": tmp_path / "images", "classes": ("background", "crypt", "stroma")}
        dataset = UniToPathoMask(root, "all", **options, values=(0, 100, 200), ignore=7)
        assert np.unique(dataset[0].mask).tolist() == [0, 1, 2, 255]
        assert len(dataset) == 1
        with pytest.raises(DataError, match=r"pixel values \[7, 100, 200\], which stand for no class"):
            UniToPathoMask(root, "all", **options)[0]

    def test_what_is_wrong_is_said(self, tmp_path):
        root = tmp_path / "unitopatho-mask"
        root.mkdir()
        with pytest.raises(ValueError, match="say where they are with the option images"):
            UniToPathoMask(root, "all")
        unitopatho(tmp_path / "unitopatho")
        with pytest.raises(ValueError, match="holds no mask in folders such as"):
            UniToPathoMask(root, "all")
        save(root / "800/HP/stray.png", pixels(0)[:, :, 0])
        assert "stray.png is the mask of no patch" in UniToPathoMask(root, "all").faults[0].reason
