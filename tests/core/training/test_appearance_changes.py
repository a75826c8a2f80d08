import pytest
import torch

from transeg.core.data.augmentation import split_appearance
from transeg.core.errors import UsageError
from transeg.core.experiment.augmentation_presets import PRESETS
from transeg.core.training.appearance_changes import AppearanceChanges


def test_what_moves_pixels_and_what_changes_images_alone_are_told_apart():
    transforms = [{"name": "HorizontalFlip"}, {"name": "ColorJitter"}, {"name": "RandomScale"}, {"name": "GaussNoise"}]
    geometry, appearance = split_appearance(transforms)
    assert [each["name"] for each in geometry] == ["HorizontalFlip", "RandomScale"]
    assert [each["name"] for each in appearance] == ["ColorJitter", "GaussNoise"]
    with pytest.raises(UsageError, match="no transform 'ColourJitter'"):
        split_appearance([{"name": "ColourJitter"}])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_each_image_is_changed_by_its_place_alone(channels):
    _, transforms = split_appearance(PRESETS["strong"])
    image = torch.linspace(-1, 1, 32).expand(16, channels, 32, 32).contiguous()
    appearance = AppearanceChanges(transforms, seed=3)
    whole = appearance(image, torch.arange(16))
    halves = [appearance(image[part], torch.arange(16)[part]) for part in (slice(8), slice(8, 16))]
    assert torch.equal(whole, torch.cat(halves))
    assert len({round(each.mean().item(), 3) for each in whole}) > 8
    assert whole.shape == image.shape
    assert whole.min() >= -1 - 1e-6
    assert whole.max() <= 1 + 1e-6
    assert not torch.equal(whole, AppearanceChanges(transforms, seed=4)(image, torch.arange(16)))


def test_nothing_but_eight_bits_is_lost():
    image = torch.rand(2, 3, 8, 8) * 2 - 1
    still = AppearanceChanges([{"name": "GaussNoise", "p": 0.0}], seed=0)(image, torch.arange(2))
    assert (still - image).abs().max() <= 1 / 255 + 1e-6
