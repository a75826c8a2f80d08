"""Objects that move as drawn here, followed by hand."""

import numpy as np
import pytest

from transeg.core.analysis.tracking import LEAST_IOU, LONGEST_GAP, Tracker
from transeg.core.errors import TransegError
from transeg.core.interfaces import IGNORE


def frame(*rectangles, size=(20, 40)):
    """A label map of rectangles: top, left, height, width, and their class where it is not 1."""
    mask = np.zeros(size, dtype=np.uint8)
    for top, left, height, width, *label in rectangles:
        mask[top : top + height, left : left + width] = label[0] if label else 1
    return mask


def follow(*masks):
    """Of each frame the columns of the left edges, by id."""
    tracker = Tracker()
    return [{each.id: each.left for each in tracker.add(mask)} for mask in masks]


def test_what_is_said_of_an_object():
    (found,) = Tracker().add(frame((3, 5, 4, 2)))
    assert (found.id, found.label, found.area) == (1, 1, 8)
    assert (found.row, found.column) == (4.5, 5.5)
    assert (found.top, found.left, found.height, found.width) == (3, 5, 4, 2)
    assert found.pixels.shape == (4, 2)
    assert found.pixels.all()


def test_one_that_moves_keeps_its_number():
    """Of 10 columns 7 stay: 7 / 13 of the union."""
    assert follow(*(frame((5, 3 * step, 6, 10)) for step in range(8))) == [{1: 3 * step} for step in range(8)]


def test_one_that_jumps_is_new():
    """Of 10 columns 4 stay: 4 / 16 is less than the 0.3 that it takes; with 5 it would be 5 / 15."""
    assert 4 / 16 < LEAST_IOU < 5 / 15
    assert follow(frame((5, 0, 6, 10)), frame((5, 6, 6, 10))) == [{1: 0}, {2: 6}]
    assert follow(frame((5, 0, 6, 10)), frame((5, 5, 6, 10))) == [{1: 0}, {1: 5}]


def test_the_best_fit_counts_not_the_oldest_nor_the_first():
    """Of the 16 columns of what comes then, 7 were the first object (7 / 19) and 8 the second (8 / 18)."""
    two, then = frame((0, 0, 6, 10), (0, 11, 6, 10)), frame((0, 3, 6, 16))
    assert follow(two, then) == [{1: 0, 2: 11}, {2: 3}]
    assert follow(two[:, ::-1], then[:, ::-1]) == [{1: 19, 2: 30}, {1: 21}]


def test_where_two_merge_the_larger_goes_on_and_the_other_returns():
    apart = frame((0, 0, 6, 10), (0, 14, 6, 20))
    merged = frame((0, 0, 6, 34))  # 20 / 34 of it were the second, 10 / 34 the first: too little
    assert follow(apart, merged, apart) == [{1: 0, 2: 14}, {2: 0}, {1: 0, 2: 14}]


def test_of_two_parts_the_larger_goes_on():
    assert follow(frame((0, 0, 6, 30)), frame((0, 0, 6, 11), (0, 13, 6, 17))) == [{1: 0}, {1: 13, 2: 0}]


def test_two_that_pass_each_other_keep_their_numbers():
    """One goes right in the upper rows, one left in the lower ones, a row apart."""
    masks = [frame((0, 2 * step, 8, 10), (9, 20 - 2 * step, 8, 10)) for step in range(10)]
    assert follow(*masks) == [{1: 2 * step, 2: 20 - 2 * step} for step in range(10)]


@pytest.mark.parametrize(("missing", "then"), [(1, 1), (LONGEST_GAP, 1), (LONGEST_GAP + 1, 2)])
def test_a_short_gap_is_bridged(missing, then):
    seen, nothing = frame((5, 5, 6, 6)), frame()
    assert follow(seen, *[nothing] * missing, seen) == [{1: 5}, *[{}] * missing, {then: 5}]


def test_a_number_is_never_given_again():
    masks = [frame((5, 0, 6, 6)), frame((5, 20, 6, 6)), *[frame()] * 9, frame((5, 20, 6, 6))]
    found = follow(*masks)
    assert (found[0], found[1], found[-1]) == ({1: 0}, {2: 20}, {3: 20})


def test_classes_are_apart():
    place = (5, 5, 6, 6)
    assert follow(frame((*place, 1)), frame((*place, 2)), frame((*place, 1))) == [{1: 5}, {2: 5}, {1: 5}]
    both = Tracker().add(frame((0, 0, 6, 6, 2), (0, 6, 6, 6, 1)))  # they touch, and are two
    assert [(each.id, each.label, each.left) for each in both] == [(1, 1, 6), (2, 2, 0)]


def test_unknown_pixels_are_no_object():
    assert Tracker().add(frame((0, 0, 6, 6, IGNORE))) == []


def test_pixels_that_meet_at_a_corner_are_one():
    assert [each.area for each in Tracker().add(np.eye(4, dtype=np.uint8))] == [4]


def test_an_object_within_the_box_of_another_is_not_taken_for_it():
    """A frame of a picture and a dot in it: boxes would overlap, masks do not."""
    ring = frame((0, 0, 20, 20), (2, 2, 16, 16, 0))
    dot = frame((8, 8, 4, 4))
    assert follow(ring, dot, ring + dot) == [{1: 0}, {2: 8}, {1: 0, 2: 8}]


def test_what_is_kept_does_not_grow():
    tracker = Tracker()
    for step in range(100):
        tracker.add(frame((0, 0, 2, 2), (5, step % 7 * 5, 4, 4)))
    kept = tracker._tracks.values()
    assert len(kept) <= 2 * (LONGEST_GAP + 2)
    assert all(track.last.pixels.size <= 16 for track in kept)
    assert all(track.last.pixels.base is None for track in kept)  # a view would keep its whole frame


def test_frames_of_two_sizes_are_no_video():
    tracker = Tracker()
    tracker.add(frame())
    with pytest.raises(TransegError, match="cannot change its size"):
        tracker.add(frame(size=(20, 41)))
