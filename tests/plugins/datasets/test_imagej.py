"""ROIs of ImageJ, filled as ImageJ fills them."""

import zipfile

import numpy as np
import pytest
from layouts import imagej, pixels, save, square
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi, roiwrite

from transeg.core.errors import DataError
from transeg.plugins.datasets.imagej import ImageJ

SIZE = (20, 24)


def read(tmp_path, *rois, **options):
    """The mask of an image with these ROIs."""
    save(tmp_path / "0.png", pixels(0, *SIZE))
    (tmp_path / "0.zip").unlink(missing_ok=True)
    roiwrite(tmp_path / "0.zip", rois, name=[str(index) for index in range(len(rois))])
    return ImageJ(tmp_path, "all", **options)[0]


def roi(kind, name="a", **fields):
    return ImagejRoi(roitype=kind, name=name, **fields)


def composite(*steps, name="a"):
    values = np.array([value for step in steps for value in step], np.float32)
    return roi(ROI_TYPE.RECT, name, shape_roi_size=len(values), multi_coordinates=values)


def ring(points):
    (first, *others) = points
    return [(0, *first), *((1, *point) for point in others), (4,)]


def test_polygons_rectangles_ovals_and_what_is_unknown(tmp_path):
    imagej(tmp_path)
    dataset = ImageJ(tmp_path, "all")
    assert dataset.classes == ("background", "gland", "nucleus")
    mask, instances = dataset[0].mask, dataset[0].instances
    assert (mask[3:8, 2:7] == 2).all()
    assert (mask[9:15, 12:20] == 1).all()
    assert np.count_nonzero(mask == 255) == 12
    assert [np.count_nonzero(instances == number) for number in (1, 2, 3)] == [25, 48, 0]


@pytest.mark.parametrize("height", [1, 2, 3, 4, 7, 12, 19])
@pytest.mark.parametrize("width", [1, 3, 4, 9, 18])
def test_ovals_are_filled_as_imagej_fills_them(tmp_path, width, height):
    """Pixels whose centres lie within the ellipse."""
    mask = read(tmp_path, roi(ROI_TYPE.OVAL, left=3, top=1, right=3 + width, bottom=1 + height)).mask
    row, column = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    inside = ((column - 3 - width / 2) / (width / 2)) ** 2 + ((row - 1 - height / 2) / (height / 2)) ** 2 <= 1
    assert np.array_equal(mask, inside)


def test_ellipses_and_rotated_rectangles_are_the_polygons_that_imagej_keeps_of_them(tmp_path):
    drawn = np.array([(2.0, 10.0), (12.0, 6.0), (22.0, 10.0), (12.0, 14.0)])
    masks = []
    for kind, subtype in ((ROI_TYPE.FREEHAND, ROI_SUBTYPE.ELLIPSE), (ROI_TYPE.POLYGON, ROI_SUBTYPE.ROTATED_RECT)):
        found = ImagejRoi.frompoints(drawn, name="a")
        found.roitype, found.subtype, found.arrow_style_or_aspect_ratio = kind, subtype, 63
        masks.append(read(tmp_path, found).mask)
    row, column = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    expected = np.abs(column - 12) / 10 + np.abs(row - 10) / 4 < 1
    assert all(np.array_equal(mask, expected) for mask in masks)


def test_polygons_lie_between_pixels_and_rectangles_do_not(tmp_path):
    """As in ImageJ, which fills the pixels around a rectangle."""
    box = roi(ROI_TYPE.RECT, left=1, top=2, right=3, bottom=4, xd=1.6, yd=2.4, widthd=2.0, heightd=2.0)
    box.options = ROI_OPTIONS.SUB_PIXEL_RESOLUTION
    drawn = ImagejRoi.frompoints(np.array(square(9.6, 2.4, 2.0)), name="a")
    mask = read(tmp_path, box, drawn).mask
    assert np.argwhere(mask).tolist() == [[2, 1], [2, 2], [2, 10], [2, 11], [3, 1], [3, 2], [3, 10], [3, 11]]


