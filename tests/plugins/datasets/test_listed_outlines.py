"""Files that hold the outlines of many images: COCO's and CVAT's."""

import json
import pickle
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import coco, cvat, pixels, save, square
from pycocotools import mask as coco_masks

from transeg.core.errors import DataError
from transeg.plugins.datasets.coco import COCO, decompress_runs
from transeg.plugins.datasets.cvat import CVAT
from transeg.plugins.datasets.outlines import read_runs


def test_coco(tmp_path):
    coco(tmp_path)
    dataset = COCO(tmp_path, "all")
    assert dataset.classes == ("background", "gland", "nucleus")
    mask, instances = dataset[0].mask, dataset[0].instances
    assert (mask[3:8, 2:7] == 2).all()
    assert (mask[5:11, 12] == 1).all()
    assert (mask[5:11, 13] == 1).all()
    assert np.count_nonzero(mask == 1) == 12
    assert (mask[16:, :4] == 255).all()
    assert [np.count_nonzero(instances == number) for number in (1, 2, 3)] == [25, 12, 0]
    assert (COCO(tmp_path, "all", ignore=None)[0].mask[16:, :4] == 1).all()


def test_cvat(tmp_path):
    cvat(tmp_path)
    dataset = CVAT(tmp_path, "all")
    assert dataset.classes == ("background", "nucleus", "gland")
    mask = dataset[0].mask
    assert np.count_nonzero(mask == 1) == 25
    assert np.argwhere(mask[:, 15:17] == 2).tolist() == [[row, column] for row in range(6, 12) for column in (0, 1)]
    assert np.argwhere(mask[:5] == 2).tolist() == [[1, 21], [1, 22], [2, 20], [2, 21], [2, 22], [2, 23]]


def one_image(root, shapes, attributes=""):
    save(root / "a.png", pixels(0))
    (root / "annotations.xml").write_text(
        f'<annotations><image id="0" name="a.png" {attributes}>{shapes}</image></annotations>'
    )
    return CVAT(root, "all")


def test_ellipses_rotation_and_z_order(tmp_path):
    ellipse = '<ellipse label="a" cx="12" cy="10" rx="8" ry="3"{}/>'
    level = one_image(tmp_path, ellipse.format(""))[0].mask
    assert abs(level.sum() - 24 * np.pi) < 4
    assert np.ptp(np.nonzero(level)[1]) > np.ptp(np.nonzero(level)[0])
    turned = one_image(tmp_path, ellipse.format(' rotation="90"'))[0].mask
    assert np.ptp(np.nonzero(turned)[1]) < np.ptp(np.nonzero(turned)[0])
    rows, columns = np.nonzero(one_image(tmp_path, ellipse.format(' rotation="30"'))[0].mask)
    assert np.corrcoef(rows, columns)[0, 1] > 0.5  # clockwise: to the right it goes down
    boxes = '<box label="a" xtl="2" ytl="2" xbr="12" ybr="12"{}/><box label="b" xtl="4" ytl="4" xbr="8" ybr="8"/>'
    assert one_image(tmp_path, boxes.format(""))[0].mask[5, 5] == 2
    assert one_image(tmp_path, boxes.format(' z_order="1"'))[0].mask[5, 5] == 1


