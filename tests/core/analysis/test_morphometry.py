"""Fibres of known shape, and what is written of them."""

import csv
import json
import math

import numpy as np
import pytest
from PIL import Image
from skimage.measure import label, perimeter_crofton

from transeg.core.analysis.fibre_tables import FibreTables
from transeg.core.analysis.morphometry import Morphometry, MorphometryOptions, morphometry_from_options, perimeters
from transeg.core.errors import UsageError

AXON, MYELIN = 1, 2


def ellipse(shape, centre, semiaxes, angle=0.0, pixel=(1.0, 1.0)):
    """Bool; centre in pixels, semiaxes in micrometres along x and y before the turn, counter-clockwise as seen."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    y, x = -(y - centre[0]) * pixel[0], (x - centre[1]) * pixel[1]
    turn = math.radians(angle)
    along, across = x * math.cos(turn) + y * math.sin(turn), -x * math.sin(turn) + y * math.cos(turn)
    return (along / semiaxes[0]) ** 2 + (across / semiaxes[1]) ** 2 <= 1


def fibre(mask, centre, inner, outer, pixel=(1.0, 1.0)):
    """Draw a ring of myelin with an axon in it."""
    mask[ellipse(mask.shape, centre, (outer, outer), pixel=pixel) & (mask != AXON)] = MYELIN
    mask[ellipse(mask.shape, centre, (inner, inner), pixel=pixel)] = AXON


@pytest.mark.parametrize("pixel", [(1.0, 1.0), (0.05, 0.05), (0.1, 0.2)])
@pytest.mark.parametrize("inner", [0.4, 0.6, 0.8])
def test_a_ring(pixel, inner):
    mask = np.zeros((150, 150), np.uint8)
    radius = 60 * pixel[0]
    fibre(mask, (75, 75), inner * radius, radius, pixel)
    (found,), tissue = Morphometry(AXON, MYELIN, pixel)(mask)
    assert found.g_ratio == pytest.approx(inner, rel=0.01)
    assert found.axon_diameter == pytest.approx(2 * inner * radius, rel=0.01)
    assert found.fibre_diameter == pytest.approx(2 * radius, rel=0.01)
    assert found.axon_minor_axis == pytest.approx(2 * inner * radius, rel=0.02)
    assert found.fibre_minor_axis == pytest.approx(2 * radius, rel=0.02)
    assert found.myelin_thickness == pytest.approx((1 - inner) * radius, rel=0.03)
    assert found.axon_area == pytest.approx(math.pi * (inner * radius) ** 2, rel=0.02)
    assert found.fibre_area == pytest.approx(found.axon_area + found.myelin_area)
    assert found.axon_perimeter == pytest.approx(2 * math.pi * inner * radius, rel=0.03)
    assert (found.row, found.column) == pytest.approx((75, 75), abs=1e-6)
    assert found.eccentricity < 0.2
    assert found.solidity > 0.95
    assert not found.touches_border
    assert tissue.myelin_without_axon == 0
    assert tissue.area == pytest.approx(150 * 150 * math.prod(pixel))


@pytest.mark.parametrize("pixel", [(1.0, 1.0), (1.0, 2.0), (3.0, 2.0)])
@pytest.mark.parametrize("angle", [0, 30, 90, -60])
def test_an_ellipse(angle, pixel):
    """Eccentricity, the long axis, and lengths do not depend on how the image was sampled."""
    mask = ellipse((260, 260), (130, 130), (100, 50), angle, pixel).astype(np.uint8) * AXON
    (found,), _ = Morphometry(AXON, MYELIN, pixel)(mask)
    assert found.eccentricity == pytest.approx(math.sqrt(0.75), abs=0.01)
    assert found.axon_minor_axis == pytest.approx(100, rel=0.02)
    assert found.orientation == pytest.approx(angle, abs=1) or found.orientation == pytest.approx(angle - 180, abs=1)
    assert -90 < found.orientation <= 90 + 1e-9
    assert found.axon_diameter == pytest.approx(2 * math.sqrt(100 * 50), rel=0.01)
    assert found.axon_perimeter == pytest.approx(484.4, rel=0.04)


def test_touching_fibres_are_parted_where_they_are_narrow():
    """Thick myelin beside thin: halfway between the axons would give the thin one a piece of the thick."""
    mask = np.zeros((120, 200), np.uint8)
    fibre(mask, (60, 60), 20, 50)
    fibre(mask, (60, 139), 26, 31)
    measured, tissue = Morphometry(AXON, MYELIN, (1.0, 1.0))(mask)
    thick, thin = sorted(measured, key=lambda each: each.column)
    assert thick.fibre_diameter == pytest.approx(100, rel=0.02)
    assert thin.fibre_diameter == pytest.approx(62, rel=0.02)
    assert thick.g_ratio == pytest.approx(0.4, rel=0.03)
    assert thin.g_ratio == pytest.approx(26 / 31, rel=0.03)
    assert tissue.myelin_without_axon == 0


def test_myelin_without_axon_belongs_to_none():
    mask = np.zeros((60, 100), np.uint8)
    fibre(mask, (30, 30), 10, 20)
    mask[20:40, 70:90] = MYELIN
    (found,), tissue = Morphometry(AXON, MYELIN, (0.5, 0.5))(mask)
    assert tissue.myelin_without_axon == 400 * 0.25
    assert found.myelin_area == pytest.approx(tissue.myelin_area - 100)


def test_an_axon_without_myelin_has_no_g_ratio():
    mask = np.zeros((60, 60), np.uint8)
    fibre(mask, (30, 30), 10, 0.5)
    (found,), _ = Morphometry(AXON, MYELIN, (1.0, 1.0))(mask)
    assert found.axon_diameter == pytest.approx(20, rel=0.02)
    assert found.myelin_area == 0
    assert all(
        math.isnan(v) for v in (found.g_ratio, found.fibre_diameter, found.fibre_minor_axis, found.myelin_thickness)
    )


@pytest.mark.parametrize(("column", "touches"), [(20, True), (21, False), (79, True), (78, False)])
def test_a_fibre_touches_the_border_when_its_myelin_does(column, touches):
    mask = np.zeros((100, 100), np.uint8)
    fibre(mask, (50, column), 10, 20)
    (found,), _ = Morphometry(AXON, MYELIN, (1.0, 1.0))(mask)
    assert found.touches_border is touches


def test_images_without_background_or_without_anything():
    full = np.full((20, 30), MYELIN, np.uint8)
    full[5:8, 5:8] = full[5:8, 20:23] = AXON
    left, right = Morphometry(AXON, MYELIN, (1.0, 1.0))(full)[0]
    assert left.fibre_area + right.fibre_area == 600
    assert left.fibre_area == pytest.approx(right.fibre_area, rel=0.2)
    found, tissue = Morphometry(AXON, MYELIN, (1.0, 1.0))(np.zeros((5, 5), np.uint8))
    assert found == []
    assert tissue.axon_area == 0


def test_one_pixel_is_measured():
    mask = np.zeros((5, 5), np.uint8)
    mask[2, 2] = AXON
    (found,), _ = Morphometry(AXON, MYELIN, (1.0, 1.0))(mask)
    assert (found.axon_area, found.solidity, found.eccentricity) == (1, 1, 0)


def test_perimeters_are_those_of_crofton():
    numbers = label(np.random.default_rng(0).random((40, 50)) > 0.7)
    ours = perimeters(numbers, numbers.max(), (1.0, 1.0))
    theirs = [perimeter_crofton(numbers == number, 4) for number in range(1, numbers.max() + 1)]
    assert ours == pytest.approx(theirs)


class TestOptions:
    def test_classes_by_their_names(self):
        options = morphometry_from_options(True, (0.1, 0.2), None, None)
        assert options == MorphometryOptions((0.1, 0.2))
        assert options.of(("background", "myelin", "axon")) == Morphometry(2, 1, (0.1, 0.2))
        named = morphometry_from_options(True, (0.1, 0.1), "inside", "sheath").of(("background", "inside", "sheath"))
        assert named == Morphometry(1, 2, (0.1, 0.1))
        assert morphometry_from_options(False, None, None, None) is None

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ((True, None, None, None), "say how large a pixel is with --pixel-size"),
            ((False, None, None, "x"), "--myelin-class is for measuring fibres"),
        ],
    )
    def test_what_makes_no_sense(self, arguments, said):
        with pytest.raises(UsageError) as error:
            morphometry_from_options(*arguments)
        assert said in str(error.value)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ((None, None), "there is no class axon, but polyp; say which it is with --axon-class NAME."),
            (("polyp", None), "there is no class myelin, but polyp"),
            (("polyp", "polyp"), "polyp cannot be both axon and myelin"),
        ],
    )
    def test_classes_that_are_not_there(self, options, said):
        with pytest.raises(UsageError) as error:
            MorphometryOptions((1.0, 1.0), *options).of(("background", "polyp"))
        assert said in str(error.value)


def test_tables(tmp_path):
    mask = np.zeros((100, 200), np.uint8)
    fibre(mask, (50, 50), 20, 40)
    fibre(mask, (50, 150), 30, 40)
    fibre(mask, (2, 100), 3, 6)  # at the border: counted, but in no mean
    with FibreTables(Morphometry(AXON, MYELIN, (0.1, 0.1)), tmp_path) as tables:
        tables.add("a", mask)
        tables.add("empty", np.zeros_like(mask))
    first, empty = csv.DictReader((tmp_path / "morphometry.csv").open())
    assert (first["axon_count"], first["myelinated_count"], first["whole_count"]) == ("3", "3", "2")
    assert float(first["image_area_mm2"]) == pytest.approx(2e-4)
    assert float(first["axon_density_per_mm2"]) == pytest.approx(3 / 2e-4)
    assert float(first["g_ratio_mean"]) == float(first["g_ratio_median"]) == pytest.approx(0.625, abs=0.01)
    assert float(first["axon_diameter_um_mean"]) == pytest.approx(5, rel=0.02)
    assert float(first["axon_area_fraction"]) == pytest.approx((mask == AXON).mean())
    assert float(first["myelin_area_fraction"]) == pytest.approx((mask == MYELIN).mean())
    assert (empty["axon_count"], empty["g_ratio_mean"]) == ("0", "")
    lines = list(csv.DictReader((tmp_path / "fibres.csv").open()))
    assert [line["touches_border"] for line in lines].count("1") == 1
    assert all(float(line["centroid_x_um"]) == pytest.approx(float(line["centroid_x"]) * 0.1) for line in lines)


def test_predict_measures_what_it_writes(toolkit, tmp_path):
    rng = np.random.default_rng(0)
    for index in range(4):
        mask = np.zeros((40, 40), np.uint8)
        fibre(mask, rng.integers(14, 26, 2), 6, 12)
        for folder, pixels in (("images", 100 * mask), ("masks", mask)):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "data" / folder / f"{index}.png")
    settings = [
        "data.size=32",
        "segmenter.base=4",
        "train.iterations=2",
        "train.batch_size=2",
        "data.source.channels=1",
    ]
    settings += ["data.source.classes=['background', 'axon', 'myelin']"]
    line = ["--segmenter", "unet", "--loss", "ce", "--source", f"folder:{tmp_path / 'data'}"]
    run, out = tmp_path / "run", tmp_path / "out"
    toolkit("run", *line, *(t for s in settings for t in ("--set", s)), "--run-dir", run)
    predict = ["predict", run, tmp_path / "data" / "images", "-o", out]
    result = toolkit(*predict, "--morphometry", "--pixel-size", 0.5, "--count")
    assert str(out / "fibres.csv") in result.stdout.replace("\n", "")
    images = list(csv.DictReader((out / "morphometry.csv").open()))
    assert [image["image"] for image in images] == ["0", "1", "2", "3"]
    for image in images:
        mask = np.asarray(Image.open(out / "masks" / f"{image['image']}.png"))
        assert int(image["axon_count"]) == label(mask == AXON).max()
    assert (out / "objects.csv").exists()
    said = toolkit(*predict, "--morphometry", code=2).stderr
    assert "say how large a pixel is with --pixel-size" in " ".join(said.split())
    said = toolkit(*predict, "--morphometry", "--pixel-size", 1, "--axon-class", "neurite", code=2).stderr
    assert "there is no class neurite, but axon, myelin" in " ".join(said.split())
    assert json.loads((run / "metrics.json").read_text())["tests"] == {}
