import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
from layouts import SECRET, slides, square, tissue_slide, write_pyramid, write_slide
from rich.console import Console

from transeg.core.api.verification import verify_dataset
from transeg.core.data.images import resize_mask
from transeg.core.data.label_pyramid import write_label_pyramid
from transeg.core.errors import UsageError
from transeg.core.interfaces import IGNORE, Region
from transeg.core.registry import Registry
from transeg.plugins.datasets.slides import Slides

REGISTRY = Registry()
TUMOUR, HOLE, STROMA = square(96, 100, 60), square(110, 120, 20), square(170, 140, 40)


def all_of(root, **options):
    return Slides(root, "all", **options)


def names(dataset):
    return [dataset[index].name for index in range(len(dataset))]


def whole(dataset, field="mask"):
    """The pieces of a slide put together again."""
    size = dataset.pairs[0].size
    found = np.full(size, 99, np.int64)
    for pair, sample in zip(dataset.pairs, (dataset[index] for index in range(len(dataset))), strict=True):
        top, left, height, width = pair.region
        found[top : top + height, left : left + width] = getattr(sample, field)
    return found


def feature(name, *rings):
    closed = [[*ring, ring[0]] for ring in rings]
    properties = {} if name is None else {"classification": {"name": name}}
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": closed}, "properties": properties}


def annotate(path, *features):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def drawn(*squares):
    """The pixels in squares ``(value, x, y, side)`` of a slide of the usual size."""
    mask = np.zeros((256, 320), np.uint8)
    for value, x, y, side in squares:
        mask[y : y + side, x : x + side] = value
    return mask


@pytest.fixture
def one(tmp_path):
    """A slide with annotations of two classes."""
    write_slide(tmp_path / "images" / "a.svs", tissue_slide()[0])
    annotate(tmp_path / "annotations" / "a.geojson", feature("Tumor", TUMOUR, HOLE), feature("Stroma", STROMA))
    return tmp_path


def test_pieces_lie_side_by_side_where_there_is_tissue(one):
    everything = all_of(one, region=64, tissue=0)
    assert len(everything) == 20
    assert names(everything)[:2] == ["a_x0_y0", "a_x64_y0"]
    assert (whole(everything) == drawn((2, 96, 100, 60), (0, 110, 120, 20), (1, 170, 140, 40))).all()
    assert everything.classes == ("background", "Stroma", "Tumor")
    tissue = all_of(one, region=64, tissue=0.5)
    assert 0 < len(tissue) < 12
    assert "a_x128_y64" in names(tissue)
    assert "a_x0_y0" not in names(tissue)
    assert {pair.group for pair in tissue.pairs} == {"a"}
    assert names(all_of(one, region=200, tissue=0)) == ["a_x0_y0", "a_x120_y0", "a_x0_y56", "a_x120_y56"]
    assert [everything.size_of(0), all_of(one, region=1024).size_of(0)] == [(64, 64), (256, 320)]


def test_slides_are_read_at_micrometres_a_pixel(one):
    for mpp, size in ((0.5, (256, 320)), (1.0, (128, 160)), (2.0, (64, 80)), (0.7, (183, 229))):
        dataset = all_of(one, mpp=mpp, region=32, tissue=0)
        assert dataset.pairs[0].size == size
        assert dataset[0].pixel_size == dataset.pixel_size_of(0) == (mpp, mpp)
        truth = resize_mask(drawn((2, 96, 100, 60), (0, 110, 120, 20), (1, 170, 140, 40)), *size)
        assert (whole(dataset) == truth).mean() > 0.99
    assert all_of(one, region=64)[0].pixel_size == (0.5, 0.5)


def test_pieces_and_their_parts_show_the_slide(one):
    dataset = all_of(one, mpp=1.0, region=50, tissue=0)
    for index in (0, 5, len(dataset) - 1):
        sample, part = dataset[index], dataset.read_region(index, Region(7, 11, 20, 30))
        for name in ("image", "mask", "instances"):
            assert (getattr(part, name) == getattr(sample, name)[7:27, 11:41]).all()
        assert part.pixel_size == sample.pixel_size
        assert (np.abs(sample.image.astype(int) - SECRET).sum(axis=2) > 60).all()


