import builtins
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_TRAINING, command
from PIL import Image

from transeg.core.data import stain as module
from transeg.core.data.stain import StainNormalisedDataset, StainNormaliser
from transeg.core.errors import DataError, UsageError
from transeg.plugins.datasets.folder import Folder

METHODS = ["macenko", "reinhard"]
HAEMATOXYLIN, EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])


def tissue(seed, strength=1.0, size=48):
    """Two stains in random amounts, on glass in the left quarter."""
    rng = np.random.default_rng(seed)
    amounts = rng.uniform(0.1, 1.2, (size, size, 2)) * strength
    amounts[:, : size // 4] = 0.01
    pixels = 240 * np.exp(-(amounts[..., :1] * HAEMATOXYLIN + amounts[..., 1:] * EOSIN))
    return pixels.round().astype(np.uint8)


@pytest.fixture
def reference(tmp_path):
    Image.fromarray(tissue(0)).save(tmp_path / "reference.png")
    return tmp_path / "reference.png"


@pytest.mark.parametrize("method", METHODS)
def test_a_paler_image_gets_the_colours_of_the_reference(reference, method):
    normalise = StainNormaliser(method, reference)
    pale, wanted = tissue(1, strength=0.6), tissue(1)
    result = normalise(pale)
    assert result.dtype == np.uint8
    before, after = (np.abs(image.astype(int) - wanted).mean() for image in (pale, result))
    assert after < 0.6 * before


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_known_of_images_with_hardly_any_tissue(reference, method):
    normalise = StainNormaliser(method, reference)
    speck = np.full((40, 40, 3), 250, np.uint8)
    speck[:2, :2] = (90, 40, 120)
    black, glass = np.zeros((20, 20, 3), np.uint8), np.full((20, 20, 3), 255, np.uint8)
    noise = np.random.default_rng(0).integers(210, 256, (40, 40, 3), dtype=np.uint8)
    for image in (speck, black, glass, noise):
        assert (normalise(image) == image).all()


@pytest.mark.parametrize("method", METHODS)
def test_any_depth_is_the_same(reference, method):
    normalise, image = StainNormaliser(method, reference), tissue(1, 0.7)
    wanted = normalise(image)
    assert (normalise(image.astype(np.uint16) * 257) == wanted).all()
    assert (normalise((image / 255).astype(np.float32)) == wanted).all()
    with pytest.raises(DataError, match="for colour images, but there is one of 1 channels"):
        normalise(image[:, :, :1])


def test_it_can_be_sent_to_workers(reference):
    normalise, image = StainNormaliser("macenko", reference), tissue(2)
    assert (pickle.loads(pickle.dumps(normalise))(image) == normalise(image)).all()


def test_a_reference_without_tissue_gets_a_sentence(tmp_path):
    Image.new("RGB", (20, 20), "white").save(tmp_path / "glass.png")
    with pytest.raises(UsageError, match=r"glass\.png shows hardly any tissue"):
        StainNormaliser("macenko", tmp_path / "glass.png")


def test_without_torchstain_that_is_said(reference, monkeypatch):
    found = builtins.__import__

    def lacks(name, *args, **kwargs):
        if name.startswith("torchstain"):
            raise ImportError(name)
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", lacks)
    with pytest.raises(UsageError, match=r"needs torchstain; install it with: pip install 'transeg\[stain\]'"):
        StainNormaliser("macenko", reference)


@pytest.mark.parametrize("method", METHODS)
def test_real_tissue(method):
    folder = Path(os.environ.get("TRANSEG_DATA", "/nonexistent")) / "pannuke" / "breast" / "images"
    if not folder.is_dir():
        pytest.skip("TRANSEG_DATA has no pannuke/breast")
    first, *others = sorted(folder.iterdir())
    normalise = StainNormaliser(method, first)
    images = [np.asarray(Image.open(path)) for path in others[:8]]
    spread = [
        np.std([image.mean((0, 1)) for image in chosen], axis=0).mean() for chosen in (images, map(normalise, images))
    ]
    assert spread[1] < spread[0]


class TestRuns:
    @pytest.fixture
    def data(self, tmp_path):
        for index in range(8):
            pixels = tissue(index, 0.5, size=32)
            for name, picture in (
                ("images", pixels),
                ("masks", (pixels[:, :, 0] <= np.median(pixels[:, :, 0])).astype(np.uint8) * 255),
            ):
                (tmp_path / "set" / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(tmp_path / "set" / name / f"{index}.png")
        return tmp_path / "set"

    def test_a_dataset_keeps_all_else(self, data, reference):
        plain = Folder(data, "all", instances="masks", targets="images")
        dataset = StainNormalisedDataset(plain, StainNormaliser("macenko", reference))
        assert dataset.paired
        assert len(dataset) == 8
        one, two = plain[3], dataset[3]
        assert (two.image == StainNormaliser("macenko", reference)(one.image)).all()
        assert (two.mask == one.mask).all()
        assert (two.target == one.target).all()
        assert (two.instances == one.instances).all()

    def test_what_training_sees_inference_sees(self, toolkit, data, reference, tmp_path, monkeypatch):
        run = tmp_path / "run"
        settings = [*TINY_TRAINING, "data.size=32", "segmenter.base=4", f"data.stain.reference={reference}"]
        seen = []
        normalise = StainNormaliser.__call__
        monkeypatch.setattr(StainNormaliser, "__call__", lambda self, image: seen.append(1) or normalise(self, image))
        toolkit(
            *command(
                (["--segmenter", "unet", "--source", f"folder:{data}", "--test", f"folder:{data}"], settings),
                "--run-dir",
                run,
            )
        )
        assert len(seen) >= 6 + 1  # the training's places, and the test image
        for arguments in (
            ["evaluate", run, "-o", tmp_path / "e"],
            ["predict", run, data / "images", "-o", tmp_path / "p"],
        ):
            seen.clear()
            toolkit(*arguments)
            assert seen
        assert len(seen) == 8
        mine = tmp_path / "p" / "masks" / "3.png"
        before = mine.read_bytes()
        Image.fromarray(normalise(module.stain_normaliser("macenko", reference), tissue(3, 0.5, size=32))).save(
            data / "images" / "3.png"
        )
        monkeypatch.setattr(StainNormaliser, "__call__", lambda self, image: image)
        toolkit("predict", run, data / "images", "-o", tmp_path / "q")
        assert (tmp_path / "q" / "masks" / "3.png").read_bytes() == before

    def test_what_cannot_be_normalised_gets_a_sentence(self, toolkit, data, reference, tmp_path):
        line = ["run", "--segmenter", "unet", "--source", f"folder:{data}", "--dry-run", "--set"]
        grey = toolkit(*line, f"data.stain.reference={reference}", "--set", "data.source.channels=1", code=2)
        assert "data.stain is for colour images, but there is a dataset of 1 channels" in " ".join(grey.stderr.split())
        gone = toolkit(*line, f"data.stain.reference={tmp_path / 'none.png'}", code=2)
        assert "There is no file" in gone.stderr
        unknown = toolkit(*line, "data.stain.method=vahadane", "--set", f"data.stain.reference={reference}", code=2)
        assert "vahadane" in unknown.stderr or "macenko" in unknown.stderr
