import logging

import pytest
from PIL import Image

from transeg.core.data.groups import group_by_file, patches_of_one_image, read_groups
from transeg.core.errors import DataError
from transeg.plugins.datasets import folder as folder_module
from transeg.plugins.datasets.folder import Folder
from transeg.plugins.datasets.polyps import CVC300, Etis, PolypBenchmark


@pytest.fixture
def images(tmp_path):
    """Makes pictures of given names in a folder."""

    def make(*names):
        for kind in ("images", "masks"):
            (tmp_path / kind).mkdir(exist_ok=True, parents=True)
            for name in names:
                Image.new("L", (4, 4)).save(tmp_path / kind / f"{name}.png")
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("groups.json", '{"a": "p1", "b.png": "p1", "c": 2}'),
        ("groups.csv", "name,group\na.png,p1\nb,p1\nc.tif,2\n"),
        ("bom.csv", "\ufeffgroup,name\r\np1,a\r\np1,b\r\n2,c\r\n"),
    ],
)
def test_a_file_says_which_images_belong_together(images, tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_groups(tmp_path / name) == {"a": "p1", "b": "p1", "c": "2"}
    dataset = Folder(images("a", "b", "c"), "all", groups=tmp_path / name)
    assert [pair.group for pair in dataset.pairs] == ["p1", "p1", "2"]
    frames = CVC300(tmp_path, "all", groups=tmp_path / name)
    assert [pair.group for pair in frames.pairs] == ["p1", "p1", "2"]


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "[1]", '{"a": '])
def test_what_says_nothing_of_groups_is_refused(tmp_path, text):
    for name in ("groups.json", "groups.csv"):
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(DataError, match=r"must be JSON .* or CSV"):
            read_groups(path)


def test_an_image_without_a_group_is_named(tmp_path):
    path = tmp_path / "groups.csv"
    path.write_text("name,group\na,1\n")
    with pytest.raises(DataError, match="no line for the image b"):
        group_by_file(path)("b")


def test_the_two_ways_to_say_it_exclude_each_other(images, tmp_path):
    with pytest.raises(ValueError, match="leave one of them out"):
        Folder(images("a"), "all", group="a", groups=tmp_path / "groups.csv")


@pytest.mark.parametrize(
    ("names", "parents"),
    [
        (["s1_0_0", "s1_0_256", "s2_0_0", "s2_256_0"], {"s1": 2, "s2": 2}),
        (["a-patch-1", "a-patch-2", "b_tile3"], {"a": 2}),
        (["b_x0_y0", "b_x128_y0", "c_r1c2", "c_r1c3"], {"b": 2, "c": 2}),
        (["case_1", "case_2", "frame0001", "frame0002"], {}),
        (["2020-01-01", "2020-02-01"], {"2020": 2}),
    ],
)
def test_names_of_patches_are_known(names, parents):
    assert patches_of_one_image(names) == parents


def test_a_folder_of_patches_says_that_they_are_taken_apart(images, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(folder_module, "_said", set())
    root = images("s1_0_0", "s1_0_256", "s2_0_0", "s2_256_0")
    caplog.set_level(logging.WARNING, "transeg.data")
    for options in ({"group": r"^s\d"}, {}, {}):
        Folder(root, "train", **options)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"4 images in {root} are called like patches of one image, such as the 2 of s1")


def test_sequences_of_clinic_db_are_known_in_the_benchmark(tmp_path):
    for domain, folders in (("TrainDataset", ("image", "mask")), ("TestDataset/CVC-ClinicDB", ("images", "masks"))):
        for kind in folders:
            (tmp_path / domain / kind).mkdir(parents=True)
            for name in ("1", "25", "26", "612", "cju0qkwl35piu0993l0dewei2"):
                Image.new("L", (4, 4)).save(tmp_path / domain / kind / f"{name}.png")
    for domain in ("TrainDataset", "CVC-ClinicDB"):
        groups = {pair.name: pair.group for pair in PolypBenchmark(tmp_path, "all", domain=domain).pairs}
        assert groups == {
            "1": "1",
            "25": "1",
            "26": "2",
            "612": "29",
            "cju0qkwl35piu0993l0dewei2": groups["cju0qkwl35piu0993l0dewei2"],
        }
        assert groups["cju0qkwl35piu0993l0dewei2"].startswith("cju")


def test_frames_of_other_sets_are_their_own_groups_until_a_file_says_more(images):
    assert [pair.group for pair in Etis(images("1", "2"), "all").pairs] == ["1", "2"]