def test_only_what_is_in_an_area_is_known(one):
    area, unsure = square(90, 90, 80), square(100, 150, 15)
    annotate(
        one / "annotations" / "a.geojson",
        feature("Region*", area),
        feature("Tumor", TUMOUR),
        feature("Stroma", STROMA),
        feature("Ignore*", unsure),
    )
    dataset = all_of(one, region=32, tissue=0)
    assert dataset.classes == ("background", "Stroma", "Tumor")
    assert names(dataset)[0] == "a_x64_y64"
    assert len(dataset) == 16
    truth = drawn((2, 96, 100, 60), (1, 170, 140, 40), (IGNORE, 100, 150, 15))
    truth[drawn((1, 90, 90, 80)) == 0] = IGNORE
    found = whole(dataset)
    assert (found[found != 99] == truth[found != 99]).all()
    assert not whole(dataset, "instances")[truth == IGNORE][found[truth == IGNORE] != 99].any()
    everything = all_of(one, region=32, tissue=0, within=None)
    assert everything.classes == ("background", "Region*", "Stroma", "Tumor")
    assert len(everything) == 80


def test_an_outline_may_be_as_large_as_the_slide(one):
    annotate(one / "annotations" / "a.geojson", feature("Tumor", [[0, 0], [320, 0], [320, 256], [0, 256]]))
    dataset = all_of(one, region=32, tissue=0)
    assert (whole(dataset) == 1).all()
    annotate(one / "annotations" / "a.geojson", feature("Tumor", [[0, 0], [1e6, 0], [320, 256], [0, 256]]))
    found = verified(one, "region=32", "tissue=0")
    assert "a.geojson has a point that lies far outside" in found["faults"][0]["reason"]


def verified(root, *assignments):
    return verify_dataset(f"slides:{root}", assignments, REGISTRY, Console(quiet=True))


@pytest.mark.parametrize("size", [(256, 320), (128, 160), (64, 80)])
@pytest.mark.parametrize("ending", [".tif", ".ome.tif"])
def test_masks_may_be_as_large_as_the_slide_or_smaller(tmp_path, size, ending):
    write_pyramid(tmp_path / "images" / "a.ome.tif", tissue_slide()[0])
    truth = resize_mask(drawn((255, 96, 100, 60)), *size)
    (tmp_path / "masks").mkdir()
    write_label_pyramid(tmp_path / "masks" / f"a{ending}", lambda: [truth], size, (0.5, 0.5), "")
    dataset = all_of(tmp_path, region=64, tissue=0)
    assert dataset.classes == ("background", "foreground")
    assert (whole(dataset) == (resize_mask(truth, 256, 320) > 0)).all()
    small = all_of(tmp_path, region=32, tissue=0, mpp=2.0)
    assert (whole(small) == (resize_mask(truth, 64, 80) > 0)).mean() > 0.99
    assert small[0].instances is None


def test_masks_of_several_classes(tmp_path):
    write_slide(tmp_path / "images" / "a.svs", tissue_slide()[0])
    (tmp_path / "masks").mkdir()
    truth = drawn((1, 10, 10, 50), (2, 96, 100, 60), (255, 200, 100, 30))
    tifffile.imwrite(tmp_path / "masks" / "a.tif", truth, tile=(64, 64))
    classes = ("background", "Stroma", "Tumor")
    assert (whole(all_of(tmp_path, region=64, tissue=0, classes=classes)) == truth).all()
    tifffile.imwrite(tmp_path / "masks" / "a.tif", truth * (truth < 200) * 7, tile=(64, 64))
    assert (
        whole(all_of(tmp_path, region=64, tissue=0, classes=classes, values=(0, 7, 14))) == truth * (truth < 200)
    ).all()
    reasons = [fault["reason"] for fault in verified(tmp_path, "region=64", "tissue=0")["faults"]]
    assert any("a.tif has the pixel values [14], which stand for no class" in reason for reason in reasons)
    with pytest.raises(ValueError, match="2 mask values cannot stand for the classes"):
        all_of(tmp_path, classes=classes, values=(0, 7))


