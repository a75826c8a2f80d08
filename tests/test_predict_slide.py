"""`toolkit predict` on whole slides: pyramids of masks, where there is tissue, and on with what was interrupted."""

import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from conftest import TINY_TRAINING
from layouts import SECRET, slides, tissue_slide, write_pyramid, write_slide
from PIL import Image

from transeg.cli import main
from transeg.core.data.images import resize_mask
from transeg.core.data.slide_file import open_slide
from transeg.core.data.tissue_map import map_tissue
from transeg.core.errors import DataError
from transeg.core.inference import slide_masks


@pytest.fixture(scope="module")
def slide_run(tmp_path_factory):
    """A run that knows pieces of 64 pixels at one micrometre."""
    root = tmp_path_factory.mktemp("slides")
    slides(root / "data")
    line = ["run", "--run-dir", root / "run", "--strategy", "supervised", "--segmenter", "unet"]
    line += ["--source", f"slides:{root / 'data'}"]
    settings = ["data.source.mpp=1.0", "data.source.region=64", "data.size=32", "segmenter.base=4", *TINY_TRAINING]
    result = CliRunner().invoke(main, [str(word) for word in [*line, *(f"--set={text}" for text in settings)]])
    assert result.exit_code == 0, result.output
    return root / "run"


@pytest.fixture
def scans(tmp_path):
    for number, name in enumerate("ab"):
        write_slide(tmp_path / "scans" / f"{name}.svs", tissue_slide(600, 700, seed=number)[0])
    return tmp_path / "scans"


def said(result):
    return " ".join(result.stderr.split())


def opened(path):
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        return [level.asarray() for level in series.levels], series.axes, file.ome_metadata


def test_masks_are_pyramids_at_the_size_that_the_run_knows(slide_run, toolkit, scans, tmp_path, monkeypatch):
    monkeypatch.setattr("transeg.core.data.label_pyramid.LONGEST", 100)
    out = tmp_path / "out"
    result = toolkit("predict", slide_run, scans, "-o", out)
    assert "2 masks of slides in" in result.output
    levels, axes, about = opened(out / "masks" / "a.ome.tif")
    assert [level.shape for level in levels] == [(300, 350), (150, 175), (75, 88)]
    assert axes == "YX"
    assert all((level == levels[0][:: 2**n, :: 2**n]).all() for n, level in enumerate(levels))
    assert 'PhysicalSizeX="1.0" PhysicalSizeXUnit="µm" PhysicalSizeY="1.0"' in about
    assert set(np.unique(levels[0])) <= {0, 1, 2}
    tissue = map_tissue(open_slide(scans / "a.svs", "This")).found
    assert not levels[0][resize_mask(tissue.astype(np.uint8), 300, 350) == 0].any()
    picture = np.asarray(Image.open(out / "overlays" / "a.jpg"))
    assert picture.shape == (600, 700, 3)
    with tifffile.TiffFile(out / "masks" / "a.ome.tif") as file:
        assert file.pages[0].tile == (512, 512)
        assert file.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE


def test_a_piece_gets_the_mask_that_the_run_gives_it(slide_run, toolkit, tmp_path):
    write_pyramid(tmp_path / "new" / "a.tif", tissue_slide(256, 320)[0], levels=2)
    toolkit("predict", slide_run, tmp_path / "new", "-o", tmp_path / "out", "--set", "tissue=0")
    mask = opened(tmp_path / "out" / "masks" / "a.ome.tif")[0][0]
    piece = open_slide(tmp_path / "new" / "a.tif", "This").view((0.5, 0.5)).read_all()[64:128, :64]
    Image.fromarray(piece).save(tmp_path / "piece.png")
    toolkit("predict", slide_run, tmp_path / "piece.png", "-o", tmp_path / "one")
    assert (np.asarray(Image.open(tmp_path / "one" / "masks" / "piece.png")) == mask[64:, :64]).all()


def test_windows_and_masks_as_labels(slide_run, toolkit, scans, tmp_path):
    toolkit("predict", slide_run, scans, "-o", tmp_path / "out", "--window", 64, "--no-overlays")
    assert not (tmp_path / "out" / "overlays").exists()
    (tmp_path / "out" / "images").symlink_to(scans)
    result = toolkit("data", "verify", f"slides:{tmp_path / 'out'}", "--set", "mpp=1", "region=64")
    assert "no fault" in result.output


