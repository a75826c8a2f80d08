"""The Python API gives what the commands give, to the bit."""

import itertools
import json
import shutil
import subprocess
import sys
import tomllib
import zlib

import cv2
import numpy as np
import pytest
import tifffile
import tomli_w
from conftest import SUPERVISED, TINY_DATA, TINY_SYNDIFF, TINY_TARGET, TINY_TEST, TINY_TRAINING, command
from PIL import Image
from servers import forked

import transeg
from transeg.core.data.images import read_image
from transeg.core.errors import DataError, UsageError

RNG = np.random.default_rng(0)
DTYPES = {"eight": np.uint8, "sixteen": np.uint16, "float": np.float32}
SHAPES = {"grey": (41, 37), "colour": (41, 37, 3)}
SETTINGS = [*TINY_TRAINING, *TINY_SYNDIFF, "segmenter.base=4", "baseline=none", "device=cpu"]
BOTH_WAYS = {"generator": "syndiff", "segmenter": "unet", "strategy": "sequential"}
CHANGED = {"window": ["--window", "16"], "flips": ["--flips"], "pixel_size": ["--pixel-size", "0.4,0.3"]}
CHANGES = {"window": {"window": 16}, "flips": {"flips": True}, "pixel_size": {"pixel_size": (0.4, 0.3)}}


@pytest.fixture(scope="module")
def arrays():
    """Images of every type, by the stem of their file."""
    made = {}
    for name, dtype in DTYPES.items():
        for kind, shape in SHAPES.items():
            unit = RNG.random(shape)
            made[f"{name}-{kind}"] = (unit if name == "float" else unit * np.iinfo(dtype).max).astype(dtype)
    return made


@pytest.fixture(scope="module")
def images(arrays, tmp_path_factory):
    """The same as files."""
    folder = tmp_path_factory.mktemp("images")
    for stem, array in arrays.items():
        if array.dtype == np.float32:
            tifffile.imwrite(folder / f"{stem}.tif", array, photometric="minisblack" if array.ndim == 2 else "rgb")
        else:
            cv2.imwrite(str(folder / f"{stem}.png"), array if array.ndim == 2 else array[:, :, ::-1])
    return folder


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    """A run on coloured images of one class, translated by chance in two directions."""
    experiment = transeg.Experiment(**BOTH_WAYS, set=[*SETTINGS, *TINY_DATA, *TINY_TARGET, *TINY_TEST], tests="phantom")
    return transeg.train(experiment, tmp_path_factory.mktemp("runs") / "colour")


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    """A run on grey images of two classes, with its pixels of 0.2 micrometres."""
    root = tmp_path_factory.mktemp("grey")
    for index in range(10):
        mask = RNG.integers(0, 3, (32, 32), dtype=np.uint8)
        for folder, pixels in (("images", 80 * mask), ("masks", mask)):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(root / folder / f"{index}.png")
    options = {"classes": ["background", "a", "b"], "channels": 1}
    settings = {"segmenter.base": 4, "data.size": 32, "data.source": options, "device": "cpu"}
    for text in TINY_TRAINING:
        name, _, value = text.partition("=")
        settings[name] = int(value)
    experiment = transeg.Experiment(segmenter="unet", source=f"folder:{root}", set=settings)
    return with_pixel_size(transeg.train(experiment, tmp_path_factory.mktemp("runs") / "grey"))


def with_pixel_size(run):
    """A run, as if it had resampled its images."""
    path = run / "experiment.toml"
    experiment = tomllib.loads(path.read_text())
    for role in {"source", "target"} & experiment["data"].keys():
        experiment["data"][role]["pixel_size"] = 0.2
    path.write_text(tomli_w.dumps(experiment))
    return run


def written(folder):
    return {path.stem: path for path in folder.glob("[!.]*")}