def test_layouts(tmp_path):
    for name in ("b.svs", "a.svs"):
        write_slide(tmp_path / "bare" / name, tissue_slide()[0])
    write_pyramid(tmp_path / "deep" / "images" / "p1" / "x.tif", tissue_slide()[0])
    write_pyramid(tmp_path / "deep" / "images" / "p1" / "y.tif", tissue_slide()[0])
    bare, deep = all_of(tmp_path / "bare"), all_of(tmp_path / "deep")
    assert names(bare) == ["a_x0_y0", "b_x0_y0"]
    assert bare[0].mask is None
    assert names(deep) == ["p1_x_x0_y0", "p1_y_x0_y0"]
    assert {pair.group for pair in deep.pairs} == {"p1"}
    assert names(all_of(tmp_path / "bare" / "b.svs")) == ["b_x0_y0"]
    annotate(tmp_path / "bare" / "a.geojson", feature("Tumor", TUMOUR))
    annotate(tmp_path / "bare" / "b.geojson")
    beside = all_of(tmp_path / "bare")
    assert [sample.mask.max() for sample in (beside[0], beside[1])] == [1, 0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no slide in .svs, .ndpi"):
        all_of(tmp_path / "empty")


def test_what_does_not_fit_is_told(tmp_path, caplog):
    for name in "abcde":
        write_slide(tmp_path / "images" / f"{name}.svs", tissue_slide()[0], mpp=None if name == "d" else 0.5)
    for name in "abdez":
        annotate(tmp_path / "annotations" / f"{name}.geojson", feature("Tumor", TUMOUR))
    (tmp_path / "annotations" / "e.geojson").write_text("{")
    (tmp_path / "masks").mkdir()
    tifffile.imwrite(tmp_path / "masks" / "b.tif", drawn(), tile=(64, 64))
    (tmp_path / "images" / "f.svs").write_bytes(b"II*\0")
    annotate(tmp_path / "annotations" / "f.geojson", feature("Tumor", TUMOUR))
    reasons = [fault["reason"] for fault in verified(tmp_path, "mpp=1")["faults"]]
    for name, clause in (
        ("z.geojson", "holds the annotations of no slide"),
        ("b.tif", "take one of them away"),
        ("c.svs", "has neither annotations nor a mask"),
        (
            "d.svs",
            "does not say how large its pixels are, so it cannot be read at 1 micrometres a pixel; leave mpp out",
        ),
        ("e.geojson", "is no JSON"),
        ("f.svs", "is no slide that tiffslide reads"),
    ):
        assert any(name in reason and clause in reason for reason in reasons), (name, reasons)
    assert len(reasons) == 6
    assert "does not read as images" not in caplog.text


@pytest.mark.parametrize("size", [(200, 320), (512, 640), (128, 200)])
def test_a_mask_of_another_shape_is_refused(tmp_path, size):
    write_slide(tmp_path / "images" / "a.svs", tissue_slide()[0])
    (tmp_path / "masks").mkdir()
    tifffile.imwrite(tmp_path / "masks" / "a.tif", np.zeros(size, np.uint8), tile=(64, 64))
    said = all_of(tmp_path).faults[0].reason
    assert f"a.tif has {size[1]}x{size[0]} pixels, which are not the 320x256 of its slide a.svs" in said


def test_options_that_cannot_be(one):
    for options, said in (
        ({"mpp": 0.0}, "mpp=0.0 is no number"),
        ({"region": 8}, "region=8 is no side"),
        ({"tissue": 2.0}, "tissue=2.0 is no share"),
    ):
        with pytest.raises(ValueError, match=said):
            all_of(one, **options)


def test_nothing_of_a_patient_gets_out(tmp_path):
    slides(tmp_path)
    dataset = all_of(tmp_path, region=64)
    assert "DOE" not in repr([vars(pair) for pair in dataset.pairs])
    assert "DOE" not in json.dumps(verified(tmp_path, "region=64"), default=str)
    for index in range(len(dataset)):
        assert (np.abs(dataset[index].image.astype(int) - SECRET).sum(axis=2) > 60).all()


def test_a_large_slide_is_listed_and_read_in_little_memory(tmp_path):
    """A hundred megapixels, of which a piece is in memory at a time."""
    tile = np.full((512, 512, 3), (225, 160, 195), np.uint8)
    kept = {"tile": (512, 512), "compression": "zlib", "photometric": "rgb", "dtype": np.uint8}
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for count, more in ((20, {"subifds": 1}), (5, {"subfiletype": 1})):
            shape = count * 512, count * 512, 3
            file.write((tile for _ in range(count**2)), shape=shape, metadata=None, **kept, **more)
    tracemalloc.start()
    try:
        dataset = all_of(tmp_path / "a.tif", region=1024)
        assert len(dataset) == 100
        assert dataset[99].size == (1024, 1024)
        assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    finally:
        tracemalloc.stop()


def test_a_missing_package_is_told(one, monkeypatch):
    monkeypatch.setattr("transeg.core.optional_packages.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"The dataset slides needs tiffslide.*pip install 'transeg\[slides\]'"):
        all_of(one)
    assert Path(one / "images" / "a.svs").exists()
