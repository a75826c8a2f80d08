import itertools

import numpy as np
import pytest
from PIL import Image

from transeg.core.data.file_dataset import list_pairs
from transeg.core.data.listing import find_folder, natural_sort_key
from transeg.core.errors import DataError
from transeg.core.interfaces import IGNORE
from transeg.plugins.datasets.aligned import Aligned
from transeg.plugins.datasets.folder import Folder
from transeg.plugins.datasets.polyps import ClinicDB, ColonDB, Etis, Kvasir, PolypBenchmark, SynthColon


def picture(path, size=(12, 10), mode="RGB", value=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value,) * 3).save(path)


def pairs(root, names, images="images", masks="masks", suffix=".png", mask=lambda name: name):
    for name in names:
        picture(root / images / f"{name}{suffix}")
        picture(root / masks / f"{mask(name)}{suffix}", mode="L", value=255)


def names(dataset):
    return [dataset[i].name for i in range(len(dataset))]


def test_pairs_match_by_stem_in_natural_order(tmp_path):
    for stem, image, mask in (("frame10", ".jpg", ".png"), ("frame9", ".png", ".png"), ("frame1", ".png", ".bmp")):
        picture(tmp_path / "images" / f"{stem}{image}")
        picture(tmp_path / "masks" / f"{stem}{mask}", mode="L")
    (tmp_path / "images" / "notes.txt").write_text("no image")
    (tmp_path / "images" / ".hidden.png").write_text("no image")
    found, faults = list_pairs(tmp_path / "images", tmp_path / "masks")
    assert [pair.name for pair in found] == ["frame1", "frame9", "frame10"]
    assert found[2].mask.name == "frame10.png"
    assert not faults


def test_what_does_not_pair_is_a_fault(tmp_path):
    pairs(tmp_path, "ab")
    picture(tmp_path / "images" / "lonely.png")
    picture(tmp_path / "masks" / "orphan.png", mode="L")
    picture(tmp_path / "images" / "a.jpg")
    found, faults = list_pairs(tmp_path / "images", tmp_path / "masks")
    assert [pair.name for pair in found] == ["a", "b"]
    reasons = " ".join(fault.reason for fault in faults)
    assert "lonely.png has no mask" in reasons
    assert "orphan.png is the mask of no image" in reasons
    assert "share the name 'a'" in reasons


def test_nothing_to_pair_is_said(tmp_path):
    picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "masks" / "b.png", mode="L")
    with pytest.raises(ValueError, match=r"no image in .* has a mask"):
        list_pairs(tmp_path / "images", tmp_path / "masks")
    with pytest.raises(ValueError, match="does not exist"):
        list_pairs(tmp_path / "imgs", None)


def test_natural_order():
    assert sorted(["a10b", "a2b", "a2a", "b1", "10", "9"], key=natural_sort_key) == [
        "9",
        "10",
        "a2a",
        "a2b",
        "a10b",
        "b1",
    ]


def test_folders_whatever_their_capitals(tmp_path):
    (tmp_path / "Ground Truth").mkdir()
    (tmp_path / "PNG" / "Original").mkdir(parents=True)
    assert find_folder(tmp_path, "ground truth").name == "Ground Truth"
    assert find_folder(tmp_path, "nothing", "png/original").name == "Original"
    assert find_folder(tmp_path, "nothing") is None


def test_a_folder_that_is_called_just_so_comes_before_one_that_is_called_alike(tmp_path):
    (tmp_path / "fold_1" / "Fold 1").mkdir(parents=True)
    assert find_folder(tmp_path, "Fold 1", "fold_1/Fold 1", "fold_1") == tmp_path / "fold_1" / "Fold 1"
    (tmp_path / "Fold 1").mkdir()
    assert find_folder(tmp_path, "fold1", "Fold 1") == tmp_path / "Fold 1"


