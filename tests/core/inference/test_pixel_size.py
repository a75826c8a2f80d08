"""How large pixels are, for the networks and for the user."""

from types import SimpleNamespace

import pytest

from transeg.core.errors import UsageError
from transeg.core.experiment.completion import complete_experiment
from transeg.core.experiment.settings import parse_pixel_size
from transeg.core.inference.pixel_size import rescale_factors
from transeg.core.registry import Registry


def experiment(source=None, target=None):
    data = {"source": {"name": "phantom", **(source or {})}}
    settings = {"segmenter": {"name": "unet"}, "data": data}
    if target is not None:
        data["target"] = {"name": "phantom", **target}
        settings |= {"generator": {"name": "cut"}}
    return complete_experiment(settings, Registry())


def test_images_are_brought_to_the_size_that_the_run_knows():
    assert rescale_factors(experiment({"pixel_size": 0.5}), None, (0.1, 0.2), None) == (0.2, 0.4)
    assert rescale_factors(experiment({"rescale": 0.25}), None, (0.1, 0.2), None) == (0.25, 0.25)
    assert rescale_factors(experiment(), None, (0.1, 0.2), None) == (1, 1)
    assert rescale_factors(experiment({"pixel_size": 0.5}), None, None, 3.0) == (3, 3)


def test_a_segmenter_is_made_for_the_target_and_a_generator_for_what_it_is_given():
    both = experiment({"pixel_size": 0.5}, {"pixel_size": 2.0})
    assert rescale_factors(both, None, (1.0, 1.0), None) == (0.5, 0.5)
    for backwards, wanted in ((False, 2.0), (True, 0.5)):
        translator = SimpleNamespace(trained=SimpleNamespace(experiment=both), backwards=backwards)
        assert rescale_factors(experiment(), translator, (1.0, 1.0), None) == (wanted, wanted)


def test_without_the_size_of_their_pixels_images_are_refused():
    with pytest.raises(UsageError, match=r"0\.5 micrometres; say how large those of your images are with --pixel-size"):
        rescale_factors(experiment({"pixel_size": 0.5}), None, None, None)


def test_a_pixel_size_is_one_number_or_two():
    assert parse_pixel_size("0.1") == (0.1, 0.1)
    assert parse_pixel_size("0.1,0.2") == (0.1, 0.2)
    for text in ("0", "a", "1,2,3", "inf", "-1", ""):
        with pytest.raises(UsageError, match="must be micrometres above zero"):
            parse_pixel_size(text)
