"""Runs that make images from label maps, from the command line to the files that they leave."""

import json

import numpy as np
import pytest
import torch
from conftest import TINY_DATA, TINY_TRAINING, command
from PIL import Image

from transeg.core.data.images import read_image

SMALL = [*TINY_TRAINING, "generator.width=4", "generator.depth=4"]
PHANTOM = ["--generator", "pix2pix", "--source", "phantom"], [*TINY_DATA, *SMALL]
CLEAN = ["data.test.phantom.domain=clean", "data.test.phantom.count=10", "data.test.phantom.side=32"]
WITH_UNET = [*PHANTOM[0], "--segmenter", "unet"], [*PHANTOM[1], *CLEAN, "segmenter.base=4"]


@pytest.fixture(scope="module")
def nuclei(tmp_path_factory):
    """Discs of two classes that touch, with their numbers; the images show class and number."""
    root = tmp_path_factory.mktemp("nuclei")
    rng = np.random.default_rng(0)
    for index in range(10):
        mask, numbers = np.zeros((2, 40, 48), np.uint8)
        for number in range(1, 7):
            row, column, value = rng.integers(5, 35), rng.integers(5, 43), rng.integers(1, 3)
            inside = np.hypot(*np.ogrid[-row : 40 - row, -column : 48 - column]) < 6
            mask[inside], numbers[inside] = value, number
        image = np.stack([80 * mask, 30 * numbers, 255 - 80 * mask], 2).astype(np.uint8)
        for folder, pixels in (("images", image), ("masks", mask), ("instances", numbers.astype(np.uint16))):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(root / folder / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory, nuclei):
    """A generator that was trained on label maps of three classes."""
    from click.testing import CliRunner

    from transeg.cli import main

    folder = tmp_path_factory.mktemp("runs") / "pix2pix"
    settings = [*SMALL, "data.size=32", "data.load_ratio=1", "data.source.classes=['background', 'a', 'b']"]
    line = command((["--generator", "pix2pix", "--source", f"folder:{nuclei}"], settings), "--run-dir", folder)
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 0, result.output
    return folder


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


