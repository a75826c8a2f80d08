"""Outlines along the edges of pixels, and masks filled from them."""

import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from shapely import Polygon
from shapely.geometry.polygon import orient

from transeg.core.analysis.pixel_edges import join_holes, trace_parts
from transeg.plugins.datasets.outlines import fill_polygon

REGIONS = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def filled(parts, size):
    whole = np.zeros(size, bool)
    for rings in parts:
        top, left, inside = fill_polygon([ring.astype(float) for ring in rings], size)
        part = whole[top : top + inside.shape[0], left : left + inside.shape[1]]
        assert not (part & inside).any()
        part |= inside
    return whole


@given(REGIONS)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_filled_they_are_the_region_with_holes_and_with_bridges(region):
    parts = trace_parts(region)
    assert np.array_equal(filled(parts, region.shape), region)
    assert np.array_equal(filled([[join_holes(rings)] for rings in parts], region.shape), region)


@given(REGIONS)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_parts_are_valid_polygons_turned_as_they_should_be(region):
    for outline, *holes in trace_parts(region):
        polygon = Polygon(outline, holes)
        assert polygon.is_valid
        assert np.array_equal(orient(polygon, 1).exterior.coords[:-1], np.array(polygon.exterior.coords[:-1]))
        assert all(Polygon(hole).exterior.is_ccw is False for hole in holes)


def test_points_are_where_an_outline_turns():
    (rings,) = trace_parts(np.pad(np.ones((3, 4), bool), ((2, 0), (1, 0))))
    assert sorted(rings[0].tolist()) == [[1, 2], [1, 5], [5, 2], [5, 5]]
    assert len(rings) == 1


def test_pixels_that_touch_at_a_corner_are_two_parts_and_so_are_the_holes_of_one():
    assert len(trace_parts(np.eye(2, dtype=bool))) == 2
    ring = np.ones((4, 4), bool)
    ring[1, 1] = ring[2, 2] = False
    ((outline, *holes),) = trace_parts(ring)
    assert len(holes) == 2
    assert len(outline) == 4


def test_nothing_has_no_parts():
    assert trace_parts(np.zeros((3, 5), bool)) == []


def test_noise_takes_seconds():
    region = np.random.default_rng(0).random((500, 500)) < 0.6
    began = time.monotonic()
    parts = trace_parts(region)
    for rings in parts:
        join_holes(rings)
    assert time.monotonic() - began < 15
    assert sum(len(rings) for rings in parts) > 10_000