class TestFolder:
    def test_ratio(self, tmp_path):
        pairs(tmp_path, [str(i) for i in range(10)])
        parts = {split: names(Folder(tmp_path, split)) for split in ("train", "val", "test")}
        assert [len(part) for part in parts.values()] == [8, 1, 1]
        assert sorted(itertools.chain.from_iterable(parts.values())) == sorted(names(Folder(tmp_path, "all")))

    def test_subfolders(self, tmp_path):
        for split, stems in {"train": "ab", "val": "c", "test": "de"}.items():
            pairs(tmp_path / split, stems)
        assert names(Folder(tmp_path, "test")) == ["d", "e"]
        assert names(Folder(tmp_path, "all")) == ["a", "b", "c", "d", "e"]

    def test_validation_is_another_word_for_val(self, tmp_path):
        for split, stem in {"train": "a", "validation": "b"}.items():
            pairs(tmp_path / split, stem)
        assert names(Folder(tmp_path, "val")) == ["b"]

    def test_lists(self, tmp_path):
        pairs(tmp_path, "abc")
        lists = tmp_path / "splits.json"
        lists.write_text('{"train": ["c.png"], "test": ["a"]}')
        assert names(Folder(tmp_path, "train", splits=lists)) == ["c"]
        assert names(Folder(tmp_path, "val", splits=lists)) == []

    def test_unlabelled(self, tmp_path):
        picture(tmp_path / "a.png")
        sample = Folder(tmp_path, "all")[0]
        assert sample.mask is None
        assert sample.size == (10, 12)

    def test_names_of_folders_and_masks(self, tmp_path):
        pairs(tmp_path, "ab", images="imgs", masks="labels", mask=lambda name: f"seg_{name}_m")
        dataset = Folder(tmp_path, "all", images="imgs", masks="labels", mask_prefix="seg_", mask_suffix="_m")
        assert names(dataset) == ["a", "b"]
        assert dataset[0].mask.all()

    def test_groups_are_never_cut(self, tmp_path):
        pairs(tmp_path, [f"case{i // 3}_{i}" for i in range(30)])
        train = {name.partition("_")[0] for name in names(Folder(tmp_path, "train", group="case[0-9]+"))}
        test = {name.partition("_")[0] for name in names(Folder(tmp_path, "test", group="case[0-9]+"))}
        assert not train & test

    def test_classes(self, tmp_path):
        picture(tmp_path / "images" / "a.png", size=(3, 1))
        (tmp_path / "masks").mkdir()
        Image.fromarray(np.array([[0, 128, 255]], dtype=np.uint8)).save(tmp_path / "masks" / "a.png")
        dataset = Folder(tmp_path, "all", classes=("background", "myelin", "axon"), values=(0, 128, 255), channels=1)
        assert dataset[0].mask.tolist() == [[0, 1, 2]]
        assert dataset[0].image.shape == (1, 3, 1)
        with pytest.raises(ValueError, match="cannot stand for the classes"):
            Folder(tmp_path, "all", classes=("background", "x"), values=(0, 1, 2))

    def test_a_value_may_stand_for_what_is_unknown(self, tmp_path):
        pairs(tmp_path, "a")
        Image.fromarray(np.array([[0, 1], [2, 9]], dtype=np.uint8)).resize((12, 10), 0).save(tmp_path / "masks/a.png")
        picture(tmp_path / "images" / "a.png")
        mask = Folder(tmp_path, "all", classes=("background", "one", "two"), ignore=9)[0].mask
        assert set(np.unique(mask)) == {0, 1, 2, IGNORE}
        with pytest.raises(ValueError, match="cannot be ignored and stand for a class"):
            Folder(tmp_path, "all", classes=("background", "one", "two"), ignore=2)

    def test_sizes_that_differ(self, tmp_path):
        picture(tmp_path / "images" / "a.png", size=(12, 10))
        picture(tmp_path / "masks" / "a.png", size=(10, 12), mode="L")
        with pytest.raises(DataError, match=r"12x10 pixels, but its mask .* has 10x12"):
            Folder(tmp_path, "all")[0]

    def test_numbered_instances(self, tmp_path):
        pairs(tmp_path, "ab")
        numbers = np.zeros((10, 12), np.uint16)
        numbers[2:4], numbers[6:8] = 7, 300
        (tmp_path / "inst").mkdir()
        for name in "ab":
            Image.fromarray(numbers).save(tmp_path / "inst" / f"{name}.png")
        sample = Folder(tmp_path, "all", instances="inst")[1]
        assert (sample.instances == numbers).all()
        assert sample.mask.all()
        (tmp_path / "inst" / "b.png").unlink()
        assert "b.png has no instance map b.*" in Folder(tmp_path, "all", instances="inst").faults[0].reason
        assert Folder(tmp_path, "all")[0].instances is None
        with pytest.raises(ValueError, match="nuclei does not exist"):
            Folder(tmp_path, "all", instances="nuclei")

    def test_counterparts_make_it_paired(self, tmp_path):
        for part in ("train", "test"):
            pairs(tmp_path / part, "a")
            picture(tmp_path / part / "stained" / "a.png", mode="L", value=9)
        dataset = Folder(tmp_path, "train", targets="stained", target_channels=1)
        assert dataset.paired
        assert not Folder(tmp_path, "train").paired
        assert dataset[0].target.shape == (10, 12, 1)
        assert (dataset[0].target == 9).all()
        assert Folder(tmp_path, "train", targets="stained").target_channels == 3
        picture(tmp_path / "train" / "stained" / "a.png", size=(3, 3))
        with pytest.raises(DataError, match=r"12x10 pixels, but its counterpart .* has 3x3"):
            dataset[0]


