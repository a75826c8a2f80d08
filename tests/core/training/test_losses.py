import pytest
import torch

from transeg.core.errors import UsageError
from transeg.core.training.losses import HybridLoss, LossSum
from transeg.plugins.losses.cross_entropy import CrossEntropyLoss
from transeg.plugins.losses.overlap import DiceLoss
from transeg.plugins.losses.pixelwise import BCELoss, FocalLoss


def case():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 1, 8, 8, generator=generator), torch.randint(2, (2, 8, 8), generator=generator)


@pytest.mark.parametrize(
    ("terms", "value"),
    [
        ("ce+dice", lambda *x: CrossEntropyLoss()(*x) + DiceLoss()(*x)),
        ("dice+0.5*focal", lambda *x: DiceLoss()(*x) + 0.5 * FocalLoss()(*x)),
        ("2*bce", lambda *x: 2 * BCELoss()(*x)),
        ("transeg:bce+dice", lambda *x: BCELoss()(*x) + DiceLoss()(*x)),
    ],
)
def test_a_hybrid_is_the_sum_of_its_terms(terms, value):
    assert float(HybridLoss(terms=terms)(*case())) == pytest.approx(float(value(*case())))


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ("ce+dise", "There is no loss 'dise'. Did you mean 'dice'?"),
        ("ce+", "'ce+' is not a sum"),
        ("ce+ce", "names ce twice"),
    ],
)
def test_a_hybrid_of_nonsense_is_refused(terms, sentence):
    with pytest.raises(UsageError, match=sentence.replace("+", r"\+").replace("?", r"\?")):
        HybridLoss(terms=terms)


@pytest.mark.parametrize("terms", ["hybrid", "dice+0.5*hybrid", "transeg:hybrid"])
def test_a_hybrid_cannot_hold_a_hybrid(terms):
    with pytest.raises(ValueError, match="a hybrid cannot hold a hybrid"):
        HybridLoss(terms=terms)


def test_options_that_do_not_fit_the_classes_get_a_sentence():
    loss = LossSum({"ce": (1.0, CrossEntropyLoss(class_weights=(1, 2, 3)))})
    logits, target = case()
    with pytest.raises(UsageError, match=r"loss\.ce: class_weights has 3 weights, but there are 2 classes\."):
        loss([logits], target)
