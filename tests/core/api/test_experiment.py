"""Experiments that are composed in Python are those of the command line."""

from pathlib import Path

import numpy as np
import pytest

import transeg
from transeg.core.errors import UsageError
from transeg.core.experiment.completion import complete_experiment
from transeg.core.experiment.request import read_request
from transeg.core.registry import Registry

TINY = {"data.size": 32, "segmenter.base": 4, "train.iterations": 3}


def on_the_command_line(tmp_path, config=None, **named):
    """What `toolkit run` makes of options."""
    return read_request(named, Registry(), config=config, run_dir=tmp_path / "run", resume=False, dry_run=False)


@pytest.mark.parametrize(
    "options",
    [
        TINY,
        {"data": {"size": 32}, "segmenter": {"base": 4}, "train.iterations": 3},
        [f"{k}={v}" for k, v in TINY.items()],
    ],
    ids=["dotted", "nested", "texts"],
)
def test_options_are_set_as_on_the_command_line(tmp_path, options):
    made = transeg.Experiment(segmenter="unet", source="phantom:clean", tests="phantom", seed=3, set=options)
    texts = [f"{name}={value}" for name, value in TINY.items()]
    named = {"segmenter": "unet", "source": "phantom:clean", "tests": ["phantom"], "seed": 3, "assignments": texts}
    assert made.to_toml() == on_the_command_line(tmp_path, **named).experiment.to_toml()


def test_every_keyword_reaches_the_experiment(tmp_path):
    keywords = {"strategy": "joint", "baseline": "source-only", "precision": "bf16", "compile": False, "device": "cpu"}
    named = {
        "generator": "cut",
        "segmenter": "unet",
        "loss": "dice+0.5*bce",
        "target": "phantom",
        "val": "phantom:clean",
    }
    made = transeg.Experiment(**named, **keywords, trackers="mlflow", distill="mse", teachers=["unet:" + __file__])
    several = {"trackers": ["mlflow"], "distillers": ["mse"], "teachers": ["unet:" + __file__]}
    assert made.to_toml() == on_the_command_line(tmp_path, **named, **keywords, **several).experiment.to_toml()
    folds = transeg.Experiment(segmenter="unet", folds=3, synthetic="phantom:clean", devices=2)
    assert {"folds = 3", "devices = 2", "[data.synthetic]"} <= set(folds.to_toml().splitlines())


def test_a_file_may_be_overridden_and_written(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        '[segmenter]\nname = "hardnet"\nwidth = 3\n[search]\n"train.lr" = [1]\n[data.test.mine]\nname = "phantom"'
    )
    made = transeg.Experiment.from_toml(file, segmenter="unet", set={"train.iterations": 3})
    named = {"segmenter": "unet", "assignments": ["train.iterations=3"]}
    assert made.to_toml() == on_the_command_line(tmp_path, file, **named).experiment.to_toml()
    assert "[data.test.mine]" in made.to_toml(tmp_path / "whole.toml")
    again = transeg.Experiment.from_toml(tmp_path / "whole.toml")
    assert again.to_toml() == made.to_toml() == (tmp_path / "whole.toml").read_text()
    assert complete_experiment(again.settings, Registry()).train.iterations == 3


def test_paths_and_numbers_of_numpy_are_values(tmp_path):
    reference = tmp_path / "stain.png"
    reference.touch()
    options = {
        "train.lr": np.float32(0.5),
        "data.stain.reference": reference,
        "train.clip": None,
        "train.iterations": np.int64(7),
    }
    text = transeg.Experiment(segmenter="unet", set=options).to_toml()
    assert {"lr = 0.5", "iterations = 7", f'reference = "{reference}"'} <= set(text.splitlines())


def test_it_says_what_it_is():
    made = transeg.Experiment(generator="cut", segmenter="hardnet", seed=0, set={"train.iterations": 5})
    text = repr(made)
    assert text == "Experiment(generator='cut', segmenter='hardnet', set={'train.iterations': 5}, seed=0)"
    assert eval(text, {"Experiment": transeg.Experiment}).to_toml() == made.to_toml()


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"segmenter": "unett"}, "There is no segmenter 'unett'. Did you mean 'unet'?"),
        ({"segmenter": "unet", "set": {"train.lrr": 1}}, "There is no option train.lrr. Did you mean 'train.lr'?"),
        ({"segmenter": "unet", "set": {"train..lr": 1}}, "--set 'train..lr=1' is not of the form option.name=value."),
        ({"segmenter": "unet", "set": ["train.lr"]}, "--set 'train.lr' is not of the form option.name=value."),
        ({"segmenter": "unet", "set": {"train.lr": object}}, "train.lr cannot be <class 'object'>"),
        (
            {"segmenter": "unet", "source": "folder:/no/such"},
            "The folder /no/such of the dataset folder does not exist.",
        ),
        ({"segmenter": "unet", "source": Path("/data")}, "There is no dataset '/data'."),
        ({"segmenter": 7}, "There is no segmenter '7'."),
        ({"segmenter": "unet", "seed": -1}, "seed cannot be -1"),
        ({"segmenter": "unet", "registry": "none.toml"}, "--registry: cannot read"),
        ({"config": "none.toml"}, "The experiment file none.toml cannot be read: No such file or directory."),
        ({"segmenter": "unet", "target": "phantom"}, "The strategy supervised has no use for a target"),
    ],
)
def test_what_is_wrong_is_said_as_on_the_command_line(keywords, said):
    with pytest.raises(UsageError) as caught:
        transeg.Experiment(**keywords)
    assert str(caught.value).startswith(said)


def test_components_of_a_manifest_are_found(tmp_path):
    (tmp_path / "tiny.py").write_text(
        "from torch import nn\nfrom transeg.core.interfaces import Segmenter\n"
        "class Tiny(Segmenter):\n    '''Tiny.'''\n    def __init__(self, in_channels, num_classes):\n"
        "        super().__init__()\n        self.net = nn.Conv2d(in_channels, num_classes, 1)\n"
        "    def forward(self, image):\n        return self.net(image)\n"
    )
    manifest = tmp_path / "tiny.toml"
    manifest.write_text('[plugin]\ncontract = 1\n[segmenter.tiny]\nentry = "tiny.py:Tiny"\n')
    for registry in (manifest, str(manifest), [manifest]):
        assert 'name = "tiny"' in transeg.Experiment(segmenter="tiny", registry=registry).to_toml()
