import parity
import pytest
import torch

from transeg.plugins.losses.overlap import DiceLoss, IoULoss, LogDiceLoss
from transeg.plugins.losses.pixelwise import BCELoss, FocalLoss
from transeg.plugins.losses.structure import StructureLoss

VALUES = parity.read("losses_metrics")["values"]


def disk(row, column, square):
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    return ((y - row) ** 2 + (x - column) ** 2 < square).long()


def inputs():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 64, 64, generator=generator) * 2
    return logits, torch.stack((disk(20, 30, 225), disk(40, 20, 100)))


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        (BCELoss(), VALUES["bce"]),
        (DiceLoss(), VALUES["smp_dice_binary"]),
        (LogDiceLoss(), VALUES["smp_dice_binary_log(CUT-seg)"]),
        (IoULoss(), VALUES["smp_jaccard_binary"]),
        (FocalLoss(), VALUES["smp_focal_binary_g2"]),
        (StructureLoss(), VALUES["structure_loss_intended"]),
        (StructureLoss(as_executed=True), VALUES["structure_loss_as_executed"]),
    ],
)
def test_losses_give_the_reference_numbers(loss, value):
    assert float(loss(*inputs())) == pytest.approx(value, rel=1e-5)


def test_dice_over_classes_gives_the_reference_number():
    """smp averages over background, too, so the foreground's share is compared: its value is 2 * mean - background."""
    generator = torch.Generator().manual_seed(0)
    torch.randn(2, 1, 64, 64, generator=generator)
    logits = torch.randn(2, 2, 64, 64, generator=generator) * 2
    _, target = inputs()
    background = float(DiceLoss()(logits.flip(1), 1 - target))
    foreground = float(DiceLoss()(logits, target))
    assert (background + foreground) / 2 == pytest.approx(VALUES["smp_dice_multiclass"], rel=1e-5)


class TestLogDice:
    expected = parity.read("cut")["losses"]["cutseg_neg_log_soft_dice"]

    @staticmethod
    def inputs():
        logits = 2 * parity.Draws().normal(2, 1, 64, 64)
        return logits, torch.stack((disk(20, 30, 225), disk(30, 20, 100)))

    def test_batch(self):
        logits, target = self.inputs()
        logits.requires_grad_()
        loss = LogDiceLoss()(logits, target)
        loss.backward()
        assert loss.item() == pytest.approx(self.expected["batch_of_2"], rel=1e-5)
        assert parity.deviation(logits.grad, self.expected["grad_logit"]) < 1e-4

    def test_single_images(self):
        logits, target = self.inputs()
        assert LogDiceLoss()(logits[:1], target[:1]).item() == pytest.approx(self.expected["sample0_alone"], rel=1e-5)
        assert LogDiceLoss()(logits[1:], target[1:]).item() == pytest.approx(self.expected["sample1_alone"], rel=1e-5)

    def test_empty_masks(self):
        logits, target = self.inputs()
        target[1] = 0
        assert LogDiceLoss()(logits, target).item() == pytest.approx(self.expected["second_mask_empty"], rel=1e-5)
        assert LogDiceLoss()(logits, torch.zeros_like(target)).item() == self.expected["both_masks_empty"]


def test_pooling_by_image_averages_over_images():
    logits, target = inputs()
    alone = [DiceLoss()(logits[i : i + 1], target[i : i + 1]) for i in range(2)]
    assert float(DiceLoss(pool="image")(logits, target)) == pytest.approx(float(sum(alone) / 2))


def test_smooth_dice_of_a_perfect_prediction_is_zero():
    _, target = inputs()
    perfect = (target.unsqueeze(1) * 2.0 - 1) * 100
    for loss in (DiceLoss(), IoULoss(), DiceLoss(smooth=1.0)):
        assert float(loss(perfect, target)) == pytest.approx(0, abs=1e-6)


def test_focal_without_focus_is_cross_entropy():
    assert float(FocalLoss(gamma=0)(*inputs())) == pytest.approx(float(BCELoss()(*inputs())))
