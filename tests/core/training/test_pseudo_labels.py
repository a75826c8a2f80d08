import math

import pytest
import torch

from transeg.core.interfaces import IGNORE
from transeg.core.training.pseudo_labels import PseudoLabels, pseudo_labels, weighted_cross_entropy


def logit(probability):
    return math.log(probability / (1 - probability))


def test_pixels_of_an_image_count_by_its_share_of_sure_ones():
    sure, unsure = torch.tensor([0.01, 0.98, 0.01]).log(), torch.tensor([0.6, 0.3, 0.1]).log()
    image = torch.stack([sure, sure, sure, unsure], 1).view(1, 3, 2, 2)
    other = torch.stack([unsure] * 4, 1).view(1, 3, 2, 2)
    classes, weights = pseudo_labels(torch.cat([image, other]), 0.968, "share")
    assert classes.tolist() == [[[1, 1], [1, 0]], [[0, 0], [0, 0]]]
    assert weights.tolist() == [[[0.75, 0.75], [0.75, 0.75]], [[0, 0], [0, 0]]]
    assert pseudo_labels(image, 0.968, "pixels").weights.tolist() == [[[1, 1], [1, 0]]]


def test_a_binary_network_may_be_sure_of_either_class():
    logits = torch.tensor([logit(p) for p in (0.99, 0.01, 0.6, 0.4)]).view(1, 1, 2, 2)
    classes, weights = pseudo_labels(logits, 0.968, "pixels")
    assert classes.tolist() == [[[1, 0], [1, 0]]]
    assert weights.tolist() == [[[1, 1], [0, 0]]]
    assert pseudo_labels(logits, 0.968, "share").weights.unique().tolist() == [0.5]


def test_what_shows_nothing_has_no_class_and_no_share():
    logits = torch.tensor([logit(p) for p in (0.99, 0.99, 0.6, 0.01)]).view(1, 1, 2, 2)
    valid = torch.tensor([[[True, False], [True, True]]])
    classes, weights = pseudo_labels(logits, 0.968, "share", valid)
    assert classes.tolist() == [[[1, IGNORE], [1, 0]]]
    assert weights.unique().tolist() == [pytest.approx(2 / 3)]
    assert pseudo_labels(logits, 0.968, "pixels", valid).weights.tolist() == [[[1, 0], [0, 1]]]
    nothing = pseudo_labels(logits, 0.968, "share", torch.zeros(1, 2, 2, dtype=torch.bool))
    assert weighted_cross_entropy(logits, nothing) == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_the_loss_is_a_mean_over_known_pixels(channels):
    logits = torch.zeros(1, channels, 1, 4, requires_grad=True)  # each pixel loses the log of the number of classes
    classes = torch.tensor([[[0, 1, 1, IGNORE]]])
    weights = torch.tensor([[[1.0, 0.5, 0.0, 1.0]]])
    loss = weighted_cross_entropy(logits, PseudoLabels(classes, weights))
    assert loss.item() == pytest.approx(1.5 / 3 * math.log(max(2, channels)))
    loss.backward()
    assert logits.grad[..., 2:].abs().max() == 0
    assert logits.grad[..., :2].abs().min() > 0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("label", "weight"), [(IGNORE, 1.0), (0, 0.0)])
def test_nothing_known_and_nothing_sure_lose_nothing(channels, label, weight):
    logits = torch.randn(2, channels, 4, 4, requires_grad=True)
    labels = PseudoLabels(torch.full((2, 4, 4), label), torch.full((2, 4, 4), weight))
    loss = weighted_cross_entropy(logits, labels)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().max() == 0
