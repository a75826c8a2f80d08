import pytest
import torch

from transeg.core.interfaces import Noise
from transeg.core.training.masking import Masking


def test_blocks_are_hidden_as_often_as_wanted_and_alike_in_all_channels():
    images, fill = torch.rand(8, 3, 70, 130), torch.tensor([-2.0, -3.0, -4.0]).view(1, 3, 1, 1)
    made = Masking(0.7, 10)(images, fill, Noise(torch.arange(8)))
    hidden = made == fill
    assert torch.equal(made[~hidden], images[~hidden])
    assert torch.equal(hidden[:, 0], hidden[:, 2])
    blocks = hidden[:, 0].unfold(1, 10, 10).unfold(2, 10, 10).float().mean((-1, -2))
    assert set(blocks.unique().tolist()) == {0, 1}
    assert blocks.mean().item() == pytest.approx(0.7, abs=0.05)
    assert not torch.equal(hidden[0], hidden[1])


def test_the_last_blocks_end_with_the_image_and_draws_are_a_rows_own():
    images, fill, masking = torch.rand(2, 1, 9, 5), torch.zeros(1, 1, 1, 1), Masking(0.5, 4)
    made = masking(images, fill, Noise(torch.tensor([3, 4])))
    assert made.shape == images.shape
    assert torch.equal(made[1:], masking(images[1:], fill, Noise(torch.tensor([4]))))
