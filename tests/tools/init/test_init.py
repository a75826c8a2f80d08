import tomllib

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from transeg.tools.init.training_memory import kept_for_backward


def write_folder(root, count, size, *, grey=False, masks=True, object_side=40):
    """Images of random pixels with a bright square each, and its mask."""
    rng = np.random.default_rng(0)
    height, width = size
    for number in range(count):
        pixels = rng.integers(0, 100, (height, width) if grey else (height, width, 3), dtype=np.uint8)
        mask = np.zeros((height, width), np.uint8)
        pixels[8 : 8 + object_side, 8 : 8 + object_side] = 200
        mask[8 : 8 + object_side, 8 : 8 + object_side] = 255
        arrays = {"images": pixels, "masks": mask} if masks else {"images": pixels}
        for name, array in arrays.items():
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / name / f"{number:03}.png")
    return root


def initialise(toolkit, tmp_path, *arguments):
    toolkit("init", *arguments, "-o", tmp_path / "made.toml")
    text = (tmp_path / "made.toml").read_text()
    return tomllib.loads(text), text


def test_a_labelled_folder_becomes_a_run(toolkit, tmp_path):
    folder = write_folder(tmp_path / "mine", 12, (90, 120), grey=True)
    made, text = initialise(toolkit, tmp_path, folder)
    assert made["data"]["source"] == {"name": "folder", "root": str(folder), "channels": 1}
    assert made["data"]["test"]["test"]["root"] == str(folder)
    assert made["data"]["size"] == 96
    assert made["segmenter"] == {"name": "unet", "base": 16}
    assert made["loss"]["name"] == "dice+bce"
    assert "only 12 labelled images" in text
    assert "generator" not in made
    plan = toolkit("run", "--config", tmp_path / "made.toml", "--dry-run").stdout
    assert "12 images" in plan
    assert "96x96 pixels" in plan


def test_small_objects_in_large_images_are_seen_in_windows(toolkit, tmp_path):
    folder = write_folder(tmp_path / "mine", 4, (700, 900), object_side=20)
    made, text = initialise(toolkit, tmp_path, folder)
    assert made["data"]["tile"] == 256
    assert made["data"]["tile_sampling"] == "foreground"
    assert "objects are typically 20 pixels across" in text
    assert "channels" not in made["data"]["source"]


def test_a_target_brings_a_generator(toolkit, tmp_path):
    source = write_folder(tmp_path / "source", 6, (64, 64))
    target = write_folder(tmp_path / "target", 5, (64, 64), masks=False)
    made, _ = initialise(toolkit, tmp_path, source, "--target", target)
    assert made["generator"] == {"name": "cut", "width": 24, "blocks": 6}  # a CPU trains it in minutes
    assert made["train"] == {"batch_size": 2, "iterations": 1000}
    assert made["data"]["target"]["root"] == str(target)
    assert "test" not in made["data"]


@pytest.mark.parametrize(
    ("long", "object_side", "option", "value"),
    [
        (90, 30, "size", 96),
        (640, 90, "size", 96),
        (640, 60, "size", 128),
        (1200, 40, "tile", 96),
        (1600, 60, "tile", 128),
    ],
)
def test_what_a_cpu_translates_is_small_but_shows_whole_objects(toolkit, tmp_path, long, object_side, option, value):
    source = write_folder(tmp_path / "source", 2, (long, long), grey=True, object_side=object_side)
    target = write_folder(tmp_path / "target", 2, (64, 64), masks=False, grey=True)
    made, _ = initialise(toolkit, tmp_path, source, "--target", target)
    assert made["data"][option] == value


def test_what_is_there_is_not_written_over(toolkit, tmp_path):
    folder = write_folder(tmp_path / "mine", 2, (64, 64))
    (tmp_path / "there.toml").write_text("mine")
    refused = toolkit("init", folder, "-o", tmp_path / "there.toml", code=2)
    assert "is there already" in refused.stderr
    assert (tmp_path / "there.toml").read_text() == "mine"


def test_images_without_masks_are_no_source(toolkit, tmp_path):
    folder = write_folder(tmp_path / "mine", 2, (64, 64), masks=False)
    assert "it needs labels" in toolkit("init", folder, "-o", tmp_path / "made.toml", code=2).stderr
    assert not (tmp_path / "made.toml").exists()


class Doubling(nn.Module):
    """What its backward pass needs is known: the input of the convolution and that of the square."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, image):
        return self.convolution(image) ** 2


@pytest.mark.parametrize("size", [32, 64])
def test_memory_is_counted_without_computing(size):
    # of two images, as batch norm wants; the first weight is a parameter and counts nowhere
    assert kept_for_backward(Doubling(), 3, size) == (3 + 8) * size * size * torch.float32.itemsize