class TestTraining:
    def test_translation_is_judged_while_it_trains_and_at_its_end(self, run):
        judged = [line for line in lines(run) if "val/ssim" in line]
        assert [line["iteration"] for line in judged] == [2, 3]
        quality = json.loads((run / "metrics.json").read_text())["quality"]["validation"]
        assert set(quality) == {"ssim", "psnr", "l1", "images"}
        assert quality["ssim"] == pytest.approx(judged[-1]["val/ssim"], abs=1e-5)

    def test_label_maps_go_in_as_channels(self, run):
        state = torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"]
        assert state["generator.G.model.model.0.weight"].shape[1] == 3
        assert state["generator.D.model.0.weight"].shape[1] == 3 + 3

    def test_outlines_are_one_more(self, toolkit, nuclei, tmp_path):
        settings = [*SMALL, "data.size=32", "generator.condition=mask+boundary"]
        settings += ["data.source.classes=['background', 'a', 'b']"]
        toolkit(*command((["--generator", "pix2pix", "--source", f"folder:{nuclei}"], settings), "--run-dir", tmp_path))
        state = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)["model"]
        assert state["generator.G.model.model.0.weight"].shape[1] == 4

    def test_joint(self, toolkit, tmp_path):
        toolkit(*command(WITH_UNET, "--run-dir", tmp_path))
        metrics = json.loads((tmp_path / "metrics.json").read_text())
        assert metrics["tests"]["phantom"]["images"] == 2
        assert metrics["quality"]["phantom"]["images"] == 2
        assert metrics["selection"] == "highest Dice on the validation images of the source"

    def test_sequential_learns_from_real_and_synthetic(self, toolkit, tmp_path):
        more = ("--strategy", "sequential", "--set", "synthesis.count=5", "--set", "data.synthetic_share=0.25")
        result = toolkit(*command(WITH_UNET, *more, "--run-dir", tmp_path))
        assert len(list((tmp_path / "synthetic" / "images").glob("*.png"))) == 5
        assert (tmp_path / "baseline" / "metrics.jsonl").exists()
        assert "+ synthetic" in result.stdout
        assert "real only" in result.stdout
        assert any("val/ssim" in line for line in lines(tmp_path / "translation"))
        assert not any("val/ssim" in line for line in lines(tmp_path))

    def test_consistency_and_features_of_a_run(self, toolkit, tmp_path):
        segmenter = tmp_path / "segmenter"
        settings = [*TINY_DATA, *TINY_TRAINING, "segmenter.base=4", "data.test.phantom.domain=clean"]
        settings += ["data.test.phantom.count=10", "data.test.phantom.side=32"]
        toolkit(*command((["--segmenter", "unet", "--source", "phantom"], settings), "--run-dir", segmenter))
        judged = [*PHANTOM[1], f"quality.segmenter={segmenter}", f"quality.features={segmenter}"]
        judged.append("data.source.count=20")  # FID and KID need two validation images
        toolkit(*command((PHANTOM[0], judged), "--run-dir", tmp_path / "run"))
        quality = json.loads((tmp_path / "run" / "metrics.json").read_text())["quality"]["validation"]
        assert quality.keys() >= {"fid", "kid", "consistency_dice", "consistency_iou", "consistency_dice_real"}
        table = toolkit("evaluate", tmp_path / "run", "--test", "phantom:clean", "--consistency", segmenter).stdout
        assert "consistency" in table
        (table_file,) = (tmp_path / "run" / "evaluations").glob("*/phantom-translation.csv")
        first = table_file.read_text().splitlines()[0]
        assert first == "name,ssim,psnr,l1,consistency_dice,consistency_iou,consistency_dice_real"
        assert "SSIM" in table


class TestSynthesis:
    def test_pairs_in_the_folder_layout(self, toolkit, run, tmp_path):
        result = toolkit("synthesize", run, "-o", tmp_path / "made", "--count", 12)
        assert "12 images" in result.stdout
        images, masks, instances = (sorted((tmp_path / "made" / k).iterdir()) for k in ("images", "masks", "instances"))
        assert [p.name for p in images] == [p.name for p in masks] == [p.name for p in instances]
        assert len(images) == 12
        manifest = json.loads((tmp_path / "made" / "manifest.json").read_text())
        assert set(manifest) == {path.stem for path in images}
        for image, mask in zip(images, masks, strict=True):
            labels = np.asarray(Image.open(mask))
            assert read_image(image, 3).shape == (*labels.shape, 3)
            assert set(np.unique(labels)) <= {0, 1, 2}

    def test_it_repeats_itself_and_goes_on(self, toolkit, run, tmp_path):
        for name in ("one", "two"):
            toolkit("synthesize", run, "-o", tmp_path / name, "--count", 3)
        first = sorted((tmp_path / "one" / "images").iterdir())
        assert all(p.read_bytes() == (tmp_path / "two" / "images" / p.name).read_bytes() for p in first)
        stamps = [path.stat().st_mtime_ns for path in first]
        toolkit("synthesize", run, "-o", tmp_path / "one", "--count", 5)
        assert [path.stat().st_mtime_ns for path in first] == stamps
        assert len(list((tmp_path / "one" / "images").iterdir())) == 5

    def test_from_drawn_masks(self, toolkit, run, tmp_path):
        (tmp_path / "drawn").mkdir()
        mask = np.zeros((32, 32), np.uint8)
        mask[8:20, 8:20] = 2
        Image.fromarray(mask).save(tmp_path / "drawn" / "square.png")
        toolkit("synthesize", run, "-o", tmp_path / "made", "--count", 2, "--masks", tmp_path / "drawn")
        first, second = sorted((tmp_path / "made" / "masks").iterdir())
        assert (np.asarray(Image.open(first)) == mask).all()
        assert (np.asarray(Image.open(second)) == mask).all()
        assert first.stem == "000000-square"

    def test_a_segmenter_learns_from_them(self, toolkit, run, nuclei, tmp_path):
        toolkit("synthesize", run, "-o", tmp_path / "made", "--count", 4)
        settings = [*TINY_TRAINING, "data.size=32", "segmenter.base=4"]
        settings += ["data.source.classes=['background', 'a', 'b']"]
        options = ["--segmenter", "unet", "--loss", "ce", "--source", f"folder:{nuclei}"]
        options += ["--synthetic", f"folder:{tmp_path / 'made'}"]
        plan = toolkit(*command((options, settings), "--dry-run"))
        assert "synthetic" in plan.stdout
        assert "4 images" in plan.stdout
        toolkit(*command((options, settings), "--run-dir", tmp_path / "run"))

    def test_label_maps_are_translated(self, toolkit, run, nuclei, tmp_path):
        toolkit("translate", run, nuclei / "masks", "-o", tmp_path / "o")
        assert Image.open(tmp_path / "o" / "3.png").size == (48, 40)


