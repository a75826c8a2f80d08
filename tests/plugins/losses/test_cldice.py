import pytest
import torch

pytest.importorskip("monai")
from transeg.plugins.losses.cldice import ClDiceLoss
from transeg.plugins.losses.overlap import DiceLoss


def line(gap=False, width=1):
    """A horizontal line of 24 pixels; with a gap, its two middle columns are missing."""
    target = torch.zeros(1, 16, 32, dtype=torch.long)
    target[:, 8 : 8 + width, 4:28] = 1
    if gap:
        target[:, :, 15:17] = 0
    return target


def sure(target):
    return target.unsqueeze(1) * 60.0 - 30


def test_by_hand():
    """A line of one pixel is its own skeleton: 24 true pixels, 22 found."""
    expected = 1 - 2 * (23 / 23) * (23 / 25) / (23 / 23 + 23 / 25)
    loss = ClDiceLoss(alpha=1, iterations=3)
    assert float(loss(sure(line(gap=True)), line())) == pytest.approx(expected, rel=1e-5)


def test_alpha_mixes_with_dice():
    logits = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    target = torch.randint(3, (2, 16, 16), generator=torch.Generator().manual_seed(1))
    dice = DiceLoss(smooth=1.0)(logits, target)
    only = ClDiceLoss(alpha=1)(logits, target)
    assert float(ClDiceLoss(alpha=0)(logits, target)) == pytest.approx(float(dice))
    assert float(ClDiceLoss(alpha=0.3)(logits, target)) == pytest.approx(float(0.7 * dice + 0.3 * only))


def test_it_is_that_of_monai():
    """MONAI pools the classes of an image and averages over the images; with one image and class that is ours."""
    module = pytest.importorskip("monai.losses.cldice")
    logits = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    target = torch.randint(2, (1, 16, 16), generator=torch.Generator().manual_seed(1))
    lines = module.soft_skel(logits.sigmoid(), 5), module.soft_skel(target.unsqueeze(1).float(), 5)
    precision = ((lines[0] * target).sum() + 1) / (lines[0].sum() + 1)
    sensitivity = ((lines[1] * logits.sigmoid()).sum() + 1) / (lines[1].sum() + 1)
    expected = 1 - 2 * precision * sensitivity / (precision + sensitivity)
    assert float(ClDiceLoss(alpha=1, iterations=5)(logits, target)) == pytest.approx(float(expected), rel=1e-5)


def test_a_gap_costs_more_than_width():
    """The same number of pixels lost: a column through the line, or its rim."""
    target = line(width=4)
    gap, thin = target.clone(), target.clone()
    gap[:, :, 12:18] = 0
    thin[:, 8] = 0
    assert (gap == 1).sum() == (thin == 1).sum()
    broken, narrow = (float(ClDiceLoss(alpha=1)(sure(mask), target)) for mask in (gap, thin))
    assert broken > 2 * narrow


def test_an_empty_mask_asks_for_no_lines():
    empty = torch.zeros(1, 16, 32, dtype=torch.long)
    assert ClDiceLoss()(sure(line()), empty) > 0.1
    assert ClDiceLoss()(sure(empty), empty).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("options", [{"iterations": 0}, {"alpha": 1.5}], ids=str)
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match="must"):
        ClDiceLoss(**options)
