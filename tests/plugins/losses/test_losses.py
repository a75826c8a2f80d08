import parity
import pytest
import torch
import torch.nn.functional as F

from transeg.core.interfaces import IGNORE
from transeg.plugins.losses.cross_entropy import CrossEntropyLoss, OHEMLoss
from transeg.plugins.losses.overlap import DiceLoss, FocalTverskyLoss, IoULoss, LogDiceLoss, TverskyLoss
from transeg.plugins.losses.pixelwise import BCELoss, FocalLoss
from transeg.plugins.losses.structure import StructureLoss
from transeg.plugins.losses.unified_focal import UnifiedFocalLoss

VALUES = parity.read("losses_metrics")["values"]


def disk(row, column, square):
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    return ((y - row) ** 2 + (x - column) ** 2 < square).long()


def draw():
    """The fixtures' logits of one and of two channels, and their masks."""
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(2, 1, 64, 64, generator=generator) * 2
    two = torch.randn(2, 2, 64, 64, generator=generator) * 2
    return one, two, torch.stack((disk(20, 30, 225), disk(40, 20, 100)))


def inputs():
    one, _, target = draw()
    return one, target


def without_top_rows(target):
    target = target.clone()
    target[:, :4] = IGNORE
    return target


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        (BCELoss(), VALUES["bce"]),
        (CrossEntropyLoss(), VALUES["bce"]),
        (DiceLoss(), VALUES["smp_dice_binary"]),
        (DiceLoss(smooth=1e-6), VALUES["duck_dice(flattened batch, smooth1e-6, sigmoid probs)"]),
        (LogDiceLoss(), VALUES["smp_dice_binary_log(CUT-seg)"]),
        (IoULoss(), VALUES["smp_jaccard_binary"]),
        (TverskyLoss(alpha=0.3, beta=0.7), VALUES["smp_tversky_a.3_b.7"]),
        (FocalTverskyLoss(alpha=0.3, beta=0.7, gamma=4 / 3), VALUES["smp_tversky_a.3_b.7"] ** 0.75),
        (FocalLoss(), VALUES["smp_focal_binary_g2"]),
        (StructureLoss(), VALUES["structure_loss_intended"]),
        (StructureLoss(as_executed=True), VALUES["structure_loss_as_executed"]),
    ],
)
def test_losses_give_the_reference_numbers(loss, value):
    assert float(loss(*inputs())) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        (CrossEntropyLoss(), VALUES["ce"]),
        (OHEMLoss(), VALUES["ohem_ce_thr0.7"]),
        (DiceLoss(include_background=True), VALUES["smp_dice_multiclass"]),
    ],
)
def test_losses_of_two_channels_give_the_reference_numbers(loss, value):
    _, two, target = draw()
    assert float(loss(two, target)) == pytest.approx(value, rel=1e-5)


def test_ignored_rows_give_the_reference_numbers():
    _, two, target = draw()
    target = without_top_rows(target)
    assert float(CrossEntropyLoss()(two, target)) == pytest.approx(VALUES["ce_ignore255_rows0-3"], rel=1e-5)
    assert float(OHEMLoss()(two, target)) == pytest.approx(VALUES["ohem_ce_thr0.7_ignore"], rel=1e-5)


def test_nothing_hard_gives_the_reference_number():
    _, _, target = draw()
    sure = 10.0 * (2 * F.one_hot(target, 2).movedim(-1, 1) - 1)
    assert float(OHEMLoss()(sure, target)) == pytest.approx(0, abs=1e-6)


def test_cross_entropy_and_dice_are_the_loss_of_nnunet():
    """Theirs is cross-entropy minus Dice."""
    _, two, target = draw()
    value = float(CrossEntropyLoss()(two, target) + DiceLoss(smooth=1e-5)(two, target)) - 1
    assert value == pytest.approx(VALUES["nnunet_DC_and_CE (batch dice, no bg, smooth1e-5)"], rel=1e-5)


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


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(
    "loss",
    [
        BCELoss(),
        FocalLoss(),
        DiceLoss(),
        DiceLoss(include_background=True),
        LogDiceLoss(),
        IoULoss(),
        TverskyLoss(),
        FocalTverskyLoss(pool="image"),
        UnifiedFocalLoss(),
    ],
    ids=str,
)
def test_an_ignored_part_is_as_if_cut_off(loss, classes):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1 if classes == 2 else classes, 20, 24, generator=generator)
    target = torch.randint(classes, (2, 20, 24), generator=generator)
    cut = loss(logits[:, :, 5:], target[:, 5:])
    target[:, :5] = IGNORE
    assert float(loss(logits, target)) == pytest.approx(float(cut), rel=1e-5)