def test_files_for_splits(tmp_path):
    for folder in ("train", "valid", "test"):
        save(tmp_path / folder / "a.jpg", pixels(0))
        content = {
            "images": [{"id": 0, "file_name": "a.jpg", "height": 20, "width": 24}],
            "categories": [
                {"id": 0, "name": "cells", "supercategory": "none"},
                {"id": 1, "name": "cell", "supercategory": "cells"},
            ],
            "annotations": [{"id": 0, "image_id": 0, "category_id": 1, "segmentation": [[1, 1, 4, 1, 4, 4]]}],
        }
        (tmp_path / folder / "_annotations.coco.json").write_text(json.dumps(content))
    assert COCO.is_divided(tmp_path, {})
    for split, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        dataset = COCO(tmp_path, split)
        assert [pair.image.parent.name for pair in dataset.pairs] == [folder]
        assert dataset.classes == ("background", "cell")
        assert not dataset.faults
    together = tmp_path / "together"
    together.mkdir()
    coco(together)
    assert not COCO.is_divided(together, {})
    listed = together / "annotations" / "instances_default.json"
    listed.rename(listed.with_name("instances_train2017.json"))
    content["images"] = [{"id": 0, "file_name": "val/a.jpg"}]
    save(together / "images" / "val" / "a.jpg", pixels(0))
    listed.with_name("instances_val2017.json").write_text(json.dumps(content))
    listed.with_name("captions_val2017.json").write_text("{}")
    assert [len(COCO(together, split)) for split in ("train", "val", "test")] == [20, 1, 0]
    listed.with_name("instances_more.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="holds 3 files of annotations"):
        COCO(together, "all")
    assert len(COCO(together, "all", annotations="annotations/instances_more.json")) == 1
    with pytest.raises(ValueError, match="there is no file"):
        COCO(together, "all", annotations="annotations/none.json")


def test_subsets_of_cvat_are_splits(tmp_path):
    names = {"Train": "a.png", "Validation": "b.png", "Test": "c.png"}
    for name in names.values():
        save(tmp_path / name, pixels(0))
    box = '<box label="x" xtl="1" ytl="1" xbr="3" ybr="3"/>'
    images = "".join(f'<image id="0" name="{name}" subset="{split}">{box}</image>' for split, name in names.items())
    (tmp_path / "annotations.xml").write_text(f"<annotations>{images}</annotations>")
    assert CVAT.is_divided(tmp_path, {})
    assert [CVAT(tmp_path, split).pairs[0].image.name for split in ("train", "val", "test")] == list(names.values())


def test_tasks_of_a_project_in_cvat_may_use_a_name_twice(tmp_path):
    box = '<box label="x" xtl="1" ytl="1" xbr="{0}" ybr="{0}"/>'
    splits = {"Train": 4, "Validation": 5, "Test": 6}
    for split in splits:  # as "CVAT for images 1.1" of a whole project lays them
        save(tmp_path / "images" / split / "a.png", pixels(0))
    images = "".join(
        f'<image id="0" name="a.png" subset="{split}" task_id="{end}">{box.format(end)}</image>'
        for split, end in splits.items()
    )
    (tmp_path / "annotations.xml").write_text(f"<annotations>{images}</annotations>")
    found = {split: CVAT(tmp_path, split) for split in ("train", "val", "test")}
    assert [dataset[0].mask.sum() for dataset in found.values()] == [9, 16, 25]
    assert [dataset.pairs[0].name for dataset in found.values()] == ["Train_a", "Validation_a", "Test_a"]
    assert not found["train"].faults


def test_what_others_put_beside_the_instances_of_coco_is_none(tmp_path):
    save(tmp_path / "a.png", pixels(0))
    save(tmp_path / "annotations" / "panoptic_train" / "a.png", pixels(0))
    annotation = {"id": 1, "image_id": 1, "category_id": 2, "segmentation": [[1, 1, 4, 1, 4, 4]]}
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 0, "name": "_background_"}, {"id": 1, "name": "none"}, {"id": 2, "name": "cell"}],
        "annotations": [annotation],
    }
    (tmp_path / "annotations" / "instances.json").write_text(json.dumps(content))
    dataset = COCO(tmp_path, "all")
    assert dataset.classes == ("background", "none", "cell")
    assert not dataset.faults


def test_images_are_found_by_their_folders_and_what_does_not_fit_is_said(tmp_path):
    for folder in ("one", "two"):
        save(tmp_path / folder / "a.png", pixels(0))
    save(tmp_path / "b.png", pixels(0))
    names = ["data/two/a.png", "C:\\x\\one\\a.png", "a.png", "../../etc/b.tif"]
    images = [{"id": index, "file_name": name} for index, name in enumerate(names)]
    categories = [{"id": 1, "name": "x"}]
    content = {"images": images, "annotations": [], "categories": categories}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    dataset = COCO(tmp_path, "all")
    assert [pair.name for pair in dataset.pairs] == ["one_a", "two_a"]
    assert not dataset[0].mask.any()
    assert [fault.reason.partition(" ")[2] for fault in dataset.faults] == [
        f"lists a.png, of which {tmp_path} holds no one image.",
        f"lists ../../etc/b.tif, of which {tmp_path} holds no one image.",
        "is in no list of annotations.",
    ]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_compressed_runs_are_those_of_the_tools_of_coco(lengths):
    lengths = np.array(lengths) ** 4
    runs = coco_masks.frPyObjects({"size": [1, int(lengths.sum())], "counts": lengths.tolist()}, 1, int(lengths.sum()))
    assert decompress_runs(runs["counts"].decode()).tolist() == lengths.tolist()