def test_finished_slides_stay_and_an_interruption_costs_a_square(slide_run, toolkit, tmp_path, monkeypatch):
    scans = tmp_path / "scans"
    for number, name in enumerate("ab"):
        write_slide(scans / f"{name}.svs", tissue_slide(320, 400, seed=number)[0])
    monkeypatch.setattr(slide_masks, "SIDE", 32)  # of which a slide has 35
    line = ["predict", slide_run, scans, "-o", tmp_path / "out", "--window", 32]
    toolkit("predict", slide_run, scans, "-o", tmp_path / "whole", "--window", 32)
    keep, calls = slide_masks.SlideSegmenter.mask, []

    def interrupted(*arguments):
        calls.append(arguments[-1])
        if len(calls) == 45:
            raise KeyboardInterrupt
        return keep(*arguments)

    monkeypatch.setattr(slide_masks.SlideSegmenter, "mask", interrupted)
    with pytest.raises((KeyboardInterrupt, AssertionError)):
        toolkit(*line)
    finished = tmp_path / "out" / "masks" / "a.ome.tif"
    state = finished.stat().st_mtime_ns
    result = toolkit(*line)
    assert "b.svs goes on behind square 9 of 35" in said(result)
    assert finished.stat().st_mtime_ns == state
    assert len(calls) == 45 + 26
    for name in "ab":
        one, other = (opened(tmp_path / folder / "masks" / f"{name}.ome.tif")[0] for folder in ("out", "whole"))
        assert all((a == b).all() for a, b in zip(one, other, strict=True))
        pictures = [(tmp_path / folder / "overlays" / f"{name}.jpg").read_bytes() for folder in ("out", "whole")]
        assert pictures[0] == pictures[1]
    assert {path.name for path in finished.parent.iterdir()} == {"a.ome.tif", "b.ome.tif"}
    toolkit(*line)
    assert len(calls) == 71
    write_slide(scans / "a.svs", tissue_slide(320, 400, seed=5)[0])
    toolkit(*line)
    assert len(calls) == 71 + 35


def test_a_killed_process_goes_on_and_never_with_what_another_run_has_left(slide_run, toolkit, tmp_path):
    write_slide(tmp_path / "a.svs", tissue_slide(512, 512)[0])
    line = ["predict", slide_run, tmp_path / "a.svs", "-o", tmp_path / "out", "--no-overlays"]
    code = f"""
import os, signal
from transeg.cli import main
from transeg.core.inference.slide_masks import SlideSegmenter
keep, calls = SlideSegmenter.mask, []
def mask(*arguments):
    calls.append(1)
    if len(calls) > 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return keep(*arguments)
SlideSegmenter.mask = mask
main({[str(word) for word in line]})
"""
    assert subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL).returncode == -signal.SIGKILL
    shutil.copytree(tmp_path / "out", tmp_path / "other")
    assert "a.svs goes on behind square 7 of 16" in said(toolkit(*line))
    assert {path.name for path in (tmp_path / "out" / "masks").iterdir()} == {"a.ome.tif"}
    toolkit(*line[:-3], "-o", tmp_path / "whole")
    masks = [opened(tmp_path / folder / "masks" / "a.ome.tif")[0][0] for folder in ("out", "whole")]
    assert (masks[0] == masks[1]).all()
    for more in (["--flips"], ["--set", "mpp=0.9"], ["--set", "tissue=0"], ["--window", 32]):
        shutil.rmtree(tmp_path / "out")
        shutil.copytree(tmp_path / "other", tmp_path / "out")
        assert "goes on" not in said(toolkit(*line, *more))


def test_nothing_is_written_over(slide_run, toolkit, scans, tmp_path):
    masks = tmp_path / "out" / "masks"
    masks.mkdir(parents=True)
    (masks / "a.ome.tif").write_bytes(b"mine")
    assert "a.ome.tif is there already" in said(toolkit("predict", slide_run, scans, "-o", tmp_path / "out", code=2))
    assert (masks / "a.ome.tif").read_bytes() == b"mine"