def run_toolkit(*arguments):
    """The command line, in a process of its own."""
    done = forked(*arguments, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_predicts_as_the_command(run, images, arrays, out, options, keywords):
    run_toolkit("predict", run, images, "-o", out, "--probabilities", *options)
    model = transeg.load(run, device="cpu")
    masks, chances = written(out / "masks"), written(out / "probabilities")
    files = written(images)
    assert masks.keys() == arrays.keys()
    of_list = model.predict(list(arrays.values()), **keywords)
    for (stem, array), third in zip(arrays.items(), of_list, strict=True):
        mask = np.asarray(Image.open(masks[stem]))
        for found in (model.predict(files[stem], **keywords), model.predict(array, **keywords), third):
            assert found.dtype == np.uint8
            np.testing.assert_array_equal(found, mask, stem)
        found = model.predict(array, probabilities=True, **keywords)
        names = [stem] if len(model.classes) == 2 else [f"{stem}-{name}" for name in model.classes[1:]]
        stored = np.stack([np.asarray(Image.open(chances[name])) for name in names], 2)
        assert found.dtype == np.float32
        assert found.shape == (mask.shape if len(names) == 1 else (*mask.shape, len(names)))
        np.testing.assert_array_equal((found.reshape(stored.shape) * 65535).round().astype(np.uint16), stored, stem)
        np.testing.assert_array_equal(found, model.predict(str(files[stem]), True, **keywords))
        assert not keywords or (found != model.predict(array, True, rescale=1)).any()


@pytest.mark.parametrize("change", [None, *CHANGED])
def test_arrays_and_files_are_segmented_as_the_command_does(colour, images, arrays, tmp_path, change):
    run = with_pixel_size(shutil.copytree(colour, tmp_path / "run")) if change == "pixel_size" else colour
    options, keywords = CHANGED.get(change, []), CHANGES.get(change, {})
    assert_predicts_as_the_command(run, images, arrays, tmp_path / "out", options, keywords)


def test_grey_networks_of_several_classes_too(grey, images, arrays, tmp_path):
    options = [*CHANGED["window"], *CHANGED["flips"], *CHANGED["pixel_size"]]
    keywords = {**CHANGES["window"], **CHANGES["flips"], **CHANGES["pixel_size"]}
    assert_predicts_as_the_command(grey, images, arrays, tmp_path / "out", options, keywords)


def read_back(path):
    pixels = read_image(path, 3)
    assert pixels.shape[2] == 3
    return pixels


@pytest.mark.parametrize(
    ("options", "keywords"),
    [
        ([], {}),
        (["--direction", "target-to-source", "--window", "16"], {"direction": "target-to-source", "window": 16}),
    ],
    ids=["there", "back"],
)
def test_arrays_and_files_are_translated_as_the_command_does(colour, images, arrays, tmp_path, options, keywords):
    run_toolkit("translate", colour, images, "-o", tmp_path, *options)
    model, made, files = transeg.load(colour, device="cpu"), written(tmp_path), written(images)
    assert made.keys() == arrays.keys()
    for stem, array in arrays.items():
        expected = read_back(made[stem])
        seed = zlib.crc32(stem.encode())
        for found in (model.translate(files[stem], **keywords), model.translate(array, seed=seed, **keywords)):
            assert found.dtype == array.dtype
            np.testing.assert_array_equal(found, expected, stem)
    one, other = (model.translate(array, seed=seed, **keywords) for seed in (0, 1))
    assert (one != other).any()
    np.testing.assert_array_equal(one, model.translate([array], **keywords)[0])


def test_images_are_translated_before_they_are_segmented_as_the_command_does(colour, images, arrays, tmp_path):
    options = ["--translate-with", colour, "--direction", "target-to-source"]
    run_toolkit("predict", colour, images / "eight-colour.png", "-o", tmp_path, *options)
    mask = np.asarray(Image.open(tmp_path / "masks" / "eight-colour.png"))
    model = transeg.load(colour, device="cpu")
    for other in (model, colour):
        seed = zlib.crc32(b"eight-colour")
        more = {"translate_with": other, "direction": "target-to-source", "seed": seed}
        np.testing.assert_array_equal(model.predict(arrays["eight-colour"], **more), mask)


def test_batch_norms_follow_the_images_of_a_call_as_those_of_a_folder(toolkit, joint_run, images, arrays, tmp_path):
    stems = ["eight-colour", "float-grey"]
    for stem in stems:
        shutil.copy(written(images)[stem], tmp_path)
    toolkit("predict", joint_run, tmp_path, "-o", tmp_path / "out", "--probabilities", "--adapt", "tent")
    model, group = transeg.load(joint_run), [arrays[stem] for stem in stems]
    plain, by_bn, by_tent = (model.predict(group, True, adapt=method) for method in ("none", "bn", "tent"))
    stored = written(tmp_path / "out" / "probabilities")
    for stem, *found in zip(stems, plain, by_bn, by_tent, strict=True):
        assert all((one != other).any() for one, other in itertools.combinations(found, 2))
        pixels = (found[-1] * 65535).round().astype(np.uint16)
        np.testing.assert_array_equal(pixels, np.asarray(Image.open(stored[stem])), stem)
    assert (model.predict(group[0], True, adapt="tent") != by_tent[0]).any()
    with pytest.raises(DataError, match="Array 1 of the list"):
        model.predict([GOOD, GOOD.astype(int)], adapt="tent")
    for method, expected in {"tent": by_tent, "bn": by_bn, "none": plain}.items():
        np.testing.assert_array_equal(model.predict(group, True, adapt=method), expected)


def test_label_maps_are_translated_as_the_command_does(tmp_path):
    settings = [*TINY_DATA, *TINY_TRAINING, "generator.width=4", "generator.depth=4", "device=cpu"]
    experiment = transeg.Experiment(generator="pix2pix", source="phantom", set=settings)
    run = transeg.train(experiment, tmp_path / "run")
    mask = RNG.random((32, 32)) > 0.5
    Image.fromarray(mask).save(tmp_path / "mask.png")
    run_toolkit("translate", run, tmp_path / "mask.png", "-o", tmp_path / "out")
    expected, model = np.asarray(Image.open(tmp_path / "out" / "mask.png")), transeg.load(run, device="cpu")
    seed = zlib.crc32(b"mask")
    for given in (mask, mask.astype(np.uint8) * 255, mask.astype(int), tmp_path / "mask.png"):
        np.testing.assert_array_equal(model.translate(given, seed=seed), expected)


@pytest.mark.parametrize(
    ("options", "data", "keywords"),
    [
        ([], (), {}),
        (
            ["--test", "phantom:clean", "--split", "val", "--flips", "--window", "16", "--count", "--min-area", "2"],
            "phantom:clean",
            {"split": "val", "flips": True, "window": 16, "count": True, "min_area": 2},
        ),
    ],
    ids=["its own", "others"],
)
def test_numbers_are_those_of_the_command(joint_run, tmp_path, options, data, keywords):
    printed = run_toolkit("evaluate", joint_run, "--json", "-o", tmp_path / "one", *options)
    results = transeg.evaluate(joint_run, data, device="cpu", out=tmp_path / "other", **keywords)
    assert results == json.loads(printed)
    assert results["tests"]["phantom"]["images"]
    names = sorted(path.name for path in (tmp_path / "one").rglob("*.csv"))
    for path in (tmp_path / "one").rglob("*.csv"):
        assert (tmp_path / "other" / path.relative_to(tmp_path / "one")).read_bytes() == path.read_bytes()
    assert names


def test_training_is_that_of_the_command(toolkit, tmp_path):
    options, settings = SUPERVISED
    toolkit(*command(SUPERVISED, "--run-dir", tmp_path / "one", "--device", "cpu"))
    experiment = transeg.Experiment(segmenter=options[1], set=settings, device="cpu")
    run = transeg.train(experiment, tmp_path / "other")
    assert run == tmp_path / "other"
    for name in ("experiment.toml", "metrics.json"):
        assert (run / name).read_text() == (tmp_path / "one" / name).read_text()
    with pytest.raises(UsageError, match="already holds a run"):
        transeg.train(experiment, run)
    stored = transeg.Experiment.from_toml(run / "experiment.toml")
    assert transeg.train(stored, run, resume=True) == run
    with pytest.raises(UsageError, match="holds another experiment"):
        transeg.train(transeg.Experiment(segmenter="unet", set={"train.lr": 1}), run, resume=True)


def test_a_program_may_train_in_silence_or_see_progress(tmp_path):
    code = f"""
import transeg
experiment = transeg.Experiment(segmenter="unet", set={SUPERVISED[1]!r})
run = transeg.train(experiment)
model = transeg.load(run)
transeg.evaluate(run)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    (run,) = (tmp_path / "runs").iterdir()
    shown = f"import transeg\ntranseg.evaluate({str(run)!r}, progress=True)"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stderr == "testing: 2 images\n"


def test_several_processes_are_for_the_command_to_start(tmp_path):
    experiment = transeg.Experiment(segmenter="unet", devices=2)
    with pytest.raises(UsageError, match="start it with `toolkit run`"):
        transeg.train(experiment, tmp_path / "run")
    assert not (tmp_path / "run").exists()


class TestWhatIsWrong:
    """Is said by the package's own errors, in the command line's words."""

    @pytest.mark.parametrize(
        ("call", "said"),
        [
            (lambda model: model.predict("none.png"), "There is no image or folder none.png."),
            (lambda model: model.predict("/"), "/ is a folder; give a list of its files"),
            (lambda model: model.predict(7), "Images are arrays of NumPy or paths, or a list of them, not int."),
            (lambda model: model.predict(GOOD, window=-1), "--window -1 must be a number of pixels"),
            (lambda model: model.predict(GOOD, rescale=0), "--rescale 0 must be a factor above zero."),
            (lambda model: model.predict(GOOD, pixel_size=(1, 2, 3)), "--pixel-size 1,2,3 must be micrometres"),
            (lambda model: model.predict(GOOD, translate_with="none"), "none is not a run folder"),
            (lambda model: model.predict(GOOD, adapt="norm"), "There is no --adapt norm; there are none, bn, tent."),
            (lambda model: transeg.evaluate(model.run, adapt="norm"), "There is no --adapt norm"),
            (lambda model: model.translate(GOOD, "back"), "The generator of"),
            (lambda model: transeg.load("none"), "none is not a run folder: it has no experiment.toml."),
            (lambda model: transeg.load(model.run, device="gpu"), "There is no device 'gpu'; say cpu, cuda or cuda:0."),
            (lambda model: transeg.evaluate(model.run, "foldr:x"), "There is no dataset 'foldr'. Did you mean"),
            (lambda model: transeg.evaluate(model.run, split="tests"), "There is no split 'tests'. Did you mean"),
            (lambda model: transeg.evaluate(model.run, min_area=3), "--min-area says how to count objects"),
            (lambda model: transeg.evaluate(model.run, count=True, count_method="x"), "There is no --count-method"),
        ],
    )
    def test_options(self, joint_run, call, said):
        with pytest.raises(UsageError) as caught:
            call(transeg.load(joint_run, device="cpu"))
        assert str(caught.value).startswith(said)

    def test_which_array_of_a_list(self, joint_run):
        model = transeg.load(joint_run, device="cpu")
        with pytest.raises(DataError, match=r"^Array 1 of the list, counted from 0, has pixels of type int64"):
            model.predict([GOOD, GOOD.astype(int)])
        with pytest.raises(transeg.TransegError, match=r"^The array has 7 channels, but the network takes 3\."):
            model.translate(np.zeros((9, 9, 7), np.uint8))

    def test_networks_that_are_not_there(self, grey):
        model = transeg.load(grey, device="cpu")
        with pytest.raises(UsageError, match="trained a segmenter alone, so it cannot translate"):
            model.translate(GOOD)
        with pytest.raises(UsageError, match="say how large those of your images are with --pixel-size"):
            model.predict(GOOD)

    def test_batch_norms_that_are_not_there(self, tmp_path):
        settings = [*TINY_DATA, *TINY_TRAINING, "segmenter.base=4", "segmenter.variant=paper", "device=cpu"]
        run = transeg.train(transeg.Experiment(segmenter="unet", set=settings), tmp_path / "run")
        with pytest.raises(UsageError, match=r"^--adapt bn changes batch norms, and this segmenter has none"):
            transeg.load(run, device="cpu").predict(GOOD, adapt="bn")


GOOD = np.zeros((9, 9, 3), np.uint8)


def test_importing_it_imports_nothing_heavy():
    code = """
import sys
import transeg
assert set(transeg.__all__) <= set(dir(transeg))
assert not hasattr(transeg, "nothing")
transeg.Experiment, transeg.TransegError
heavy = {"torch", "numpy", "mmengine", "albumentations", "cv2", "PIL", "timm", "torchmetrics"} & set(sys.modules)
assert not heavy, heavy
assert all(callable(getattr(transeg, name)) for name in transeg.__all__)
from transeg import *
assert load is transeg.load and "torch" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_model_says_what_it_is(joint_run):
    model = transeg.load(joint_run, device="cpu")
    assert isinstance(model, transeg.Model)
    assert repr(model) == f"<Model {joint_run}: generator cut, segmenter unet, classes background, polyp, on cpu>"
    assert model.classes == ("background", "polyp")
