"""Spaces against the options that they are for."""

import pytest

from transeg.core.errors import UsageError
from transeg.core.experiment.settings import merge
from transeg.core.registry import Registry
from transeg.tools.search.matching import count_combinations, first_values, fit_space, option_applies
from transeg.tools.search.overlay import compose_trial, overlay_settings
from transeg.tools.search.presets import PRESETS
from transeg.tools.search.space import Choices, Range

SETTINGS = {"segmenter": {"name": "unet", "base": 4}, "data": {"source": {"name": "phantom"}, "size": 32}}


@pytest.fixture(scope="module")
def registry():
    return Registry()


@pytest.mark.parametrize(
    ("option", "domain", "said"),
    [
        ("train.lrr", Range(1e-5, 1e-2), "There is no option train.lrr. Did you mean 'train.lr'?"),
        ("segmenter.bas", Choices((1, 2)), "There is no option segmenter.bas"),
        ("train.batch_size", Range(1.0, 4.0), "takes whole numbers"),
        ("train.batch_size", Range(1.5, 4.0), "train.batch_size cannot be 1.5"),
        ("train.batch_size", Range(0, 4), "train.batch_size cannot be 0"),
        ("train.schedule", Choices(("cosine", "sine")), "train.schedule cannot be 'sine'"),
        ("segmenter.aux", Range(0, 1), "its space must be [true, false]"),
        ("segmenter", Choices(("unet", "unett")), "There is no segmenter 'unett'"),
        ("segmenter", Range(1, 2), "must be a list of names"),
        ("loss", Choices(("dice", "kl")), "kl is a distillation loss"),
        ("augmentation.transforms.Rotate.limit", Range(1, 9), "There is no option augmentation.transforms.Rotate"),
        ("augmentation.transforms.7.p", Range(0.0, 1.0), "There is no option augmentation.transforms.7.p"),
        ("data.source", Choices(("phantom", "kvasir")), "data.source is not an option but a table"),
        ("data.size.x", Choices((1,)), "There is no option data.size.x"),
        ("segmenter.name", Choices(("unet",)), 'say "segmenter" in place of "segmenter.name"'),
    ],
)
def test_what_does_not_fit_gets_a_sentence(option, domain, said, registry):
    with pytest.raises(UsageError) as caught:
        fit_space({option: domain}, SETTINGS, registry)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ranges_get_the_type_of_their_option(registry):
    space = {"train.lr": Range(1, 2), "train.batch_size": Range(1, 2), "loss.smooth": Range(0, 1)}
    settings = merge(SETTINGS, {"loss": {"name": "dice"}})
    found = fit_space(space, settings, registry)
    assert [repr(domain.low) for domain in found.values()] == ["1.0", "1", "0.0"]


def test_options_of_components_count_beside_these_alone(registry):
    space = {
        "segmenter": Choices(("unet", "hardnet")),
        "segmenter.base": Choices((2, 4)),
        "loss": Choices(("dice", "dice+0.5*bce")),
        "loss.smooth": Choices((0.0, 1.0)),
        "loss.dice.smooth": Choices((0.0, 1.0)),
    }
    assert option_applies("segmenter.base", {"segmenter": "unet"}, registry)
    assert not option_applies("segmenter.base", {"segmenter": "hardnet"}, registry)
    assert not option_applies("loss.smooth", {"loss": "dice+0.5*bce"}, registry)
    assert option_applies("loss.dice.smooth", {"loss": "dice+0.5*bce"}, registry)
    assert fit_space({k: space[k] for k in ("segmenter", "segmenter.base")}, SETTINGS, registry).keys() == {
        "segmenter",
        "segmenter.base",
    }
    assert count_combinations({k: space[k] for k in ("segmenter", "segmenter.base")}, registry) == 3
    assert count_combinations({k: space[k] for k in ("loss", "loss.smooth")}, registry) == 3
    with pytest.raises(UsageError, match="of any component"):
        fit_space({"segmenter": Choices(("unet", "hardnet")), "segmenter.nothing": Choices((1,))}, SETTINGS, registry)


def test_another_component_forgets_the_options_of_the_first(registry):
    assert overlay_settings(SETTINGS, {"segmenter": "resunet"}, registry)["segmenter"] == {"name": "resunet"}
    assert overlay_settings(SETTINGS, {"segmenter": "unet"}, registry)["segmenter"] == {"name": "unet", "base": 4}
    assert SETTINGS["segmenter"]["base"] == 4


def test_transforms_are_named_or_counted(registry):
    settings = merge(SETTINGS, {"augmentation": {"preset": "zh320"}})
    chosen = {
        "augmentation.transforms.ColorJitter.brightness": 0.1,
        "augmentation.transforms.RandomScale.scale_limit.1": 0.7,
        "augmentation.transforms.4.p": 0.3,
    }
    transforms = compose_trial(settings, chosen, registry).augmentation.transforms
    assert transforms[2]["brightness"] == 0.1
    assert transforms[0]["scale_limit"] == [-0.5, 0.7]
    assert transforms[4]["p"] == 0.3


@pytest.mark.parametrize("name", PRESETS)
def test_published_spaces_fit(name, registry):
    preset = PRESETS[name]
    settings = merge(preset.settings, merge({"segmenter": {"name": "resunet"}}, preset.settings))
    settings = merge(settings, {"data": {"source": {"name": "phantom"}}})
    assert fit_space(preset.space, settings, registry).keys() == preset.space.keys()
    experiment = compose_trial(settings, first_values(preset.space, {}, registry), registry)
    assert experiment.loss is not None
    assert experiment.loss.name == "ohem"
    assert experiment.augmentation.transforms[0]["scale_limit"] == [-0.8, 0.25]
