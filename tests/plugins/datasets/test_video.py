import contextlib
import pickle

import av
import cv2
import numpy as np
import pytest
from layouts import scene, write_video
from rich.console import Console

from transeg.core.api.verification import verify_dataset
from transeg.core.builders.datasets import build_dataset
from transeg.core.data.video_frames import VideoFile
from transeg.core.errors import DataError, UsageError
from transeg.core.experiment.completion import complete_dataset
from transeg.core.registry import Registry
from transeg.plugins.datasets.video import Video

FRAMES = [scene(number) for number in range(20)]
EVERY = {"fps": 240.0, "duplicates": -1.0, "blur": 0.0, "border": "keep"}


def all_of(path, **options):
    return Video(path, "all", **{**EVERY, **options})


def names(dataset):
    return [dataset[index].name for index in range(len(dataset))]


def difference(one, two):
    return np.abs(one.astype(int) - two.astype(int)).mean()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain.mp4", {}),
        ("open.mp4", {"x264-params": "open-gop=1:keyint=5:min-keyint=3:bframes=3:scenecut=0"}),
        ("a.mkv", {"g": 7}),
        ("a.avi", {"codec": "mpeg4", "g": 6}),
        ("a.ts", {"g": 5}),
        ("a.mpg", {"codec": "mpeg2video", "rate": 25, "g": 5, "bf": 2}),
        ("a.webm", {"codec": "libvpx-vp9", "g": 8}),
    ],
)
def test_a_frame_is_the_same_from_wherever_it_is_sought(tmp_path, name, options):
    write_video(tmp_path / name, FRAMES, **options)
    with VideoFile(tmp_path / name, "this") as file:
        pixels = [frame.pixels() for frame in file.frames()]
    assert len(pixels) == len(FRAMES)
    dataset = all_of(tmp_path / name)
    order = np.random.default_rng(0).permutation(len(pixels)).tolist()
    for index in [*order[:8], 0, 1, 2, len(pixels) - 1]:
        assert (dataset[index].image == pixels[index]).all()


def test_frames_are_taken_by_their_times(tmp_path):
    times = [0, 10, 20, 400, 410, 900, 1000, 1490, 1500, 1990]
    write_video(tmp_path / "a.mp4", FRAMES[:10], times=times)
    chosen = ["a-00000000", "a-00000900", "a-00001000", "a-00001500"]
    assert names(all_of(tmp_path / "a.mp4", fps=2.0)) == chosen
    assert names(all_of(tmp_path / "a.mp4", fps=2.0, start=0.4, end=1.5)) == ["a-00000400", "a-00000900", "a-00001490"]


def test_groups_and_splits_are_videos(tmp_path):
    for name in ("a.mp4", "b/c.mp4", "d.mov"):
        write_video(tmp_path / name, FRAMES[:4])
    assert {sample.group for sample in all_of(tmp_path)} == {"a", "b_c", "d"}
    parts = [Video(tmp_path, split, **EVERY) for split in ("train", "val", "test")]
    assert all(len({sample.group for sample in part}) == 1 for part in parts)
    assert pickle.loads(pickle.dumps(parts[0]))[1].name == parts[0][1].name


def test_colours_are_those_that_were_meant(tmp_path):
    flat = [np.full((48, 64, 3), (200, 60, 30), np.uint8)] * 3
    for name, options in {
        "video range": {},
        "full range": {"full": True},
        "ten bits": {"pixels": "yuv420p10le"},
        "ten bits, full range": {"pixels": "yuv420p10le", "full": True},
    }.items():
        write_video(tmp_path / f"{name}.mp4", flat, crf=1, **options)
        assert np.abs(all_of(tmp_path / f"{name}.mp4")[0].image.mean((0, 1)) - (200, 60, 30)).max() < 2, name


def test_pictures_are_upright(tmp_path):
    write_video(tmp_path / "plain.mp4", FRAMES[:2], crf=1)
    write_video(tmp_path / "turned.mp4", FRAMES[:2], crf=1, turn=90)
    plain, turned = all_of(tmp_path / "plain.mp4")[0].image, all_of(tmp_path / "turned.mp4")[0].image
    assert (turned == np.rot90(plain)).all()
    assert difference(plain, FRAMES[0]) < 20


def test_of_two_interlaced_instants_one_is_taken(tmp_path):
    both = np.full((48, 64, 3), 40, np.uint8)
    both[1::2] = 200
    write_video(tmp_path / "a.mp4", [both] * 3, flags="+ildct+ilme")
    assert all_of(tmp_path / "a.mp4")[1].image == pytest.approx(40, abs=2)


