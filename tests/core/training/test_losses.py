import pytest
import torch

from transeg.core.errors import UsageError
from transeg.core.experiment.choices import Choice
from transeg.core.registry import Registry
from transeg.core.training.losses import LossSum, build_loss
from transeg.plugins.losses.cross_entropy import CrossEntropyLoss
from transeg.plugins.losses.overlap import DiceLoss
from transeg.plugins.losses.pixelwise import FocalLoss


def case():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 1, 8, 8, generator=generator), torch.randint(2, (2, 8, 8), generator=generator)


def test_a_sum_names_and_weighs_its_terms():
    logits, target = case()
    terms = build_loss(Choice(name="dice+0.5*transeg:focal"), Registry())([logits], target)
    assert float(terms["dice"]) == pytest.approx(float(DiceLoss()(logits, target)))
    assert float(terms["transeg:focal"]) == pytest.approx(0.5 * float(FocalLoss()(logits, target)))


def test_options_that_do_not_fit_the_classes_get_a_sentence():
    loss = LossSum({"ce": (1.0, CrossEntropyLoss(class_weights=(1, 2, 3)))})
    logits, target = case()
    with pytest.raises(UsageError, match=r"loss\.ce: class_weights has 3 weights, but there are 2 classes\."):
        loss([logits], target)
