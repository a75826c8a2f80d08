"""The experiment files under examples/ can be run, and are what they say."""

import json
import tomllib
from pathlib import Path

import pytest

from transeg.core.experiment.completion import complete_experiment
from transeg.core.experiment.settings import flat
from transeg.core.registry import Registry

FOLDER = Path(__file__).parent.parent / "examples" / "experiments"
FILES = sorted(FOLDER.glob("*.toml"))
LADDERS = sorted(FOLDER.glob("*/*.toml"))
REGISTRY = Registry()
FLIPS = [{"name": "HorizontalFlip", "p": 0.5}, {"name": "VerticalFlip", "p": 0.5}]

# What the publications and their code say, in the words of our options; where a number follows from others, the numbers
# that it follows from. A file departs from it only where it says so under "Not as published".
FACTS = {
    # the command in the readme of enric1994/cut-seg: 50 epochs of 1,000 draws, Adam (0.5, 0.999) for all networks
    "cut-seg": {
        "strategy.name": "joint",
        "strategy.weight": 0.001,
        "generator.name": "cut",
        "generator.variant": "cut",
        "generator.lr": 1e-5,
        "generator.decay": 0,
        "generator.nce_weight": None,
        "generator.gan_weight": 1,
        "segmenter.name": "hardnet",
        "segmenter.backbone": "68",
        "loss.name": "log-dice",
        "data.size": 256,
        "data.load_ratio": 320 / 256,
        "data.sampling": "replacement",
        "data.samples_per_epoch": 1000,
        "data.target_limit": 1000,
        "train.iterations": 50 * 1000 // 4,
        "train.batch_size": 4,
        "train.lr": 1e-5,
        "train.betas": (0.5, 0.999),
        "train.weight_decay": 0,
        "train.schedule": "constant",
        "train.val_interval": 1000 // 4,
        "augmentation.transforms": [*FLIPS, {"name": "Rotate", "limit": 360, "interpolation": 0, "p": 1.0}],
    },
    # arXiv:2307.12033, its branch compute_pl: the labels of the epoch, in half of the segmentation loss
    "pl-cut-seg": {
        "strategy.name": "self-training",
        "strategy.labels": "epoch",
        "strategy.share": "mean",
        "strategy.weight": 0.001,
        "generator.name": "cut",
        "generator.lr": 1e-5,
        "generator.decay": 0,
        "segmenter.name": "hardnet",
        "loss.name": "log-dice",
        "data.size": 256,
        "data.load_ratio": 320 / 256,
        "data.sampling": "replacement",
        "data.samples_per_epoch": 1000,
        "train.iterations": 50 * 1000 // 4,
        "train.batch_size": 4,
        "train.lr": 1e-5,
        "train.betas": (0.5, 0.999),
        "train.val_interval": 1000 // 4,
    },
    # arXiv:2101.07172 and james128333/HarDNet-MSEG: epochs 1 to 99 of 1,450 images, three steps a batch, clamped at 0.5
    "hardnet-mseg": {
        "strategy.name": "supervised",
        "segmenter.name": "hardnet",
        "segmenter.backbone": "68",
        "loss.name": "structure",
        "loss.structure.as_executed": True,
        "data.size": 352,
        "data.load_ratio": 1,
        "data.sampling": "shuffle",
        "train.iterations": round(99 * 1450 / 16),
        "train.batch_size": 16,
        "train.lr": 1e-4,
        "train.betas": (0.9, 0.999),
        "train.weight_decay": 0,
        "train.schedule": "constant",
        "train.scales": (0.75, 1, 1.25),
        "train.clip_value": 0.5,
        "train.clip": None,
        "augmentation.transforms": [],
    },
    # arXiv:1611.07004 and its code: 200 epochs of 400 facades, the rate falling over the last 100
    "pix2pix-nuclei": {
        "generator.name": "pix2pix",
        "generator.width": 64,
        "generator.depth": 8,
        "generator.norm": "batch",
        "generator.upsampling": "transposed",
        "generator.gan": "bce",
        "generator.l1_weight": 100,
        "generator.dropout": 0.5,
        "generator.lr": 2e-4,
        "data.size": 256,
        "train.iterations": 200 * 400,
        "train.batch_size": 1,
    },
    # zh320/medical-segmentation-pytorch: 400 epochs of 800 images; Adam's rate is a tenth of base_lr=0.01
    "zh320-kvasir": {
        "strategy.name": "supervised",
        "segmenter.name": "unet",
        "segmenter.variant": "zh320",
        "segmenter.base": 32,
        "segmenter.num_classes": 2,
        "segmenter.weights": None,
        "loss.name": "ce",
        "data.size": 320,
        "data.resize": False,
        "data.sampling": "shuffle",
        "train.iterations": 400 * 800 // 16,
        "train.batch_size": 16,
        "train.lr": 0.1 * 0.01,
        "train.weight_decay": 0,
        "train.schedule": "cosine",
        "train.warmup": 3 / 400,
        "train.val_interval": 800 // 16,
        "train.ema": None,
        "augmentation.transforms": [
            {"name": "RandomScale", "scale_limit": [-0.5, 1.0], "p": 0.5},
            {"name": "RandomCrop", "border_mode": 4},
            {"name": "ColorJitter", "brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.2, "p": 0.5},
            *FLIPS,
        ],
    },
    # the same, as it searched
    "resunet-search": {
        "segmenter.name": "resunet",
        "segmenter.variant": "zh320",
        "segmenter.num_classes": 2,
        "train.lr": 0.1 * 0.01,
        "train.schedule": "cosine",
        "train.warmup": 3 / 400,
    },
    # aribryan/segmentation_revisit: 50 epochs of 19 images, 20 x 20 windows of each
    "tissue-nuclei": {
        "strategy.name": "supervised",
        "segmenter.name": "revisit-unet",
        "segmenter.base": 64,
        "loss.name": "bce",
        "data.tile": 128,
        "data.stride": 20,
        "train.iterations": 50 * 19 * 20 * 20 // 8,
        "train.batch_size": 8,
        "train.lr": 1e-3,
        "train.weight_decay": 0,
        "train.schedule": "constant",
        "augmentation.transforms": [
            *FLIPS,
            {"name": "RandomBrightnessContrast", "brightness_limit": 0.3, "contrast_limit": 0.3, "p": 0.5},
        ],
        "counting.method": "contours",
    },
    # arXiv:2207.08208, icon-lab/SynDiff's command and axondeepseg/AxonDeepSynth's configuration
    "sem-to-tem": {
        "strategy.name": "sequential",
        "generator.name": "syndiff",
        "generator.preset": "published",
        "generator.lr": 1.6e-4,
        "generator.discriminator_lr": 1e-4,
        "generator.r1_interval": 10,
        "generator.r1_scaling": "none",
        "data.tile": 256,
        "train.batch_size": 1,
    },
    "few-labels": {"strategy.name": "sequential", "generator.name": "pix2pix", "baseline": "source-only"},
}


def settings_of(path, folder):
    """Its settings with a folder in place of the data that it is for; the phantom would bring options of its own."""
    settings = tomllib.loads(path.read_text())
    settings.pop("search", None)
    if isinstance(settings.get("strategy"), str):
        settings["strategy"] = {"name": settings["strategy"]}
    data = {key: value for key, value in settings["data"].items() if key not in ("source", "target", "test")}
    if settings.get("generator", {}).get("name") in ("cut", "syndiff"):
        data["target"] = {"name": "folder", "root": str(folder)}
    return {**settings, "data": {**data, "source": {"name": "folder", "root": str(folder)}}, "device": "cpu"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_experiment_is_whole(path, toolkit):
    """With the phantom in place of the data that it is for."""
    experiment = tomllib.loads(path.read_text())
    data = ["--source", "phantom", "--test", "phantom:clean", "--set", "data.source.side=256"]
    if experiment.get("generator", {}).get("name") in ("cut", "syndiff"):
        data += ["--target", "phantom"]
    plan = toolkit("run", "--config", path, *data, "--dry-run").stdout
    strategy = experiment["strategy"]
    assert (strategy if isinstance(strategy, str) else strategy["name"]) in plan
    assert f"{experiment['train']['iterations']:,} iterations" in plan


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_experiment_has_the_published_options(path, tmp_path):
    experiment = complete_experiment(settings_of(path, tmp_path), REGISTRY)
    options = {**flat(experiment.model_dump()), "augmentation.transforms": list(experiment.augmentation.transforms)}
    facts = FACTS[path.stem]
    assert {name: options.get(name) for name in facts} == facts


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_not_as_published_stands_in_the_file(path):
    text = path.read_text()
    assert "\n# Not as published:" in text
    if path.stem in (
        "cut-seg",
        "pl-cut-seg",
        "hardnet-mseg",
    ):  # the others' published networks are trained from scratch
        assert "trained from scratch" in text.partition("# Not as published:")[2].partition("\n\n")[0]
        assert "--set segmenter.weights=hardnet68.pth" in text


@pytest.mark.parametrize("path", LADDERS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_ladder_is_one_experiment_for_all_rungs(path, tmp_path):
    text = path.read_text()
    settings = tomllib.loads(text)
    split = settings["data"]["target"].pop("splits")
    named = json.loads((FOLDER.parent.parent / split).read_text())
    assert named["train"]
    assert named["test"]
    assert not set(named["train"]) & set(named["test"])
    folder = {"name": "folder", "root": str(tmp_path)}
    given = {key: settings["data"].get(key, {}) for key in ("source", "target")}
    data = {key: options if "name" in options else {**folder, **options} for key, options in given.items()}
    settings["data"] |= {**data, "test": {"real": folder}}
    experiment = complete_experiment({**settings, "strategy": {"name": "joint"}, "device": "cpu"}, REGISTRY)
    assert experiment.train.watch_tests
    assert "\n# Not as published:" in text