def test_frames_that_show_nothing_new_are_skipped_and_counted(tmp_path, caplog):
    vessels = np.random.default_rng(0).integers(0, 2, (48, 64, 1)) * 40
    first, second, third, fourth = ((FRAMES[number] * 0.8 + vessels).astype(np.uint8) for number in (0, 3, 5, 8))
    blurred = cv2.GaussianBlur(third, (0, 0), 4)
    write_video(tmp_path / "a.mp4", [first, first, second, blurred, fourth, fourth], crf=10)
    kept = Video(tmp_path / "a.mp4", "all", fps=240.0)
    assert names(kept) == ["a-00000000", "a-00000200", "a-00000400"]
    assert "gives 3 images; 2 near-duplicate and 1 blurred frames are skipped." in caplog.text


def test_the_border_is_cut_off(tmp_path, caplog):
    rows, columns = np.mgrid[:48, :64]
    inside = (rows - 24) ** 2 + (columns - 30) ** 2 < 22**2
    frames = [np.where(inside[:, :, None], np.maximum(frame, 60), 4).astype(np.uint8) for frame in FRAMES]
    for frame in frames:
        frame[2:8, 56:62] = 250  # what the processor writes beside the scene
    write_video(tmp_path / "a.mp4", frames, crf=10)
    image = all_of(tmp_path / "a.mp4", border="inside")[3].image
    assert image.min(2).max(0).min() > 30
    assert min(image.shape[:2]) >= 28
    assert max(image.shape[:2]) <= 34
    around = all_of(tmp_path / "a.mp4", border="around")
    assert all(41 <= side <= 46 for side in around.size_of(0))
    assert around[0].valid.shape == around.size_of(0)
    assert (around[3].image.max(2)[around[3].valid] < 30).mean() < 0.005  # what coding smears over the outline
    assert around[3].valid.mean() > 0.65  # a circle in its square has 0.79, less its outline
    assert "its border is cut off" in caplog.text
    assert all_of(tmp_path / "a.mp4")[0].size == (48, 64)
    write_video(tmp_path / "dark.mp4", [frame // 12 for frame in FRAMES])
    assert all_of(tmp_path / "dark.mp4", border="inside")[0].size == (48, 64)
    assert all_of(tmp_path / "dark.mp4", border="around")[0].valid.all()


ROWS, COLUMNS = np.mgrid[:540, :676].astype(float)
FROM_CENTRE = np.abs(ROWS - 270), np.abs(COLUMNS - 338)
APERTURES = {
    "circle": np.hypot(*FROM_CENTRE) < 265,
    "circle cut by the frame": np.hypot(*FROM_CENTRE) < 320,
    "octagon": np.add(*FROM_CENTRE) < 270 + 338 - 150,
    "rounded": np.hypot(*(np.maximum(side, 0) for side in (FROM_CENTRE[0] - 210, FROM_CENTRE[1] - 248))) < 60,
}


@pytest.mark.parametrize("aperture", APERTURES)
def test_no_corner_of_an_aperture_is_left(tmp_path, aperture):
    inside = APERTURES[aperture]
    write_video(tmp_path / "a.mp4", [np.where(inside, 120, 6)[:, :, None].repeat(3, 2).astype(np.uint8)] * 2)
    kept = all_of(tmp_path / "a.mp4", border="inside")[0].image
    assert (kept.max(2) < 60).mean() < 1e-3
    assert 0.6 * inside.sum() < kept.shape[0] * kept.shape[1] <= inside.sum()
    around = all_of(tmp_path / "a.mp4", border="around")[0]
    assert (around.image.max(2)[around.valid] < 60).mean() < 3e-3
    assert 0.95 * inside.sum() < around.valid.sum() <= inside.sum()


def test_a_frame_is_of_another_origin_where_other_frames_show_another_scene(tmp_path):
    """Of the same place and crop: a cache must not take one for the other."""
    corner = np.add(*np.mgrid[:48, :64]) < 30
    halves = [np.where(dark, 4, 120)[:, :, None].repeat(3, 2).astype(np.uint8) for dark in (corner, corner[:, ::-1])]
    write_video(tmp_path / "a.mp4", [halves[0]] * 4 + [halves[1]] * 4)
    whole, begun = (all_of(tmp_path / "a.mp4", border="around", end=end) for end in (0, 0.35))
    assert whole.size_of(0) == begun.size_of(0) == (48, 64)
    assert whole[0].valid.all()
    assert not begun[0].valid.all()
    assert whole.place_of(0) == begun.place_of(0)
    assert whole.origin_of(0) != begun.origin_of(0)


def damaged(root):
    """Files that are no whole videos, and what is said of them."""
    write_video(root / "whole.mp4", FRAMES)
    whole = (root / "whole.mp4").read_bytes()
    write_video(root / "whole.mkv", FRAMES * 3)
    inside = bytearray(whole)
    place = whole.index(b"mdat") + 700
    inside[place : place + 4000] = bytes(4000)
    files = {
        "head.mp4": (whole[: len(whole) // 2], "it may be no video, or cut off"),
        "cut.mkv": ((root / "whole.mkv").read_bytes()[:12000], "it says it is 6.0 s long, but is cut off"),
        "inside.mp4": (bytes(inside), "is damaged at"),
        "empty.mp4": (b"", "cannot be opened as a video"),
        "list.mp4": (b"#EXTM3U\n#EXTINF:1,\nwhole.mp4\n", "cannot be opened as a video"),
    }
    (root / "whole.mkv").unlink()
    for name, (content, said) in files.items():
        (root / name).write_bytes(content)
        yield name, said
    with av.open(str(root / "sound.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    yield "sound.mp4", "holds no video, only sound"


def test_damaged_files_are_named_with_what_is_wrong(tmp_path):
    said = dict(damaged(tmp_path))
    faults = {fault.file: fault.reason for fault in all_of(tmp_path).faults}
    assert {str(tmp_path / name) for name in said} == set(faults)
    for name, clause in said.items():
        assert clause in faults[str(tmp_path / name)]
        assert str(tmp_path / name) in faults[str(tmp_path / name)]
    assert {sample.group for sample in all_of(tmp_path)} == {"whole"}


def test_what_is_before_the_damage_can_be_taken(tmp_path):
    write_video(tmp_path / "whole.mkv", FRAMES * 3)
    (tmp_path / "cut.mkv").write_bytes((tmp_path / "whole.mkv").read_bytes()[:12000])
    assert len(all_of(tmp_path / "cut.mkv", end=0.5)) == 5


def test_a_file_that_changes_meanwhile_is_told_of(tmp_path):
    write_video(tmp_path / "a.mp4", FRAMES)
    dataset = all_of(tmp_path / "a.mp4")
    write_video(tmp_path / "a.mp4", FRAMES[:4])
    with pytest.raises(DataError, match=r"holds no frame at 1\.500 s any more"):
        dataset[15]


def test_wrong_options_are_told(tmp_path):
    write_video(tmp_path / "a.mp4", FRAMES[:3])
    for options, said in (
        ({"fps": 0.0}, "fps=0 must be more than 0"),
        ({"start": 3.0, "end": 1.0}, "must be seconds, the later one behind the other"),
    ):
        with pytest.raises(ValueError, match=said):
            all_of(tmp_path, **options)
    assert "has no frame between start=5 and end=0" in all_of(tmp_path, start=5.0).faults[0].reason
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"holds no video in \.mp4"):
        all_of(tmp_path / "none")


def test_one_file_is_a_dataset(tmp_path):
    write_video(tmp_path / "a.mp4", FRAMES)
    registry = Registry()
    choice = complete_dataset({"name": "video", "root": str(tmp_path / "a.mp4")}, "target", registry)
    assert len(build_dataset(choice, "target", registry)) == 2
    report = verify_dataset(f"video:{tmp_path / 'a.mp4'}", (), registry, Console(quiet=True))
    assert (report["images"], report["faults"], report["not_read"]) == (2, [], [])


def test_without_the_package_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", FRAMES[:3])
    monkeypatch.setattr("transeg.core.optional_packages.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"The dataset video needs av, .* pip install 'transeg\[video\]'"):
        all_of(tmp_path, fps=7.0)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.ts", "libx264"), ("a.mpg", "mpeg2video")])
def test_from_where_it_is_taken_changes_no_frame(tmp_path, name, codec):
    write_video(tmp_path / name, FRAMES * 3, rate=25, codec=codec, g=8, bf=2)
    whole, part = all_of(tmp_path / name), all_of(tmp_path / name, start=1.1)
    late = {sample.name: sample.image for sample in whole if int(sample.name[-8:]) >= 1100}
    assert len(late) == 32
    assert late.keys() == set(names(part))
    assert all((late[sample.name] == sample.image).all() for sample in part)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_whatever_is_in_a_file_a_sentence_says_what_is_wrong(tmp_path, name):
    write_video(tmp_path / name, FRAMES)
    whole, draws = (tmp_path / name).read_bytes(), np.random.default_rng(1)
    for number in range(20):
        content = bytearray(whole)
        for place in draws.integers(0, len(whole), draws.integers(1, 40)):
            content[place] = draws.integers(256)
        path = tmp_path / f"{number}{name}"
        path.write_bytes(content[: draws.integers(len(whole))] if number % 3 == 0 else content)
        dataset = all_of(path)
        assert len(dataset) or len(dataset.faults) == 1
        for index in range(0, len(dataset), 6):
            with contextlib.suppress(DataError):
                assert dataset[index].size == dataset.size_of(index)