class TestStructure:
    @staticmethod
    def square():
        target = torch.zeros(1, 64, 64, dtype=torch.long)
        target[:, 16:48, 16:48] = 1
        generator = torch.Generator().manual_seed(0)
        return torch.randn(1, 1, 64, 64, generator=generator), target

    def test_the_neighbourhood_is_a_mean_over_31_pixels_in_both_directions(self):
        logits, target = self.square()
        truth = target.unsqueeze(1).float()
        weight = 1 + 5 * (F.avg_pool2d(truth, 31, 1, 15) - truth).abs()
        predicted = logits.sigmoid()
        entropy = (weight * F.binary_cross_entropy(predicted, truth, reduction="none")).sum() / weight.sum()
        overlap, total = (weight * predicted * truth).sum(), (weight * (predicted + truth)).sum()
        value = entropy + 1 - (overlap + 1) / (total - overlap + 1)
        assert float(StructureLoss()(logits, target)) == pytest.approx(float(value), rel=1e-5)

    def test_no_boundary_is_seen_where_nothing_is_known(self):
        """All pixels that are known are of the object, and far from the image's border: none is near a boundary."""
        logits, target = self.square()
        target[target == 0] = IGNORE
        loss = StructureLoss()(logits, target)
        inside = logits[:, :, 16:48, 16:48]
        predicted = inside.sigmoid()
        overlap, total = predicted.sum(), (predicted + 1).sum()
        value = F.softplus(-inside).mean() + 1 - (overlap + 1) / (total - overlap + 1)
        assert float(loss) == pytest.approx(float(value), rel=1e-5)


def test_a_class_that_is_nowhere_gives_no_overlap_loss():
    logits = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    target = torch.zeros(2, 8, 8, dtype=torch.long)
    target[0, :4] = 1
    predicted, truth = logits.softmax(1)[:, 1], (target == 1).float()
    assert float(DiceLoss()(logits, target)) == pytest.approx(
        float(1 - 2 * (predicted * truth).sum() / (predicted + truth).sum()) / 2
    )
    assert float(TverskyLoss(pool="image")(logits, target)) < float(TverskyLoss()(logits, target))


def test_tversky_between_dice_and_iou():
    logits, target = inputs()
    assert float(TverskyLoss(alpha=0.5, beta=0.5)(logits, target)) == pytest.approx(float(DiceLoss()(logits, target)))
    assert float(TverskyLoss(alpha=1, beta=1)(logits, target)) == pytest.approx(float(IoULoss()(logits, target)))


def test_alpha_prices_false_alarms_and_beta_misses():
    target = torch.stack((disk(20, 30, 225), disk(40, 20, 100)))
    larger, smaller = (
        torch.stack((disk(20, 30, a), disk(40, 20, b))).unsqueeze(1) * 60.0 - 30 for a, b in [(300, 150), (150, 60)]
    )
    careful, greedy = TverskyLoss(alpha=0.9, beta=0.1), TverskyLoss(alpha=0.1, beta=0.9)
    assert careful(smaller, target) < careful(larger, target)
    assert greedy(larger, target) < greedy(smaller, target)


@pytest.mark.parametrize("mode", ["binary", "multiclass"])
@pytest.mark.parametrize("options", [{}, {"alpha": 0.7, "beta": 0.2}, {"smooth": 3.0}], ids=str)
def test_tversky_is_that_of_smp(mode, options):
    smp = pytest.importorskip("segmentation_models_pytorch.losses")
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1 if mode == "binary" else 3, 20, 24, generator=generator)
    target = torch.randint(2 if mode == "binary" else 3, (2, 20, 24), generator=generator)
    theirs = smp.TverskyLoss(mode, **{"alpha": 0.3, "beta": 0.7} | options)
    ours = TverskyLoss(**options, include_background=mode == "multiclass")
    assert float(ours(logits, target)) == pytest.approx(float(theirs(logits, target)), rel=1e-5)
    focal = FocalTverskyLoss(gamma=2.0)
    theirs = smp.TverskyLoss("binary", alpha=0.3, beta=0.7, gamma=0.5)
    if mode == "binary":
        assert float(focal(logits, target)) == pytest.approx(float(theirs(logits, target)), rel=1e-5)


def test_background_of_one_channel_is_the_rest():
    logits, target = inputs()
    two = torch.cat((torch.zeros_like(logits), logits), 1)
    for loss in (DiceLoss(include_background=True), IoULoss(include_background=True, pool="image")):
        assert float(loss(logits, target)) == pytest.approx(float(loss(two, target)), rel=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DiceLoss(smooth=-1),
        lambda: TverskyLoss(alpha=-0.1),
        lambda: TverskyLoss(alpha=0, beta=0),
        lambda: FocalTverskyLoss(gamma=0),
        lambda: FocalLoss(gamma=0.5),
        lambda: FocalLoss(alpha=2),
        lambda: CrossEntropyLoss(class_weights=(0, 0)),
        lambda: CrossEntropyLoss(class_weights=()),
        lambda: CrossEntropyLoss(class_weights=(1, -1)),
        lambda: CrossEntropyLoss(label_smoothing=1),
        lambda: OHEMLoss(threshold=1),
        lambda: OHEMLoss(keep=0),
    ],
)
def test_impossible_options_are_refused(make):
    with pytest.raises(ValueError, match="must"):
        make()