def test_damaged_slides_are_named_and_others_segmented(slide_run, toolkit, scans, tmp_path):
    content = (scans / "a.svs").read_bytes()
    (scans / "c.svs").write_bytes(content[: len(content) // 2])
    with tifffile.TiffFile(scans / "a.svs") as file:
        offset = file.pages[0].dataoffsets[45]
    (scans / "d.svs").write_bytes(content[:offset] + bytes(900) + content[offset + 900 :])
    write_slide(scans / "e.svs", tissue_slide()[0], mpp=None)
    (scans / "a.svs").unlink()
    result = toolkit("predict", slide_run, scans, "-o", tmp_path / "out", code=1)
    assert "1 masks of slides in" in result.output
    assert "3 images could not be segmented" in said(result)
    for clause in (
        "c.svs is cut off: tiles are missing",
        "d.svs is cut off or damaged at row",
        "e.svs does not say how large its pixels are, so it cannot be read at 1 micrometres a pixel; say it with --pix",
    ):
        assert clause in said(result)
    toolkit("predict", slide_run, scans / "e.svs", "-o", tmp_path / "e", "--pixel-size", 0.25)
    assert opened(tmp_path / "e" / "masks" / "e.ome.tif")[0][0].shape == (64, 80)
    toolkit("predict", slide_run, scans / "e.svs", "-o", tmp_path / "e", "--rescale", 0.5)
    levels, _, about = opened(tmp_path / "e" / "masks" / "e.ome.tif")
    assert levels[0].shape == (128, 160)
    assert "PhysicalSize" not in about


def test_options_that_do_not_fit_are_told(slide_run, joint_run, toolkit, scans, tmp_path):
    for run, more, clause in (
        (slide_run, ["--probabilities"], "--probabilities is for image files, and"),
        (slide_run, ["--count"], "--count is for image files, and"),
        (slide_run, ["--format", "geojson"], "--format is for image files, and"),
        (slide_run, ["--adapt", "bn"], "--adapt is for image files, and"),
        (slide_run, ["--translate-with", joint_run], "--translate-with is for image files, and"),
        (slide_run, ["--set", "range=[0,9]"], "--set range: slides have the options mpp and tissue."),
        (slide_run, ["--set", "mpp=0"], "--set mpp=0 must be a number of micrometres a pixel"),
        (slide_run, ["--set", "tissue=2"], "--set tissue=2 must be 0"),
        (joint_run, [], "This run was trained on whole images, which a slide is too large for; segment it in windows"),
    ):
        assert clause in said(toolkit("predict", run, scans, "-o", tmp_path / "out", *more, code=2))
    assert not (tmp_path / "out").exists()
    write_pyramid(scans / "a.tif", tissue_slide()[0])
    assert "Several slides in" in said(toolkit("predict", slide_run, scans, "-o", tmp_path / "out", code=2))


def test_tiff_files_are_images_for_runs_that_know_no_slides(slide_run, joint_run, toolkit, tmp_path):
    write_pyramid(tmp_path / "new" / "a.tif", tissue_slide(64, 64)[0], levels=1)
    for run, window in ((joint_run, 0), (slide_run, 0)):  # and those of one level for all
        result = toolkit("predict", run, tmp_path / "new", "-o", tmp_path / "out", "--window", window)
        assert "1 masks in" in result.output
    write_pyramid(tmp_path / "new" / "a.tif", tissue_slide(64, 64)[0], levels=2)
    assert "1 masks in" in toolkit("predict", joint_run, tmp_path / "new", "-o", tmp_path / "out").output


def test_nothing_of_a_patient_gets_out(slide_run, toolkit, scans, tmp_path):
    (scans / "c.svs").write_bytes((scans / "a.svs").read_bytes()[:9000])
    result = toolkit("predict", slide_run, scans, "-o", tmp_path / "out", code=1)
    assert "DOE" not in result.output + result.stderr
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or b"DOE" not in path.read_bytes()
        if path.suffix == ".jpg":
            assert (np.abs(np.asarray(Image.open(path)).astype(int) - SECRET).sum(axis=2) > 60).all()


def test_memory_is_that_of_squares(slide_run, toolkit, tmp_path, monkeypatch):
    """What is read at a time does not grow with the slide."""
    write_slide(tmp_path / "a.svs", tissue_slide(1200, 1600)[0])
    monkeypatch.setattr(slide_masks, "SIDE", 128)
    keep, sizes = slide_masks.SlideView.read, []
    monkeypatch.setattr(slide_masks.SlideView, "read", lambda view, r: sizes.append((view, r)) or keep(view, r))
    toolkit("predict", slide_run, tmp_path / "a.svs", "-o", tmp_path / "out", "--window", 32, "--no-overlays")
    assert max(r.height * r.width for view, r in sizes if view.size == (600, 800)) <= (128 + 2 * 48) ** 2


def test_a_slide_that_was_trained_on_is_known_again_at_any_size(slide_run, toolkit):
    line = ["evaluate", slide_run, "--test", f"slides:{slide_run.parent / 'data'}", "--split", "all", "--set"]
    assert "are also trained on with their labels" in said(toolkit(*line, "mpp=2.0", "region=32", code=2))


def test_data_errors_are_of_the_package(tmp_path):
    with pytest.raises(DataError):
        open_slide(tmp_path / "none.svs", "This")
