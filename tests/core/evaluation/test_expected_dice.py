"""The Dice that is estimated without labels, where it is known what it should be."""

import numpy as np
import pytest
import torch

from transeg.core.errors import DataError
from transeg.core.evaluation.expected_dice import COLDEST, Calibration
from transeg.core.evaluation.metrics.counts import mask_dice
from transeg.core.interfaces import IGNORE
from transeg.core.models.forward import to_classes

AS_IT_IS = Calibration((1.0, 1.0), (False,))


def logits_of(chances):
    return torch.logit(torch.tensor(chances, dtype=torch.float32))[None]


def scene(seed, offset=-1.0, side=96):
    """Smooth logits of an object, and a truth that is drawn from the probabilities that they say."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] / side - rng.uniform(0.35, 0.65, (2, 1, 1))
    logits = offset + 5 * np.exp(-(rows**2 + columns**2) / rng.uniform(0.02, 0.06)) + rng.normal(0, 0.5, (side, side))
    truth = rng.random((side, side)) < 1 / (1 + np.exp(-logits))
    return torch.tensor(logits, dtype=torch.float32)[None], torch.tensor(truth.astype(np.int64))


def several(seed, sharpness=1.0, side=96):
    """Likewise of three classes."""
    rng = np.random.default_rng(seed)
    logits = torch.tensor(rng.normal(0, 2, (3, side, side)), dtype=torch.float32)
    truth = torch.distributions.Categorical(logits=logits.movedim(0, -1))
    torch.manual_seed(seed)
    return sharpness * logits, truth.sample()


def true_dice(logits, truth):
    return mask_dice(to_classes(logits[None])[0], truth, max(2, len(logits)))


def test_a_case_that_is_worked_out_by_hand():
    logits = logits_of([[0.9, 0.8], [0.3, 0.0]])
    assert AS_IT_IS.expected_dice(logits) == pytest.approx([2 * (0.9 + 0.8) / (2 + 2.0)], abs=1e-6)
    doubled = Calibration((1.0, 2.0), (False,)).expected_dice(logits)  # of the two pixels that are predicted alone
    first, second = (float(np.sqrt(p) / (np.sqrt(p) + np.sqrt(1 - p))) for p in (0.9, 0.8))
    assert doubled == pytest.approx([2 * (first + second) / (2 + first + second + 0.3)], abs=1e-6)


def test_several_classes_by_hand():
    chances = torch.tensor([[0.7, 0.1, 0.2], [0.2, 0.6, 0.3], [0.1, 0.3, 0.5]], dtype=torch.float64)  # class, pixel
    found = Calibration((1.0,) * 3, (False, False)).expected_dice(chances.log()[:, None])
    assert found == pytest.approx([2 * 0.6 / (1 + 1.1), 2 * 0.5 / (1 + 0.9)])


def test_where_probabilities_are_right_the_estimate_is_what_is_reached():
    scenes = [scene(seed) for seed in range(12)]
    reached = [true_dice(*each) for each in scenes]
    found = [AS_IT_IS.expected_dice(logits)[0] for logits, _ in scenes]
    assert 0.5 < np.mean(reached) < 0.9
    np.testing.assert_allclose(found, reached, atol=0.03)
    assert np.mean(found) == pytest.approx(np.mean(reached), abs=0.005)


@pytest.mark.parametrize("sharpness", [3.0, 0.4])
def test_calibration_corrects_a_segmenter_that_is_too_sure_or_not_sure_enough(sharpness):
    """Logits are multiplied, which leaves masks as they are, and so what they reach."""
    held_out = [scene(seed) for seed in range(100, 112)]
    calibration = Calibration.learn((sharpness * logits, truth) for logits, truth in held_out)
    assert calibration.temperatures == pytest.approx((sharpness, sharpness), rel=0.1)
    scenes = [scene(seed, offset=-1.5) for seed in range(12)]  # smaller objects, of which as much is known
    reached = np.mean([true_dice(*each) for each in scenes])
    before, after = (
        np.mean([each.expected_dice(sharpness * logits)[0] for logits, _ in scenes]) for each in (AS_IT_IS, calibration)
    )
    assert abs(before - reached) > 0.08
    assert after == pytest.approx(reached, abs=0.01)


def test_calibration_of_several_classes():
    held_out = [several(seed, 2.5) for seed in range(100, 104)]
    calibration = Calibration.learn(held_out)
    assert calibration.temperatures == pytest.approx((2.5,) * 3, rel=0.1)
    scenes = [several(seed, 2.5) for seed in range(4)]
    found = np.mean([calibration.expected_dice(logits) for logits, _ in scenes])
    assert found == pytest.approx(np.mean([true_dice(*each) for each in scenes]), abs=0.01)


def test_on_what_it_was_learned_from_all_pixels_together_have_the_dice_they_are_said_to():
    """Whatever is wrong with the probabilities: here objects are found too large, and surely."""
    logits, truth = scene(0)
    logits = 3 * logits + 2
    calibration = Calibration.learn([(logits, truth)])
    assert calibration.temperatures[0] != pytest.approx(calibration.temperatures[1], rel=0.1)
    assert calibration.expected_dice(logits)[0] == pytest.approx(true_dice(logits, truth), abs=1e-3)


def test_where_nothing_is_predicted():
    nothing = torch.full((1, 8, 8), -4.0)
    assert np.isnan(AS_IT_IS.expected_dice(nothing)).all()
    assert Calibration((1.0, 1.0), (True,)).expected_dice(nothing).tolist() == [0.0]
    one_of_two = torch.zeros(3, 8, 8)
    one_of_two[1] = 2
    found = Calibration((1.0,) * 3, (True, False)).expected_dice(one_of_two)
    assert np.isnan(found).tolist() == [False, True]


def test_which_classes_are_always_there():
    logits = torch.zeros(3, 4, 4)
    first, second = torch.zeros(2, 4, 4, dtype=torch.int64)
    first[0, 0], first[0, 1], second[0, 0] = 1, 2, 1
    assert Calibration.learn([(logits, first), (logits, second)]).always == (True, False)


def test_pixels_that_nobody_has_labelled_count_nowhere():
    logits, truth = scene(0)
    half = truth.clone()
    half[48:] = IGNORE
    wrong = truth.clone()
    wrong[48:] = 1 - wrong[48:]
    cut = Calibration.learn([(logits[:, :48], truth[:48])])
    assert Calibration.learn([(logits, half)]) == cut
    assert Calibration.learn([(logits, wrong)]) != cut
    with pytest.raises(DataError, match="labelled pixel"):
        Calibration.learn([(logits, torch.full_like(truth, IGNORE))])


def test_a_segmenter_that_is_always_right_is_believed():
    logits = torch.tensor([[[3.0, -3.0]]])
    calibration = Calibration.learn([(logits, torch.tensor([[1, 0]]))])
    assert calibration.temperatures == pytest.approx((COLDEST, COLDEST))
    assert calibration.expected_dice(logits) == pytest.approx([1])
