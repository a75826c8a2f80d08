"""Whatever is wrong gets one sentence, an exit code and no traceback; nothing is lost."""

import os

import cv2
import numpy as np
import pytest
import tifffile
import torch
from conftest import BOTH, SUPERVISED, TINY_TRAINING, command
from PIL import Image

RNG = np.random.default_rng(0)

PIX2PIX = ["--generator", "pix2pix", "--source", "phantom", "--set", "generator.depth=5"]


@pytest.fixture
def folder(tmp_path):
    """A small labelled set."""
    root = tmp_path / "set"
    for index in range(12):
        image = RNG.integers(0, 256, (24, 30, 3), dtype=np.uint8)
        for name, pixels in (("images", image), ("masks", (image[:, :, 0] > 128).astype(np.uint8) * 255)):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / name / f"{index}.png")
    return root


def on(root, *more):
    settings = [*TINY_TRAINING, "data.size=32", "segmenter.base=4", *more]
    return command((["--segmenter", "unet", "--source", f"folder:{root}"], settings))


@pytest.fixture
def sentence(toolkit):
    """Run a command that must fail, and give its message in one line."""

    def call(*arguments, code=2):
        result = toolkit(*arguments, code=code)
        assert "Traceback" not in result.output
        text = " ".join(result.stderr.split())
        assert text.count("Error: ") == 1
        return text.partition("Error: ")[2]

    return call


class TestData:
    def test_missing_folder(self, sentence, tmp_path):
        text = sentence(*on(tmp_path / "none"))
        assert f"The folder {tmp_path / 'none'} of the dataset folder does not exist" in text

    @pytest.mark.parametrize(("where", "option"), [("source", "source"), ("val", "val"), ("test.mine", "test")])
    def test_a_name_where_a_table_belongs(self, sentence, where, option):
        text = sentence("run", "--segmenter", "unet", "--set", f"data.{where}=x")
        assert text.startswith(f"data.{where} is a table, not 'x'; say --{option} NAME:FOLDER")

    def test_no_folder_said(self, sentence, monkeypatch):
        monkeypatch.delenv("TRANSEG_DATA", raising=False)
        text = sentence("run", "--segmenter", "unet", "--source", "kvasir")
        assert "say kvasir:FOLDER, or set TRANSEG_DATA" in text

    def test_default_root(self, toolkit, monkeypatch, folder):
        monkeypatch.setenv("TRANSEG_DATA", str(folder.parent))
        (folder.parent / "kvasir").symlink_to(folder)
        toolkit("run", "--segmenter", "unet", "--source", "kvasir", "--dry-run")

    def test_no_pairs(self, sentence, folder):
        for path in (folder / "masks").iterdir():
            path.rename(path.with_name(f"mask_of_{path.name}"))
        assert "no image in" in sentence(*on(folder))

    def test_image_without_mask(self, sentence, folder):
        (folder / "masks" / "3.png").unlink()
        text = sentence(*on(folder))
        assert "images/3.png has no mask 3.*" in text
        assert f"toolkit data verify folder:{folder}" in text

    def test_no_masks_at_all(self, sentence, folder):
        for path in (folder / "masks").iterdir():
            path.unlink()
        (folder / "masks").rmdir()
        assert "have no masks, so nothing can be learned" in sentence(*on(folder))

    def test_sizes_that_differ(self, sentence, folder):
        for index in range(12):
            Image.new("L", (30, 23)).save(folder / "masks" / f"{index}.png")
        assert "30x24 pixels, but its mask" in sentence(*on(folder), code=1)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_truncated_png(self, sentence, folder, workers):
        for path in (folder / "images").iterdir():
            path.write_bytes(path.read_bytes()[:500])
        text = sentence(*on(folder, f"data.workers={workers}"), code=1)
        assert "cannot be decoded: the file is truncated or damaged" in text

    @pytest.mark.parametrize(
        ("write", "said"),
        [
            (
                lambda path: tifffile.imwrite(
                    path.with_suffix(".tif"), RNG.integers(0, 65536, (24, 30, 3), dtype=np.uint16), photometric="rgb"
                ),
                "has 16 bits per channel",
            ),
            (lambda path: Image.new("RGBA", (30, 24)).save(path), "has an alpha channel, which is ignored"),
            (lambda path: Image.new("L", (30, 24)).save(path), "is grey in a set of colour images"),
            (
                lambda path: cv2.imwrite(str(path), RNG.integers(0, 65536, (24, 30), dtype=np.uint16)),
                "has 16 bits per channel",
            ),
        ],
        ids=["16-bit tiff", "rgba", "grey", "16-bit grey"],
    )
    def test_unusual_images_work_and_are_said(self, toolkit, folder, tmp_path, write, said, caplog):
        from transeg.core.data import images, ranged

        images._said.clear()
        ranged._said.clear()
        for path in list((folder / "images").iterdir()):
            path.unlink()
            write(path)
        toolkit(*on(folder), "--run-dir", tmp_path / "run")
        assert sum(said in message for message in caplog.messages) == 1

    def test_colour_images_said_to_have_five_channels(self, sentence, folder):
        assert "has 3 channels, not 5" in sentence(*on(folder, "data.source.channels=5"), code=1)

    def test_a_label_map_saved_as_jpeg(self, sentence, folder):
        for path in list((folder / "masks").iterdir()):
            Image.open(path).save(path.with_suffix(".jpg"))
            path.unlink()
        text = sentence(*on(folder, "data.source.values=[0,255]"), code=1)
        assert "is a label map stored as JPEG, which changes its values; store it as PNG" in text

    def test_values_of_no_class(self, sentence, folder):
        text = sentence(*on(folder, "data.source.classes=['background','a','b']"), code=1)
        assert "has the pixel values [255], which stand for no class of [0, 1, 2]" in text

    def test_masks_with_an_alpha_channel_work(self, toolkit, folder):
        before = toolkit("data", "verify", f"folder:{folder}", "--set", "values=[0,255]").stdout
        for path in (folder / "masks").iterdir():
            Image.open(path).convert("RGBA").save(path)
        assert toolkit("data", "verify", f"folder:{folder}", "--set", "values=[0,255]").stdout == before

    def test_another_dataset(self, sentence, folder, tmp_path):
        text = sentence("run", "--segmenter", "unet", "--source", f"polyp-benchmark:{folder}")
        assert "does not hold TrainDataset" in text

    def test_an_empty_split(self, sentence, folder):
        text = sentence("run", "--segmenter", "unet", "--source", f"etis:{folder}")
        assert "has no image in the split that serves as source" in text
        assert "--set data.source.split=" in text

    def test_other_classes_in_the_test(self, sentence, folder):
        text = sentence(
            *on(folder),
            "--test",
            "phantom",
            "--set",
            "data.source.classes=['a','b','c']",
            "--set",
            "data.source.values=[0,1,255]",
        )
        assert "phantom has the classes background, polyp, but the source has a, b, c" in text

    def test_other_channels_in_the_test(self, sentence, folder):
        assert "phantom has images of 3 channels" in sentence(
            *on(folder, "data.source.channels=1"), "--test", "phantom"
        )

    def test_data_verify(self, toolkit, folder):
        good = toolkit("data", "verify", f"folder:{folder}")
        assert "12 images, no fault" in good.stdout
        (folder / "images" / "5.png").write_bytes(b"nothing")
        bad = toolkit("data", "verify", f"folder:{folder}", code=1)
        assert "images/5.png cannot be decoded" in bad.stdout
        assert "1 fault" in bad.stdout


