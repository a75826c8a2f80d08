import pytest
import torch

from transeg.core.interfaces import IGNORE, Noise
from transeg.core.training.mixing import classmix, cutmix


def noise(*seeds):
    return Noise(torch.tensor(seeds))


def test_half_of_the_classes_are_pasted_whole():
    mask = torch.tensor([[0, 1, 2], [3, 3, IGNORE], [0, 2, 1]])
    pasted = classmix(mask.expand(20, 3, 3), 4, noise(*range(20)))
    halves = [frozenset(mask[each].tolist()) for each in pasted]
    assert all(len(half) == 2 and IGNORE not in half for half in halves)
    assert all(
        torch.equal(each, torch.isin(mask, torch.tensor(sorted(half))))
        for each, half in zip(pasted, halves, strict=True)
    )
    assert len(set(halves)) > 3


def test_of_three_classes_two_are_pasted_and_of_two_one():
    mask = torch.tensor([[[0, 4, 2]], [[0, 2, 2]]])  # of five classes, of which two never occur
    pasted = classmix(mask, 5, noise(1, 2))
    assert mask[0][pasted[0]].unique().numel() == 2
    assert mask[1][pasted[1]].unique().numel() == 1


def test_an_only_class_and_ignored_pixels_are_not_pasted():
    mask = torch.stack([torch.zeros(4, 4), torch.ones(4, 4), torch.full((4, 4), IGNORE)]).long()
    assert not classmix(mask, 2, noise(1, 2, 3)).any()


def test_a_box_of_half_of_the_image_is_pasted():
    boxes = cutmix(torch.zeros(50, 64, 96, dtype=torch.long), 2, noise(*range(50)))
    assert boxes.float().mean((1, 2)).tolist() == pytest.approx([0.5] * 50, abs=0.02)
    heights = boxes.any(2).sum(1)
    assert heights.min() >= 32
    assert heights.unique().numel() > 15
    assert all(torch.equal(box, box.any(1)[:, None] & box.any(0)) for box in boxes)
    tops, lefts = (boxes.any(side).int().argmax(1) for side in (2, 1))
    assert tops.unique().numel() > 15
    assert lefts.unique().numel() > 15


@pytest.mark.parametrize("mix", [classmix, cutmix])
def test_a_row_is_mixed_alike_whatever_else_is_in_the_batch(mix):
    mask = torch.randint(0, 4, (3, 16, 16), generator=torch.Generator().manual_seed(0))
    assert torch.equal(mix(mask, 4, noise(5, 6, 7))[1:], mix(mask[1:], 4, noise(6, 7)))