class TestBadInput:
    def test_a_label_map_stored_as_jpeg(self, toolkit, run, nuclei, tmp_path):
        Image.open(nuclei / "masks" / "0.png").save(tmp_path / "a.jpg")
        result = toolkit("translate", run, tmp_path, "-o", tmp_path / "o", code=1)
        assert "label map stored as JPEG" in result.stderr

    def test_values_that_stand_for_no_class(self, toolkit, run, tmp_path):
        Image.fromarray(np.full((40, 40), 7, np.uint8)).save(tmp_path / "a.png")
        result = toolkit("synthesize", run, "-o", tmp_path / "o", "--count", 1, "--masks", tmp_path, code=1)
        assert "[7], which stand for no class of [0, 1, 2, 255]" in result.stderr

    def test_a_mask_with_an_alpha_channel_is_read_without_it(self, toolkit, run, nuclei, tmp_path, caplog):
        mask = np.asarray(Image.open(nuclei / "masks" / "0.png"))
        Image.fromarray(np.dstack([mask, mask, mask, np.full_like(mask, 255)])).save(tmp_path / "0.png")
        for name, folder in (("plain", nuclei / "masks"), ("alpha", tmp_path)):
            toolkit("translate", run, folder / "0.png", "-o", tmp_path / name)
        assert "0.png has an alpha channel, which is ignored" in caplog.text
        assert (tmp_path / "plain" / "0.png").read_bytes() == (tmp_path / "alpha" / "0.png").read_bytes()

    def test_no_masks(self, toolkit, run, tmp_path):
        (tmp_path / "empty").mkdir()
        result = toolkit("synthesize", run, "-o", tmp_path, "--count", 1, "--masks", tmp_path / "empty", code=2)
        assert "no image" in result.stderr

    def test_a_generator_of_images_cannot_synthesize(self, toolkit, joint_run, tmp_path):
        result = toolkit("synthesize", joint_run, "-o", tmp_path, "--count", 1, code=2)
        assert "is given images, not label maps" in result.stderr

    def test_synthetic_images_of_other_classes(self, toolkit, run, nuclei, tmp_path):
        toolkit("synthesize", run, "-o", tmp_path / "made", "--count", 2)
        options = ["--segmenter", "unet", "--source", f"folder:{nuclei}", "--synthetic", f"folder:{tmp_path / 'made'}"]
        settings = ["data.source.values=[0, 1]", "data.source.ignore=2", *TINY_TRAINING]
        result = toolkit(*command((options, settings), "--run-dir", tmp_path / "r"), code=1)
        assert "stand for no class" in result.stderr


