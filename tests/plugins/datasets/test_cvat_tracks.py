"""Tracks of CVAT, as the frames of a video show them."""

import time

import numpy as np
import pytest
from layouts import pixels, save

from transeg.core.errors import DataError
from transeg.plugins.datasets.cvat import CVAT

SIZE = (20, 24)
TASK = "<size>6</size><start_frame>0</start_frame><stop_frame>5</stop_frame><frame_filter></frame_filter>"
MEASURED = "<original_size><width>24</width><height>20</height></original_size>"


def box(frame, left, top=2, side=4, outside=0, **more):
    said = {"frame": frame, "outside": outside, "keyframe": 1, "occluded": 0, "z_order": 0, **more}
    place = {"xtl": left, "ytl": top, "xbr": left + side, "ybr": top + side}
    listed = " ".join(f'{key}="{value}"' for key, value in {**said, **place}.items())
    return f"<box {listed}></box>"


def polygon(frame, *points, outside=0):
    listed = ";".join(f"{x},{y}" for x, y in points)
    return f'<polygon frame="{frame}" outside="{outside}" keyframe="1" points="{listed}"/>'


def track(*shapes, label="car", **more):
    said = "".join(f' {key}="{value}"' for key, value in more.items())
    return f'<track id="0" label="{label}"{said}>{"".join(shapes)}</track>'


def video(root, *tracks, task=TASK + MEASURED, frames=range(6), kind="task"):
    """A folder as CVAT exports it, with the masks of its frames by their numbers."""
    for number in frames:
        save(root / "images" / f"frame_{number:06d}.png", pixels(number, *SIZE))
    labels = "<labels><label><name>car</name></label><label><name>bus</name></label></labels>"
    meta = f"<meta><{kind}>{task}{labels}</{kind}></meta>" if task is not None else ""
    root.joinpath("annotations.xml").write_text(
        f"<annotations><version>1.1</version>{meta}{''.join(tracks)}</annotations>"
    )
    dataset = CVAT(root, "all")
    found = [dataset[index] for index in range(len(dataset))]
    return {int(sample.name.removeprefix("frame_")): sample.mask for sample in found}, dataset


def left_ends(masks):
    """The first column of what is shown in each frame."""
    return {number: int(mask.any(0).argmax()) for number, mask in masks.items() if mask.any()}


def test_every_listed_frame_is_read_as_cvat_writes_it(tmp_path):
    masks, dataset = video(tmp_path, track(*(box(n, 3 + n, keyframe=n % 2) for n in range(4)), box(4, 7, outside=1)))
    assert dataset.classes == ("background", "car", "bus")
    assert left_ends(masks) == {0: 3, 1: 4, 2: 5, 3: 6}
    assert sorted(masks) == [0, 1, 2, 3, 4, 5]
    assert not dataset.faults
    assert all(np.count_nonzero(masks[n]) == 16 for n in range(4))


def test_boxes_and_ellipses_go_in_straight_lines(tmp_path):
    masks, _ = video(tmp_path, track(box(0, 2), box(4, 10), box(5, 10, outside=1)))
    assert left_ends(masks) == {0: 2, 1: 4, 2: 6, 3: 8, 4: 10}
    ellipses = [
        f'<ellipse frame="{frame}" outside="{outside}" cx="{x}" cy="10" rx="{rx}" ry="3"/>'
        for frame, x, rx, outside in ((0, 8, 2, 0), (4, 12, 6, 0), (5, 12, 6, 1))
    ]
    masks, _ = video(tmp_path, track(*ellipses))
    assert {number: int(mask.any(0).sum()) for number, mask in masks.items()} == {0: 4, 1: 6, 2: 8, 3: 10, 4: 12, 5: 0}


def test_rotation_goes_the_shorter_way(tmp_path):
    masks, _ = video(tmp_path, track(box(0, 6, 6, 8, rotation=350), box(2, 6, 6, 8, rotation=10), box(3, 0, outside=1)))
    assert np.count_nonzero(masks[1]) == 64
    assert masks[1][6:14, 6:14].all()


def test_what_is_outside_is_not_shown_until_it_comes_again(tmp_path):
    shapes = [box(0, 2), box(1, 2, outside=1), box(4, 9), box(5, 9, outside=1)]
    masks, _ = video(tmp_path, track(*shapes), track(box(2, 15), box(3, 15, outside=1), label="bus"))
    assert left_ends(masks) == {0: 2, 2: 15, 4: 9}
    assert masks[2].max() == 2