class TestAligned:
    def write(self, path, width=8):
        pixels = np.zeros((4, width, 3), np.uint8)
        pixels[:, : width // 2], pixels[:, width // 2 :] = (200, 0, 0), (0, 0, 90)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    def test_halves_and_their_direction(self, tmp_path):
        for part, stems in {"train": "12", "val": "1", "test": "1"}.items():
            for stem in stems:
                self.write(tmp_path / part / f"{stem}.png")
        dataset = Aligned(tmp_path, "train")
        assert dataset.paired
        assert (dataset[0].image == (200, 0, 0)).all()
        assert (dataset[0].target == (0, 0, 90)).all()
        assert dataset[0].image.shape == dataset[0].target.shape == (4, 4, 3)
        assert (Aligned(tmp_path, "train", direction="BtoA")[0].image == (0, 0, 90)).all()
        assert names(Aligned(tmp_path, "all")) == ["train_1", "train_2", "val_1", "test_1"]

    def test_each_side_may_be_grey(self, tmp_path):
        self.write(tmp_path / "train" / "1.png")
        sample = Aligned(tmp_path, "train", channels=1)[0]
        assert sample.image.shape == (4, 4, 1)
        assert sample.target.shape == (4, 4, 3)
        assert (sample.image == 60).all()  # 0.299 of 200

    def test_what_is_wrong_is_said(self, tmp_path):
        with pytest.raises(ValueError, match="none of the folders train, val and test"):
            Aligned(tmp_path, "train")
        self.write(tmp_path / "val" / "1.png", width=7)
        assert len(Aligned(tmp_path, "train")) == 0
        with pytest.raises(DataError, match="7 pixels wide, which cannot be two images"):
            Aligned(tmp_path, "val")[0]


class TestPolyps:
    def test_published_splits_are_read_as_they_are_packed_or_as_lists_for_the_original(self, tmp_path):
        """The folders of DUCK-Net and zh320."""
        packed, original = tmp_path / "packed", tmp_path / "original"
        for split, stems in {"train": "ab", "validation": "c", "test": "de"}.items():
            pairs(packed / split, stems, suffix=".jpg")
        pairs(original, "abcde", suffix=".jpg")
        for split, stems in {"train": "ab", "val": "c", "test": "de", "all": "abcde"}.items():
            assert names(Kvasir(packed, split)) == list(stems)
            assert names(Kvasir(original, split, splits=packed)) == list(stems)

    @pytest.mark.parametrize("prefix", ["", "Kvasir-SEG/"])
    def test_kvasir(self, tmp_path, prefix):
        pairs(tmp_path, [f"cju{i}" for i in range(10)], f"{prefix}images", f"{prefix}masks", ".jpg")
        assert len(Kvasir(tmp_path, "train")) == 8
        assert Kvasir(tmp_path, "all")[0].mask.all()

    @pytest.mark.parametrize(
        ("images", "masks", "suffix"),
        [
            ("Original", "Ground Truth", ".tif"),
            ("PNG/Original", "PNG/Ground Truth", ".png"),
            ("TIF/Original", "TIF/Ground Truth", ".tif"),
            ("images", "masks", ".png"),
        ],
    )
    def test_clinicdb_splits_by_sequence(self, tmp_path, images, masks, suffix):
        pairs(tmp_path, range(1, 613, 6), images, masks, suffix)
        groups = [{sample.group for sample in ClinicDB(tmp_path, split)} for split in ("train", "val", "test")]
        assert sum(len(group) for group in groups) == len(set.union(*groups)) == 29
        everything = ClinicDB(tmp_path, "all")
        assert {s.name: s.group for s in everything}["25"] == "1"
        assert {s.name: s.group for s in everything}["31"] == "2"

    def test_etis_masks_have_a_prefix_in_the_original(self, tmp_path):
        pairs(tmp_path, "123", "ETIS-LaribPolypDB", "Ground Truth", ".tif", mask=lambda name: f"p{name}")
        assert names(Etis(tmp_path, "test")) == ["1", "2", "3"]
        assert len(Etis(tmp_path, "train")) == 0

    def test_test_sets_can_be_split_when_asked(self, tmp_path):
        pairs(tmp_path, range(10))
        assert len(ColonDB(tmp_path, "test")) == 10
        assert len(ColonDB(tmp_path, "train", ratio=(0.8, 0.1, 0.1))) == 8

    def test_synth_colon_keeps_a_hundredth_for_validation(self, tmp_path):
        pairs(tmp_path, range(100))
        assert [len(SynthColon(tmp_path, split)) for split in ("train", "val", "test")] == [99, 1, 0]

    @pytest.mark.parametrize(("image", "mask"), [("image", "mask"), ("images", "masks")])
    def test_benchmark(self, tmp_path, image, mask):
        pairs(tmp_path / "TrainDataset", ["cju1", "7"], image, mask)
        for number, name in enumerate(PolypBenchmark.domains[1:], start=1):
            pairs(tmp_path / "TestDataset" / name, range(number))
        assert len(PolypBenchmark(tmp_path, "train")) == 2
        assert len(PolypBenchmark(tmp_path, "val")) == 0
        sizes = [len(PolypBenchmark(tmp_path, "test", domain=name)) for name in PolypBenchmark.domains[1:]]
        assert sizes == [1, 2, 3, 4, 5]
        with pytest.raises(ValueError, match="not 'Kvasri'"):
            PolypBenchmark(tmp_path, "test", domain="Kvasri")

    @pytest.mark.parametrize("cls", [Kvasir, ClinicDB, ColonDB, Etis, SynthColon, PolypBenchmark])
    def test_another_folder_gets_a_sentence(self, tmp_path, cls):
        with pytest.raises(ValueError, match=str(tmp_path)):
            cls(tmp_path, "all")
