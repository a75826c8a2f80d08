import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transeg.core.errors import UsageError
from transeg.tools.sweep.grid import grid_points, parse_axes


def names(**axes):
    return [point.name for point in grid_points(parse_axes(axes))]


def test_names_are_readable():
    assert names(generator=["cut"], segmenter=["unet", "hardnet"], loss=["dice+0.5*bce"], seed=[0, 1]) == [
        "cut_unet_dice+0.5-bce_seed0",
        "cut_unet_dice+0.5-bce_seed1",
        "cut_hardnet_dice+0.5-bce_seed0",
        "cut_hardnet_dice+0.5-bce_seed1",
    ]
    options = {
        "train.lr": [1e-3, 1e-05],
        "segmenter.name": ["unet"],
        "train.schedule": ["cosine"],
        "data.resize": [True],
    }
    assert names(**options) == [
        "lr0.001_unet_schedule-cosine_resizetrue",
        "lr1e-05_unet_schedule-cosine_resizetrue",
    ]


def test_datasets_and_components_with_options_are_told_apart():
    sources = [
        {"name": "axon", "domain": "SEM", "root": "/a"},
        {"name": "kvasir", "root": "/a"},
        {"name": "kvasir", "root": "/b"},
    ]
    assert names(**{"data.source": sources}) == ["axon-SEM", "kvasir", "kvasir-2"]
    assert names(segmenter=[{"name": "unet", "base": 8}, {"name": "unet", "base": 16}]) == ["unet-base8", "unet-base16"]


def test_settings_are_those_of_the_experiment_file():
    point = next(grid_points(parse_axes({"generator": ["cut"], "train.lr": [0.1], "train.batch_size": [2]})))
    assert point.settings == {"generator": {"name": "cut"}, "train": {"lr": 0.1, "batch_size": 2}}
    assert point.labels == {"generator": "cut", "train.lr": "lr0.1", "train.batch_size": "batch-size2"}


def test_an_axis_of_tables_sets_whatever_belongs_together():
    method = {"CUT": {"generator": {"name": "cut"}, "data": {"target": {"name": "phantom"}}}, "none": {}}
    first, second = grid_points(parse_axes({"method": method}))
    assert (first.name, second.name) == ("CUT", "none")
    assert first.settings == method["CUT"]
    assert second.settings == {}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([], "has no value"),
        ([1, 2, 1], "the same value twice: 1"),
        (3, "must be a list of values"),
        ({"a": 3}, "tables of settings by labels"),
        ({}, "has no value"),
        ({"a": {}, "b": {}}, "the same value twice: .b."),
    ],
)
def test_what_is_no_axis_gets_a_sentence(values, sentence):
    with pytest.raises(UsageError, match=sentence):
        parse_axes({"seed": values})


VALUES = st.one_of(
    st.integers(), st.floats(allow_nan=False), st.booleans(), st.text(max_size=60), st.lists(st.integers(), max_size=3)
)
LISTS = st.lists(
    VALUES, min_size=1, max_size=4
).filter(  # 0, 0.0 and False are one value
    lambda values: all(value not in values[:number] for number, value in enumerate(values))
)


@given(st.dictionaries(st.sampled_from(["seed", "loss", "a.b", "data.source", "c"]), LISTS, min_size=1))
def test_names_are_folders_of_their_own(table):
    found = [point.name for point in grid_points(parse_axes(table))]
    assert len(found) == math.prod(map(len, table.values())) == len({name.casefold() for name in found})
    for name in found:
        assert not name.startswith(".")
        assert not {"/", "\\"} & set(name)
        assert name.isprintable()
        assert len(name) <= 44 * len(table)


@given(LISTS)
def test_another_value_leaves_names_as_they_are(values):
    assert list(parse_axes({"a.b": values})["a.b"])[:-1] == list(
        parse_axes({"a.b": values[:-1]})["a.b"] if values[1:] else []
    )
