import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from transeg.core.interfaces import IGNORE
from transeg.tools.report.cases import rank_cases
from transeg.tools.report.pictures import (
    CLASS_COLOURS,
    CONFUSED,
    ERROR_COLOURS,
    FALSE,
    MISSED,
    RIGHT,
    WIDTH,
    encode_picture,
    paint_classes,
    paint_errors,
)


def test_the_worst_the_median_and_the_best_are_chosen_by_value_and_name():
    dice = np.array([0.9, 0.1, 0.5, np.nan, 0.5, 0.3, 0.8])
    names = ["a", "b", "d", "e", "c", "f", "g"]
    assert rank_cases(dice, names, 1) == [("worst", 1), ("median", 4), ("best", 0)]
    assert rank_cases(dice, names, 2) == [
        ("worst", 1),
        ("worst", 5),
        ("median", 4),
        ("median", 2),
        ("best", 0),
        ("best", 6),
    ]


@pytest.mark.parametrize(
    ("dice", "expected"),
    [
        ([], []),
        ([np.nan], []),
        ([0.5], [("", 0)]),
        ([0.5, 0.2], [("worst", 1), ("best", 0)]),
        ([0.5, 0.2, 0.4], [("worst", 1), ("median", 2), ("best", 0)]),
    ],
)
def test_few_images_are_shown_once_each(dice, expected):
    assert rank_cases(np.array(dice), [str(number) for number in range(len(dice))]) == expected


def test_errors_are_told_apart():
    predicted, truth = np.array([[0, 1, 1, 0, 2, 1]]), np.array([[0, 1, 0, 1, 1, IGNORE]])
    shown = paint_errors(np.full((1, 6, 3), 100, np.uint8), predicted, truth)
    plain = shown[0, 0]
    assert (plain == plain[0]).all()
    assert (shown[0, 5] == plain).all()  # the truth is unknown there
    for place, kind in enumerate((RIGHT, FALSE, MISSED, CONFUSED), start=1):
        mixed = 0.8 * np.array(ERROR_COLOURS[kind]) + 0.2 * plain
        assert np.abs(shown[0, place] - mixed).max() <= 1, kind


def test_kinds_of_errors_differ_in_lightness():
    """So that they can be told apart without any colour."""
    lightness = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in ERROR_COLOURS.values())
    assert (np.diff(lightness) > 15).all()


def test_outlines_have_the_colour_of_their_class_and_what_is_unknown_none():
    mask = np.zeros((40, 40), np.uint8)
    mask[5:20, 5:20], mask[25:35, 25:35], mask[:3] = 1, 2, IGNORE
    shown = paint_classes(np.full((40, 40, 3), 90, np.uint8), mask)
    assert tuple(shown[5, 5]) == CLASS_COLOURS[0]
    assert tuple(shown[25, 25]) == CLASS_COLOURS[1]
    assert (shown[0] == 90).all()
    assert 90 < shown[12, 12, 0] < 255  # tinted, not covered


def test_pictures_are_small_enough_to_be_sent():
    wide = encode_picture(np.random.default_rng(0).integers(0, 255, (900, 1600, 3), np.uint8), "noise")
    assert (wide.width, wide.height) == (WIDTH, 315)
    image = Image.open(BytesIO(base64.b64decode(wide.uri.partition(",")[2])))
    assert image.size == (WIDTH, 315)
    assert not wide.enlarged
    pixels = np.random.default_rng(1).integers(0, 255, (20, 30, 3), np.uint8)
    tiny = encode_picture(pixels, "tiny")
    assert tiny.enlarged
    assert (np.asarray(Image.open(BytesIO(base64.b64decode(tiny.uri.partition(",")[2])))) == pixels).all()