def test_what_is_not_outside_at_the_end_stays_to_the_end_of_the_task(tmp_path):
    assert left_ends(video(tmp_path, track(box(3, 5)))[0]) == {3: 5, 4: 5, 5: 5}
    assert left_ends(video(tmp_path, track(box(3, 5)), task=None, frames=[3])[0]) == {3: 5}


@pytest.mark.parametrize("kind", ["task", "job"])
def test_frames_have_the_numbers_that_they_have_in_the_video(tmp_path, kind):
    task = "<size>3</size><start_frame>10</start_frame><stop_frame>20</stop_frame><frame_filter>step=5</frame_filter>"
    masks, dataset = video(tmp_path, track(box(10, 2), box(20, 6)), task=task, frames=(10, 15, 20), kind=kind)
    assert left_ends(masks) == {10: 2, 15: 4, 20: 6}
    assert not dataset.faults


def test_polygons_that_stay_are_kept_and_others_are_refused(tmp_path):
    still = [(2, 2), (8, 2), (8, 8)]
    masks, _ = video(tmp_path, track(polygon(0, *still), polygon(3, *still), polygon(4, *still, outside=1)))
    assert sorted(left_ends(masks)) == [0, 1, 2, 3]
    moved = [(x + 1, y) for x, y in still]
    with pytest.raises(DataError, match=r"annotations.xml has a track of the label 'car' without the frames between 0"):
        video(tmp_path, track(polygon(0, *still), polygon(3, *moved)))
    masks, _ = video(tmp_path, track(polygon(0, *still), polygon(1, *moved), polygon(2, *moved, outside=1)))
    assert sorted(left_ends(masks)) == [0, 1]
    with pytest.raises(DataError, match="without the frames between 0 and 3"):
        video(tmp_path, track(polygon(0, *still), box(3, 4)))


def test_lines_and_points_are_refused(tmp_path):
    line = '<polyline frame="0" outside="0" points="1,1;4,4"/><polyline frame="1" outside="1" points="1,1;4,4"/>'
    with pytest.raises(DataError, match="has a polyline of the label 'car', which is no area"):
        video(tmp_path, track(line))


BAD = {
    "two shapes": (track(box(1, 2), box(1, 3)), TASK, "two shapes in the frame 1"),
    "no frame": (track(box("x", 2)), TASK, "whose frame is no number"),
    "a negative frame": (track(box(-1, 2)), TASK, "whose frame is no number"),
    "no place": (track('<box frame="0" xtl="a"/><box frame="2" xtl="3"/>'), TASK, "whose place is no number"),
    "a project": (track(box(0, 2), task_id=7), TASK, "tracks of a project"),
    "both": (track(box(0, 2)) + '<image name="a.png"/>', TASK, "both images and tracks"),
    "size": (track(box(0, 2)), "<size>x</size>", "frame_filter is impossible"),
    "a filter": (track(box(0, 2)), TASK.replace("><", ">every=3<", 7), "frame_filter is impossible"),
    "no step": (track(box(0, 2)), "<size>3</size><frame_filter>step=0</frame_filter>", "frame_filter is impossible"),
    "backwards": (track(box(0, 2)), "<start_frame>9</start_frame><stop_frame>2</stop_frame>", "is impossible"),
    "too long": (track(box(0, 2)), f"<size>{10**9}</size>", "is impossible"),
    "far apart": (track(box(0, 2), box(10**8, 9)), "", "that leaves out more than 500000 frames"),
    "height": (track(box(0, 2)), "<original_size><width>x</width><height>2</height></original_size>", "is no number"),
}


@pytest.mark.parametrize("kind", BAD)
def test_impossible_tracks_are_refused_soon(tmp_path, kind):
    tracks, task, reason = BAD[kind]
    began = time.monotonic()
    with pytest.raises(DataError, match=f"annotations.xml .*{reason}"):
        video(tmp_path, tracks, task=task)
    assert time.monotonic() - began < 10


def test_images_of_a_video_may_be_listed_without_an_ending(tmp_path):
    """As "CVAT for images" lists them."""
    save(tmp_path / "frame_000003.png", pixels(0, *SIZE))
    shape = '<box label="car" xtl="1" ytl="1" xbr="3" ybr="3"/>'
    (tmp_path / "annotations.xml").write_text(f'<annotations><image name="frame_000003">{shape}</image></annotations>')
    assert CVAT(tmp_path, "all")[0].mask.sum() == 4