def test_composites_have_holes_parts_and_curves(tmp_path):
    holed = composite(*ring(square(1, 1, 8)), *ring(square(3, 3, 2)), *ring(square(12, 1, 3)), (0, 5, 5))
    mask = read(tmp_path, holed, roi(ROI_TYPE.RECT, "b", left=2, top=2, right=8, bottom=8)).mask
    assert np.count_nonzero(mask == 2) == 36
    assert np.count_nonzero(mask == 1) == 64 - 36 + 9
    near = 4 * 0.5523
    circle = composite(
        (0, 14, 10),
        (3, 14, 10 + near, 10 + near, 14, 10, 14),
        (3, 10 - near, 14, 6, 10 + near, 6, 10),
        (3, 6, 10 - near, 10 - near, 6, 10, 6),
        (3, 10 + near, 6, 14, 10 - near, 14, 10),
        (4,),
    )
    oval = roi(ROI_TYPE.OVAL, left=6, top=6, right=14, bottom=14)
    assert np.array_equal(read(tmp_path, circle).mask, read(tmp_path, oval).mask)
    bowl = read(tmp_path, composite((0, 2, 2), (2, 10, 18, 18, 2), (4,))).mask
    row, column = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    along = ((column - 2) / 16).clip(0, 1)
    assert np.array_equal(bowl, (row > 2) & (row < 2 + 32 * along * (1 - along)))


def test_names_say_classes(tmp_path):
    names = ["gland #12", "gland", "type #3 #1", "type-2", "0001-0042 #1x"]
    rois = [roi(ROI_TYPE.RECT, name, left=4 * i, top=0, right=4 * i + 4, bottom=4) for i, name in enumerate(names)]
    sample = read(tmp_path, *rois, classes=("background", "gland", "type #3", "type-2", "0001-0042 #1x"))
    assert sample.mask[0, ::4].tolist() == [1, 1, 2, 3, 4, 0]
    single = roi(ROI_TYPE.RECT, "cell #4", left=1, top=1, right=3, bottom=3)
    (tmp_path / "0.zip").unlink()
    single.tofile(tmp_path / "0.roi")
    assert ImageJ(tmp_path, "all").classes == ("background", "cell")
    assert ImageJ(tmp_path, "all")[0].mask.sum() == 4


def test_members_name_rois_that_have_no_name_themselves(tmp_path):
    save(tmp_path / "0.png", pixels(0, *SIZE))
    roiwrite(tmp_path / "0.zip", [roi(ROI_TYPE.RECT, "", right=3, bottom=3)], name=["cell #1"])
    assert ImageJ(tmp_path, "all").classes == ("background", "cell")


def test_rois_that_nobody_has_named_need_a_class(tmp_path):
    rois = [roi(ROI_TYPE.RECT, name, right=3, bottom=3) for name in ("0001-0042-0037", "0042-0037-1", "__ignore__")]
    with pytest.raises(ValueError, match=r"0.zip has the ROI '0001-0042-0037', whose name says no class; .* one_class"):
        read(tmp_path, *rois[:2])
    sample = read(tmp_path, *rois, one_class="cell")
    assert (sample.mask[:3, :3] == 255).all()
    assert ImageJ(tmp_path, "all", one_class="cell").classes == ("background", "cell")


def test_an_archive_without_rois_is_background(tmp_path):
    assert not read(tmp_path, classes=("background", "a")).mask.any()


