"""Windows from the command line: trained on, slid over images, and over images larger than memory."""

import json
import tomllib

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from conftest import TINY_CUT, TINY_TRAINING, command
from PIL import Image

from transeg.cli import main
from transeg.core.data.pixel_size_tags import said_pixel_size

TILES = ["data.tile=32", "data.stride=8", "segmenter.base=4"]


def stained(root, count=10, size=(60, 75)):
    """A set as of nuclei: dark disks on a light ground."""
    rng = np.random.default_rng(0)
    rows, columns = np.ogrid[: size[0], : size[1]]
    for index in range(count):
        mask = np.zeros(size, bool)
        for y, x in rng.integers(5, 55, (6, 2)):
            mask |= (rows - y) ** 2 + (columns - x) ** 2 < 16
        image = np.where(mask[:, :, None], (90, 60, 140), (230, 200, 220)) + rng.normal(0, 5, (*size, 3))
        for folder, pixels in (("images", image.clip(0, 255)), ("masks", mask * 255)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            path = root / folder / f"{index}.tif"
            tifffile.imwrite(
                path, pixels.astype(np.uint8), tile=(16, 16), photometric="minisblack" if folder == "masks" else "rgb"
            )
    return root


def tiled_command(root, *more, parts=("--segmenter", "unet"), settings=()):
    data = f"folder:{root}"
    return command(([*parts, "--source", data, "--test", data], [*TINY_TRAINING, *TILES, *settings]), *more)


@pytest.fixture(scope="module")
def tiled(tmp_path_factory):
    """A finished run on windows, and its images."""
    folder = tmp_path_factory.mktemp("tiled")
    root = stained(folder / "set")
    result = CliRunner().invoke(main, tiled_command(root, "--run-dir", folder / "run"))
    assert result.exit_code == 0, result.output
    assert "210 windows on the source, by position" in " ".join(result.stdout.split())  # 5 x 6 on 7 images
    return folder / "run", root


def test_a_run_on_windows(tiled):
    stored = tomllib.loads((tiled[0] / "experiment.toml").read_text())["data"]
    assert (stored["tile"], stored["stride"], stored["size"], stored["resize"]) == (32, 8, 32, False)
    assert json.loads((tiled[0] / "metrics.json").read_text())["tests"]["set"]["images"] == 2


def test_the_experiment_file_runs_again_and_resumes(tiled, toolkit, tmp_path):
    toolkit("run", "--config", tiled[0] / "experiment.toml", "--run-dir", tmp_path / "again")
    assert (tmp_path / "again" / "checkpoints" / "last.pt").read_bytes()
    toolkit("run", "--run-dir", tmp_path / "again", "--resume")
    left, right = ((f / "metrics.json").read_text() for f in (tiled[0], tmp_path / "again"))
    assert json.loads(left)["tests"] == json.loads(right)["tests"]


def test_several_options_after_one_set(toolkit, tmp_path):
    root = stained(tmp_path / "set")
    line = ["run", "--segmenter", "unet", "--source", f"folder:{root}", "--dry-run", "--json"]
    plan = json.loads(toolkit(*line, "--set", "data.tile=16", "data.stride=4", "--seed", 3).stdout)["experiment"]
    assert (plan["data"]["tile"], plan["data"]["stride"], plan["seed"]) == (16, 4, 3)
    plan = json.loads(toolkit(*line, "--set", "data.tile=16").stdout)["experiment"]
    assert plan["data"]["stride"] == 8


@pytest.mark.parametrize("sampling", ["foreground", "classes"])
@pytest.mark.parametrize("workers", [0, 1])
def test_by_content(toolkit, tmp_path, sampling, workers):
    settings = [f"data.tile_sampling={sampling}", f"data.workers={workers}", "data.source_limit=2"]
    toolkit(*tiled_command(stained(tmp_path / "set"), "--run-dir", tmp_path / "run", settings=settings))


def test_windows_by_a_wanted_share(toolkit, tmp_path):
    root = stained(tmp_path / "set")
    line = tiled_command(root, "--run-dir", tmp_path / "run", settings=["data.source.match=share:0.15"])
    told = " ".join(toolkit(*line).stderr.split())
    assert "the mean share of what is drawn is 0.15, of even draws it would be 0.0" in told
    assert "of 210 windows" in told
    stored = tomllib.loads((tmp_path / "run" / "experiment.toml").read_text())["data"]["source"]
    assert stored["match"] == "share:0.15"
    line = tiled_command(root, "--run-dir", tmp_path / "none", settings=["data.source.match=size:90"])
    assert "data.source.match=size:90 is out of reach" in " ".join(toolkit(*line, code=2).stderr.split())


@pytest.mark.parametrize("strategy", ["joint", "sequential"])
def test_translated_windows(toolkit, tmp_path, strategy):
    root = stained(tmp_path / "set")
    parts = ("--generator", "cut", "--segmenter", "unet", "--target", f"folder:{root}")
    run = tmp_path / "run"
    toolkit(*tiled_command(root, "--run-dir", run, "--strategy", strategy, parts=parts, settings=TINY_CUT))
    if strategy == "sequential":
        translated = min((run / "translated" / "train" / "images").iterdir())
        assert Image.open(translated).size == (75, 60)


def test_windows_are_the_runs_own_unless_said_otherwise(tiled, toolkit, tmp_path):
    found = {}
    for name, option in (
        ("own", []),
        ("same", ["--window", 32]),
        ("whole", ["--window", 0]),
        ("small", ["--window", 16]),
    ):
        document = toolkit("evaluate", tiled[0], "--json", "--out", tmp_path / name, *option).stdout
        found[name] = json.loads(document)["tests"]
    assert found["own"] == found["same"] == json.loads((tiled[0] / "metrics.json").read_text())["tests"]
    assert found["own"] != found["whole"]
    assert found["own"] != found["small"]


class TestLarge:
    """Images beyond the limit go through the same windows, a band of rows at a time."""

    @pytest.fixture(autouse=True)
    def everything_is_large(self, monkeypatch):
        from transeg.core.inference import large_image

        self.large = lambda: monkeypatch.setattr(large_image, "LARGE", 0)
        monkeypatch.setattr(large_image, "OVERVIEW", 40)

    @pytest.mark.parametrize("suffix", [".tif", ".png"])
    def test_predict(self, tiled, toolkit, tmp_path, suffix):
        pixels = tifffile.imread(tiled[1] / "images" / "0.tif")
        picture = tmp_path / f"a{suffix}"
        tifffile.imwrite(picture, pixels, tile=(16, 16)) if suffix == ".tif" else Image.fromarray(pixels).save(picture)
        toolkit("predict", tiled[0], picture, "-o", tmp_path / "small", "--probabilities")
        self.large()
        toolkit("predict", tiled[0], picture, "-o", tmp_path / "large", "--probabilities")
        for kind in ("masks", "probabilities"):
            small = np.asarray(Image.open(tmp_path / "small" / kind / "a.png"))
            assert np.array_equal(tifffile.imread(tmp_path / "large" / kind / "a.tif"), small)
        with tifffile.TiffFile(tmp_path / "large" / "masks" / "a.tif") as file:
            assert file.pages[0].is_tiled
        assert Image.open(tmp_path / "large" / "overlays" / "a.png").size == (38, 30)  # every second pixel

    def test_what_is_made_says_how_large_pixels_are(self, tiled, toolkit, tmp_path):
        picture = tmp_path / "a.tif"
        pixels = tifffile.imread(tiled[1] / "images" / "0.tif")
        tifffile.imwrite(picture, pixels, tile=(16, 16), resolution=(40000, 20000), resolutionunit="CENTIMETER")
        self.large()
        for option, expected in ((), (0.5, 0.25)), (("--pixel-size", 2), (2, 2)):
            toolkit("predict", tiled[0], picture, "-o", tmp_path / "out", "--probabilities", *option)
            for kind in ("masks", "probabilities"):
                assert said_pixel_size(tmp_path / "out" / kind / "a.tif") == pytest.approx(expected)

    def test_translate(self, toolkit, tmp_path):
        root = stained(tmp_path / "set")
        parts = ("--generator", "cut", "--target", f"folder:{root}")
        line = command(
            ([*parts, "--source", f"folder:{root}"], [*TINY_TRAINING, *TINY_CUT, "data.tile=32"]),
            "--run-dir",
            tmp_path / "run",
        )
        toolkit(*line)
        picture = root / "images" / "0.tif"
        tifffile.imwrite(picture, tifffile.imread(picture), resolution=(20000, 20000), resolutionunit="CENTIMETER")
        toolkit("translate", tmp_path / "run", picture, "-o", tmp_path / "small")
        self.large()
        toolkit("translate", tmp_path / "run", picture, "-o", tmp_path / "large")
        small = np.asarray(Image.open(tmp_path / "small" / "0.png"))
        assert np.array_equal(tifffile.imread(tmp_path / "large" / "0.tif"), small)
        assert said_pixel_size(tmp_path / "large" / "0.tif") == pytest.approx((0.5, 0.5))

    def test_a_damaged_region_is_named(self, tiled, toolkit, tmp_path):
        picture = tmp_path / "a.tif"
        tifffile.imwrite(picture, tifffile.imread(tiled[1] / "images" / "0.tif"), tile=(16, 16), photometric="rgb")
        picture.write_bytes(picture.read_bytes()[:-50])
        self.large()
        text = toolkit("predict", tiled[0], picture, "-o", tmp_path / "out", code=1).stderr
        assert "cannot be decoded at row 48, column 64: the file is truncated" in " ".join(text.split())
        assert not list((tmp_path / "out" / "masks").glob("*"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["data.tile=16", "data.stride=17"], "Windows of 16 pixels that are 17 apart leave out what lies between"),
        (["data.stride=4"], "no windows that data.stride could be of; say data.tile=PIXELS, too"),
        (["data.tile_sampling=classes"], "no windows that data.tile_sampling could be of"),
        (["data.tile=16", "data.sampling=classes"], "for windows say data.tile_sampling=classes"),
        (["data.tile=16", "data.size=32"], "leave out data.size"),
        (["data.tile=16", "data.resize=true"], "leave out data.size, data.resize"),
        (["data.tile=16", "data.load_ratio=1.5"], "leave out data.tile"),
        (["data.tile=0"], "data.tile cannot be 0"),
        (["data.tile=many"], "data.tile cannot be 'many'"),
        (["data.tile=16", "data.tile_sampling=nuclei"], "'position', 'foreground' or 'classes'"),
        (
            ["data.source.match=share"],
            "The match 'share' does not say what the source should be like; say match=share:0.2",
        ),
        (["data.source.match=share:20"], "The match 'share:20' does not say"),
        (["data.source.match=size:0"], "The match 'size:0' does not say"),
        (["data.source.match=size:9", "data.sampling=classes"], "data.sampling=classes say what is drawn"),
        (
            ["data.source.match=size:9", "data.tile=16", "data.tile_sampling=classes"],
            "data.tile_sampling=classes say what is drawn",
        ),
        (["data.test.phantom.match=size:9"], "leave out data.test.phantom.match"),
        (["data.tile=16", "hallo"], "'hallo' is not of the form option.name=value"),
    ],
)
def test_a_sentence(toolkit, settings, said):
    result = toolkit("run", "--segmenter", "unet", "--dry-run", "--set", *settings, code=2)
    assert said in " ".join(result.stderr.split())


def test_windows_smaller_than_the_generator_bears(toolkit):
    text = toolkit("run", "--generator", "cut", "--dry-run", "--set", "data.tile=16", code=2).stderr
    assert "raise data.tile" in " ".join(text.split())