class TestOptions:
    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (["--segmenter", "hardent"], "There is no segmenter 'hardent'. Did you mean 'hardnet'?"),
            (["--generator", "cats"], "Did you mean 'cut'?"),
            (["--segmenter", "unet", "--source", "kvazir:/x"], "Did you mean 'kvasir'?"),
            (["--segmenter", "unet", "--loss", "dise"], "Did you mean 'dice'?"),
            (["--segmenter", "unet", "--set", "segmenter.bsae=3"], "Did you mean 'base'?"),
            (["--segmenter", "unet", "--set", "train.iteration=3"], "Did you mean 'train.iterations'?"),
            (["--segmenter", "unet", "--set", "lr"], "not of the form option.name=value"),
            (["--segmenter", "unet", "--strategy", "joint"], "joint needs a generator"),
            (["--segmenter", "unet", "--baseline", "source-only"], "supervised needs none"),
            (["--generator", "cut", "--segmenter", "unet", "--strategy", "supervised"], "no use for [generator]"),
            (["--segmenter", "unet", "--device", "cuda:99"], "GPU"),
            (["--segmenter", "unet", "--config", "none.toml"], "none.toml cannot be read"),
            (["--generator", "cut", "--set", "generator.blocks=2"], "2 are too few"),
            (["--generator", "cut", "--test", "phantom"], "nothing to test a generator's images on"),
            (["--generator", "cut", "--set", "generator.condition=mask"], "cannot be given mask"),
            (["--generator", "cut", "--set", "generator.condition=masks"], "generator.condition cannot be 'masks'"),
            (["--generator", "cut", "--set", "data.size=30"], "multiples of 4; data.size=30 is not"),
            (["--generator", "pix2pix", "--source", "phantom", "--target", "phantom"], "leave --target out"),
            (
                ["--generator", "pix2pix", "--source", "phantom", "--set", "generator.condition=image"],
                "the source has none; see `toolkit info dataset/aligned`",
            ),
            ([*PIX2PIX, "--set", "data.size=100"], "multiples of 32; data.size=100 is not"),
            (
                [*PIX2PIX, "--set", "quality.features=resnet50"],
                "weights are not downloaded",
            ),
            (
                [*PIX2PIX, "--set", "quality.features=resnet50:none.pth"],
                "There is no file none.pth",
            ),
            (["--generator", "cut", "--set", "data.size=16"], "needs images of 24 pixels; raise data.size"),
            (["--generator", "cut", "--set", "generator.lr=nan"], "generator.lr cannot be nan"),
            (["--segmenter", "unet", "--set", "segmenter.num_classes=7"], "does not fit the 2 classes"),
            (["--segmenter", "unet", "--source", "phantom:wet"], "has the domains clean, scope"),
            ([], "Name what to train"),
        ],
    )
    def test_a_sentence(self, sentence, arguments, text):
        if "cuda:99" in arguments and torch.cuda.is_available():
            pytest.skip("this machine has a GPU")
        assert text in sentence("run", *arguments)

    def test_channels_that_do_not_fit(self, sentence, folder):
        line = ["run", "--generator", "cut", "--source", "phantom", "--target", f"folder:{folder}"]
        assert "as many channels" in sentence(*line, "--set", "data.target.channels=1")