LINE = {"x2": 9.0, "y2": 9.0}
REFUSED = {
    "line": (roi(ROI_TYPE.LINE, **LINE), "'a' of the type line, which is no area"),
    "arrow": (roi(ROI_TYPE.LINE, subtype=ROI_SUBTYPE.ARROW, **LINE), "of the type arrow"),
    "text": (roi(ROI_TYPE.RECT, subtype=ROI_SUBTYPE.TEXT, right=9, bottom=9), "of the type text"),
    "rounded": (roi(ROI_TYPE.RECT, right=9, bottom=9, rounded_rect_arc_size=3), "rounded corners"),
    "empty composite": (composite((0, 1, 1), (4,)), "a composite that encloses nothing"),
    "unknown step": (composite((0, 1, 1), (7, 1, 1)), "a composite whose outline is damaged"),
    "cut step": (composite((0, 1, 1), (1, 1)), "a composite whose outline is damaged"),
    "step from nowhere": (composite((1, 1, 1), (4,)), "a composite whose outline is damaged"),
    "composite oval": (roi(ROI_TYPE.OVAL, shape_roi_size=4), "a composite that is damaged"),
    "far away": (composite(*ring(square(0, 0, 1e30))), "far outside"),
    "not finite": (composite(*ring(square(0, 0, float("nan")))), "far outside"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_encloses_nothing_is_refused(tmp_path, kind):
    refused, reason = REFUSED[kind]
    with pytest.raises(DataError, match=f"0.zip has .*{reason}"):
        read(tmp_path, refused, classes=("background", "a"))


@pytest.mark.parametrize("kind", ["FREELINE", "POLYLINE", "ANGLE", "POINT"])
def test_lines_and_points_are_refused(tmp_path, kind):
    drawn = ImagejRoi.frompoints(square(1, 1, 4), name="a")
    drawn.roitype = ROI_TYPE[kind]
    with pytest.raises(DataError, match=f"has the ROI 'a' of the type {kind.lower()}, which is no area"):
        read(tmp_path, drawn, classes=("background", "a"))


def test_splines_two_points_and_stacks_are_refused(tmp_path):
    drawn = ImagejRoi.frompoints(square(1, 1, 4), name="a")
    drawn.options |= ROI_OPTIONS.SPLINE_FIT
    for rois, reason in (
        ([drawn], "a spline; make it a freehand area"),
        ([ImagejRoi.frompoints([[1, 1], [4, 4]], name="a")], "of 2 points"),
        ([ImagejRoi.frompoints(square(1, 1, 4), name="a", position=n) for n in (0, 1)], "2 slices of a stack"),
    ):
        with pytest.raises(DataError, match=reason):
            read(tmp_path, *rois, classes=("background", "a"))
    one = [ImagejRoi.frompoints(square(1, 1, 4), name="a", position=3) for _ in range(2)]
    assert read(tmp_path, *one).mask.sum() == 16


def test_more_rois_than_there_is_time_for_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("transeg.plugins.datasets.imagej.MOST", 2)
    rois = [roi(ROI_TYPE.RECT, right=3, bottom=3)] * 3
    with pytest.raises(DataError, match=r"0.zip holds 3 ROIs; up to 2 are read"):
        read(tmp_path, *rois, classes=("background", "a"))
    assert read(tmp_path, *rois[:2]).mask.any()


def zipped(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.roi", content)
    return path.read_bytes()


@pytest.mark.parametrize("seed", range(40))
def test_damaged_rois_are_told(tmp_path, seed):
    """Wherever a byte is another, or the rest is missing: a sentence, or a mask."""
    rng = np.random.default_rng(seed)
    drawn = [ImagejRoi.frompoints(square(1, 1, 4), name="a"), composite(*ring(square(1, 1, 4)))][seed % 2]
    stored = bytearray(drawn.tobytes())
    for place in rng.integers(0, len(stored), rng.integers(1, 6)):
        stored[place] = rng.integers(256)
    save(tmp_path / "0.png", pixels(0, *SIZE))
    (tmp_path / "0.roi").write_bytes(stored[: rng.integers(len(stored))] if seed % 3 == 0 else stored)
    said = "0.roi has "
    try:
        mask = ImageJ(tmp_path, "all", one_class="a")[0].mask
    except (DataError, ValueError) as error:
        said = str(error)
        mask = np.zeros(SIZE)
    assert mask.shape == SIZE
    assert "0.roi has " in said


def test_files_of_another_kind_are_refused(tmp_path):
    save(tmp_path / "0.png", pixels(0, *SIZE))
    path = tmp_path / "0.zip"
    whole = zipped(path, a=roi(ROI_TYPE.RECT, right=3, bottom=3).tobytes())
    with zipfile.ZipFile(tmp_path / "other", "w") as archive:
        archive.writestr("notes.txt", "mine")
    for content, reason in (
        (b"none", "is no ROI zip"),
        (whole[:-30], "is no ROI zip"),
        (whole[:45] + b"\xff\xff\xff" + whole[48:], "is no ROI zip, or is damaged"),
        ((tmp_path / "other").read_bytes(), "holds no ROIs"),
        (zipped(path, a=b"PNG" * 30), "has a ROI .*none of ImageJ|'a' that is none of ImageJ"),
        (zipped(path, a=bytes(33 * 2**20)), "unpacks to more than 32 MB"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"0.zip {reason}|0.zip has .*{reason}"):
            ImageJ(tmp_path, "all", classes=("background", "a"))[0]