class TestPairedImages:
    """Grey images on the left, their colours on the right."""

    @pytest.fixture
    def aligned(self, tmp_path):
        rng = np.random.default_rng(0)
        for split in ("train", "val", "test"):
            (tmp_path / "data" / split).mkdir(parents=True)
            for index in range(4):
                grey = np.kron(rng.integers(0, 256, (8, 8, 1), np.uint8), np.ones((6, 6, 1), np.uint8)).repeat(3, 2)
                both = np.concatenate([grey, 255 - grey * np.array([1, 0, 0], np.uint8)], 1)
                Image.fromarray(both).save(tmp_path / "data" / split / f"{index}.png")
        return tmp_path / "data"

    def test_grey_becomes_colour(self, toolkit, aligned, tmp_path):
        options = ["--generator", "pix2pix", "--source", f"aligned:{aligned}", "--test", f"aligned:{aligned}"]
        settings = [*SMALL, "generator.condition=image", "data.size=32", "data.source.channels=1"]
        settings += ["data.test.aligned.channels=1", "data.source.target_channels=3"]
        settings += ["data.test.aligned.target_channels=3"]
        toolkit(*command((options, settings), "--run-dir", tmp_path / "run"))
        assert (
            json.loads((tmp_path / "run" / "metrics.json").read_text())["quality"][f"{tmp_path.name}-data"]["images"]
            == 4
        )
        Image.fromarray(np.zeros((40, 50), np.uint8)).save(tmp_path / "grey.png")
        toolkit("translate", tmp_path / "run", tmp_path / "grey.png", "-o", tmp_path / "o")
        assert read_image(tmp_path / "o" / "grey.png", 3).shape == (40, 50, 3)

    def test_translated_images_have_the_counterparts_channels(self, toolkit, nuclei, tmp_path):
        """A sequential run: grey images with masks, whose counterparts are coloured."""
        root = tmp_path / "data"
        for folder in ("images", "masks", "colours"):
            (root / folder).mkdir(parents=True)
            for path in (nuclei / ("masks" if folder == "masks" else "images")).iterdir():
                picture = Image.open(path)
                (picture.convert("L") if folder == "images" else picture).save(root / folder / path.name)
        options = ["--strategy", "sequential", "--generator", "pix2pix", "--segmenter", "unet", "--loss", "ce"]
        options += ["--source", f"folder:{root}", "--test", f"folder:{nuclei}"]
        settings = [*SMALL, "generator.condition=image", "data.size=32", "segmenter.base=4", "data.source.channels=1"]
        settings += ["data.source.targets=colours", "data.source.target_channels=3"]
        settings += [f"data.{role}.classes=['background', 'a', 'b']" for role in ("source", "test.folder")]
        toolkit(*command((options, settings), "--run-dir", tmp_path / "run"))
        toolkit("translate", tmp_path / "run", root / "images", "-o", tmp_path / "o")
        assert read_image(tmp_path / "o" / "3.png", 3).shape == (40, 48, 3)
        toolkit("predict", tmp_path / "run", tmp_path / "o", "-o", tmp_path / "p")

    def test_a_segmenter_alone_sees_the_images_themselves(self, toolkit, nuclei, tmp_path):
        root = tmp_path / "data"
        for folder, mode in (("images", "L"), ("masks", "L"), ("colours", "RGB")):
            (root / folder).mkdir(parents=True)
            for path in (nuclei / ("masks" if folder == "masks" else "images")).iterdir():
                Image.open(path).convert(mode).save(root / folder / path.name)
        options = ["--segmenter", "unet", "--loss", "ce", "--source", f"folder:{root}"]
        settings = [*TINY_TRAINING, "data.size=32", "segmenter.base=4", "data.source.channels=1"]
        settings += ["data.source.targets=colours", "data.source.target_channels=3"]
        settings += ["data.source.classes=['background', 'a', 'b']"]
        toolkit(*command((options, settings), "--run-dir", tmp_path / "run"))
        toolkit("predict", tmp_path / "run", root / "images", "-o", tmp_path / "p")