@given(st.integers(1, 6), st.integers(1, 6), st.booleans(), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_runs_are_filled_where_they_are(height, width, down, random):
    region = np.array([random.random() < 0.4 for _ in range(height * width)]).reshape(height, width)
    values = region.ravel("F" if down else "C")
    turns = np.flatnonzero(np.diff(values.astype(np.int8), prepend=0, append=not values[-1]))
    lengths = np.diff(turns, prepend=0)
    top, left, inside = read_runs(lengths, (2, 3, height, width), down=down).fill()
    whole = np.zeros((height + 2, width + 3), bool)
    whole[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    assert np.array_equal(whole[2:, 3:], region)


def test_an_empty_mask_shows_nothing(tmp_path):
    shape = '<mask label="a" rle="0" left="3" top="3" width="0" height="0"/>'
    assert not one_image(tmp_path, shape)[0].mask.any()


BAD_SEGMENTATIONS = {
    "null": "a mere box",
    "[]": "a mere box",
    "[[1, 1, 4, 4]]": "2 points",
    "[[1, 1, 4, 4, 5]]": "x and y by turns",
    "[[0, 0, 2e9, 0, 2e9, 2e9]]": "far outside",
    '[[0, 0, "4", 0, 4, 4]]': "no numbers",
    "[7]": "x and y by turns",
    '{"size": [20, 24]}': "without counts",
    '{"size": [24, 20], "counts": [480]}': "runs of an image of",
    '{"size": [20, 24], "counts": [479]}': "do not fill 24x20",
    '{"size": [20, 24], "counts": [-1, 481]}': "no number of pixels",
    '{"size": [20, 24], "counts": [9223372036854775807, 9223372036854775807, 482]}': "no number of pixels",
    '{"size": [20, 24], "counts": "o"}': "damaged or cut off",
    '{"size": [20, 24], "counts": "0"}': "do not fill",
    '{"size": [20, 24], "counts": ""}': "do not fill",
    '{"size": [20, 24], "counts": "é"}': "damaged or cut off",
    '{"size": [20, 24], "counts": "oooooooooooo0"}': "no number of pixels",
    f'{{"size": [20, 24], "counts": {"[" * 500}{"]" * 500}}}': "no number of pixels",
}


@pytest.mark.parametrize("segmentation", BAD_SEGMENTATIONS)
def test_impossible_segmentations_are_refused(tmp_path, segmentation):
    coco(tmp_path)
    annotation = f'{{"image_id": 5, "category_id": 1, "segmentation": {segmentation}}}'
    (tmp_path / "annotations" / "instances_default.json").write_text(
        f'{{"images": [{{"id": 5, "file_name": "0.png"}}], "categories": [{{"id": 1, "name": "x"}}],'
        f'"annotations": [{annotation}]}}'
    )
    with pytest.raises(DataError, match=f"0.png, .*{BAD_SEGMENTATIONS[segmentation]}"):
        COCO(tmp_path, "all")[0]


BAD_SHAPES = {
    '<polygon label="a" points=""/>': "no x,y",
    '<polygon label="a" points="1,1;4,4"/>': "2 points",
    '<polygon label="a" points="1,1;nan,4;5,5"/>': "far outside",
    '<polygon label="a" points="0,0;2e9,0;2e9,2e9"/>': "far outside",
    '<polygon points="1,1;4,4;6,1"/>': "without a label",
    '<polyline label="a" points="1,1;4,4"/>': "polyline of the label 'a', which is no area",
    '<box label="a" xtl="1" ytl="1" xbr="3"/>': "box whose ybr is no number",
    '<box label="a" xtl="1" ytl="1" xbr="3" ybr="inf"/>': "ybr is not finite",
    '<box label="a" xtl="1" ytl="1" xbr="3" ybr="3" rotation="x"/>': "rotation is no number",
    '<ellipse label="a" cx="1e300" cy="1e300" rx="1e300" ry="1e300"/>': "far outside",
    '<mask label="a" rle="4" left="22" top="1" width="4" height="1"/>': "out of the image",
    '<mask label="a" rle="4" left="1" top="1" width="99999999" height="99999999"/>': "out of the image",
    '<mask label="a" rle="1, 2" left="1" top="1" width="2" height="2"/>': "do not fill 2x2",
    f'<mask label="a" rle="{"9" * 5000}" left="1" top="1" width="2" height="2"/>': "no number of pixels",
}


@pytest.mark.parametrize("shape", BAD_SHAPES)
def test_impossible_shapes_are_refused(tmp_path, shape):
    with pytest.raises(DataError, match=f"a.png, .*{BAD_SHAPES[shape]}"):
        one_image(tmp_path, shape + '<tag label="fine"/>')[0]


def test_another_size_is_refused(tmp_path):
    with pytest.raises(DataError, match="says that it has 20x24 pixels, but it has 24x20"):
        one_image(tmp_path, '<box label="a" xtl="1" ytl="1" xbr="3" ybr="3"/>', 'width="20" height="24"')[0]


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">'
    + "".join(
        f'<!ENTITY {after} "{f"&{before};" * 10}">' for before, after in zip("abcdefghi", "bcdefghij", strict=True)
    )
    + "]><annotations>&j;</annotations>"
)
ONE = '"images": [{"id": 1, "file_name": "0.png"}], "categories": [{"id": 1, "name": "x"}]'
BAD_FILES = {
    "empty": (b"", "is no JSON", "is no XML"),
    "other": (b"\xff\xfe\x00", "is no JSON", "is no XML"),
    "list": (b"[1]", "is no file of COCO's", "is no XML"),
    "object": (b"{}", "missing required field", "is no XML"),
    "deep": (b"[" * 1_000_000, "is no file of COCO's", "is no XML"),
    "deep field": (b'{"x": ' + b"[" * 1_000_000, "nested too deeply|is no JSON", "is no XML"),
    "deep element": (b"<annotations>" * 1_000_000, "is no JSON", "nested too deeply"),
    "element": (b"<a/>", "is no JSON", "no element annotations"),
    "cut": (b'<annotations><image id="0" name="0.png">', "is no JSON", "is no XML: no element found"),
    "cut JSON": (f"{{{ONE}, ".encode(), "is no JSON", "is no XML"),
    "bomb": (BOMB.encode(), "is no JSON", "has a document type"),
    "file": (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations/>', "is no JSON", "has a document type"),
    "encoding": (b'<?xml version="1.0" encoding="none"?><annotations/>', "is no JSON", "is no XML"),
    "track": (b"<annotations><track/></annotations>", "is no JSON", "a track without a label"),
    "size": (b'<annotations><image height="x"/></annotations>', "is no JSON", "height is no number"),
    "of none": (f'{{{ONE}, "annotations": [{{"image_id": 2, "category_id": 1}}]}}'.encode(), "image 2", "is no XML"),
    "ids": (
        b'{"images": [{"id": 1, "file_name": "0.png"}, {"id": 1, "file_name": "1.png"}], "annotations": [],'
        b' "categories": []}',
        "of one id",
        "is no XML",
    ),
    "escape": (f'{{{ONE.replace("0.png", chr(92) + "ud800")}, "annotations": []}}'.encode(), "is no JSON", "is no XML"),
}


@pytest.mark.parametrize("content", BAD_FILES)
@pytest.mark.parametrize(("cls", "build"), [(COCO, coco), (CVAT, cvat)])
def test_files_of_another_kind_are_refused_soon_and_in_little_memory(tmp_path, cls, build, content):
    build(tmp_path)
    (path,) = (path for path in tmp_path.rglob("*") if path.suffix in (".json", ".xml"))
    path.write_bytes(BAD_FILES[content][0])
    began = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=f"{path.name} .*({BAD_FILES[content][1 if cls is COCO else 2]})"):
            cls(tmp_path, "all")
        assert tracemalloc.get_traced_memory()[1] < 200 * 2**20
    finally:
        tracemalloc.stop()
    assert time.monotonic() - began < 10
    assert cls.is_divided(tmp_path, {})


@pytest.mark.parametrize(("cls", "build", "largest"), [(COCO, coco, 256), (CVAT, cvat, 32)])
def test_too_large_and_none_are_refused(tmp_path, cls, build, largest):
    build(tmp_path)
    (path,) = (path for path in tmp_path.rglob("*") if path.suffix in (".json", ".xml"))
    with path.open("r+b") as file:
        file.truncate((largest + 1) * 2**20)  # which takes no space
    with pytest.raises(DataError, match=f"has {largest + 1} MB; up to {largest} are read"):
        cls(tmp_path, "all")
    path.unlink()
    with pytest.raises(ValueError, match=r"holds no \.\w+ file of annotations"):
        cls(tmp_path, "all")


def test_what_is_kept_decoded_does_not_depend_on_other_images(tmp_path):
    coco(tmp_path)
    before = COCO(tmp_path, "all")
    path = tmp_path / "annotations" / "instances_default.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = [np.ravel(square(1, 1, 3)).tolist()]
    path.write_text(json.dumps(content))
    after = COCO(tmp_path, "all")
    assert before.origin_of(0) != after.origin_of(0)
    assert before.origin_of(1) == after.origin_of(1)
    assert np.array_equal(pickle.loads(pickle.dumps(after))[0].mask, after[0].mask)
