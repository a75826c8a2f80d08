import pytest
import torch

from transeg.plugins.losses.unified_focal import UnifiedFocalLoss


def case(channels):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, channels, 20, 24, generator=generator)
    return logits, torch.randint(max(2, channels), (2, 20, 24), generator=generator)


def published(logits, target, weight=0.5, delta=0.6, gamma=0.5, symmetric=False):
    """The formulas, one class and one image at a time."""
    predicted = logits.softmax(1)
    count = predicted.shape[1]
    focal, regions = torch.zeros(()), []
    for label in range(count):
        p, g = predicted[:, label], (target == label).float()
        rare = label > 0
        modulation = torch.ones_like(p) if rare and not symmetric else (1 - p) ** gamma
        focal = focal - ((delta if rare else 1 - delta) * modulation * g * p.log()).mean()
        for image in range(len(p)):
            tp = (p[image] * g[image]).sum()
            fn, fp = (g[image] * (1 - p[image])).sum(), ((1 - g[image]) * p[image]).sum()
            lack = 1 - tp / (tp + delta * fn + (1 - delta) * fp)
            regions.append(lack ** (1 - gamma) if rare or symmetric else lack)
    return weight * focal + (1 - weight) * sum(regions) / len(regions)


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize(
    "options", [{}, {"gamma": 0.2}, {"weight": 0.0}, {"weight": 1.0}, {"delta": 0.8, "gamma": 0.7}], ids=str
)
@pytest.mark.parametrize("symmetric", [False, True])
def test_it_is_the_published_sum(channels, options, symmetric):
    logits, target = case(channels)
    loss = UnifiedFocalLoss(**options, variant="symmetric" if symmetric else "asymmetric")
    expected = published(logits, target, **options, symmetric=symmetric)
    assert float(loss(logits, target)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(("delta", "gamma"), [(0.6, 0.5), (0.7, 0.3)])
def test_its_binary_parts_are_those_of_monai(delta, gamma):
    """MONAI averages the focal part over the two classes, one of which is zero at every pixel."""
    module = pytest.importorskip("monai.losses.unified_focal_loss")
    logits, target = case(1)
    predicted = torch.cat((1 - logits.sigmoid(), logits.sigmoid()), 1)
    truth = torch.stack((1 - target, target), 1)
    focal = UnifiedFocalLoss(weight=1, delta=delta, gamma=gamma)(logits, target)
    region = UnifiedFocalLoss(weight=0, delta=delta, gamma=gamma)(logits, target)
    theirs = module.AsymmetricFocalLoss(delta=delta, gamma=gamma)(predicted, truth)
    assert float(focal) == pytest.approx(2 * float(theirs), rel=1e-5)
    theirs = module.AsymmetricFocalTverskyLoss(delta=delta, gamma=gamma)(predicted, truth)
    assert float(region) == pytest.approx(float(theirs), rel=1e-5)


def test_one_channel_is_two_classes():
    logits, target = case(1)
    two = torch.cat((torch.zeros_like(logits), logits), 1)
    assert float(UnifiedFocalLoss()(logits, target)) == pytest.approx(float(UnifiedFocalLoss()(two, target)), rel=1e-6)


def test_an_image_without_foreground_still_teaches():
    logits, _ = case(1)
    target = torch.zeros(2, 20, 24, dtype=torch.long)
    loss = UnifiedFocalLoss()
    assert loss(logits - 5, target) < loss(logits, target) < loss(logits + 5, target)


@pytest.mark.parametrize("options", [{"weight": 2}, {"delta": -1}, {"gamma": 1}, {"gamma": -0.1}], ids=str)
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match="must"):
        UnifiedFocalLoss(**options)