class TestFiles:
    def test_pickled_weights(self, sentence, tmp_path):
        path = tmp_path / "evil.pth"
        torch.save(torch.nn.Linear(1, 1), path)
        text = sentence("run", "--segmenter", "unet", "--set", f"segmenter.weights={path}", "--dry-run", code=1)
        assert "holds pickled code, which is never run" in text

    def test_missing_weights(self, sentence, tmp_path):
        text = sentence("run", "--segmenter", "unet", "--set", "segmenter.weights=none.pth", "--dry-run", code=2)
        assert "There is no file" in text

    def test_a_checkpoint_with_code(self, sentence, toolkit, tmp_path):
        run = tmp_path / "run"
        toolkit(*command(SUPERVISED, "--run-dir", run))
        evil = tmp_path / "was run"

        class Code:
            def __reduce__(self):
                return os.mkdir, (str(evil),)

        for name in ("last", "best"):
            torch.save({"format": 1, "model": Code()}, run / "checkpoints" / f"{name}.pt")
        assert "pickled code" in sentence("run", "--run-dir", run, "--resume", code=1)
        assert "pickled code" in sentence("predict", run, run / "previews", "-o", tmp_path / "o", code=1)
        assert not evil.exists()

    def test_a_checkpoint_of_another_experiment(self, sentence, toolkit, tmp_path):
        one, other = tmp_path / "one", tmp_path / "other"
        toolkit(*command(SUPERVISED, "--run-dir", one))
        toolkit(*command(SUPERVISED, "--run-dir", other, "--seed", 7))
        (one / "checkpoints" / "last.pt").write_bytes((other / "checkpoints" / "last.pt").read_bytes())
        assert "belongs to another experiment" in sentence("run", "--run-dir", one, "--resume")

    def test_a_damaged_checkpoint(self, sentence, toolkit, tmp_path):
        run = tmp_path / "run"
        toolkit(*command(SUPERVISED, "--run-dir", run))
        last = run / "checkpoints" / "last.pt"
        last.write_bytes(last.read_bytes()[:1000])
        assert "damaged" in sentence("run", "--run-dir", run, "--resume", code=1)

    def test_a_folder_that_is_no_run(self, sentence, tmp_path):
        assert "is not a run folder" in sentence("evaluate", tmp_path)

    def test_a_run_folder_that_cannot_be_written(self, sentence, tmp_path):
        (tmp_path / "file").write_text("in the way")
        text = sentence(*command(BOTH, "--run-dir", tmp_path / "file" / "run"))
        assert "cannot be written" in text
        assert "choose another with --run-dir" in text

    def test_no_images_to_predict(self, sentence, joint_run, tmp_path):
        assert "There is no image or folder" in sentence("predict", joint_run, tmp_path / "none", "-o", tmp_path)
        (tmp_path / "empty").mkdir()
        assert "holds no image" in sentence("predict", joint_run, tmp_path / "empty", "-o", tmp_path)

    def test_two_images_of_one_name(self, sentence, joint_run, tmp_path):
        for suffix in ("png", "jpg"):
            Image.new("RGB", (30, 30)).save(tmp_path / f"a.{suffix}")
        assert "would overwrite each other" in sentence("predict", joint_run, tmp_path, "-o", tmp_path / "o")

    def test_a_loss_that_is_no_number(self, sentence, tmp_path):
        run = tmp_path / "run"
        text = sentence(*command(BOTH, "--run-dir", run, "--set", "generator.lr=1e30"), code=1)
        assert "is not a finite number at iteration" in text
        assert "learning rate" in text
