"""Losses on distances to contours: boundary and Hausdorff."""

import pytest
import torch

from transeg.core.interfaces import IGNORE
from transeg.plugins.losses.boundary import BoundaryLoss


def square():
    target = torch.zeros(1, 12, 12, dtype=torch.long)
    target[:, 3:8, 4:9] = 1
    return target


def distances(mask, others):
    """From each pixel of a mask to the nearest of the others, by looking at all of them."""
    here, there = mask.nonzero().float(), others.nonzero().float()
    result = torch.zeros(mask.shape)
    result[mask] = torch.cdist(here, there, compute_mode="donot_use_mm_for_euclid_dist").min(1).values
    return result


def random_logits(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


class TestBoundary:
    def test_it_is_the_mean_distance_of_what_is_wrong(self):
        target = square()
        inside = target[0] == 1
        distance = distances(inside, ~inside) + distances(~inside, inside) - 0.5
        logits = random_logits(1, 1, 12, 12)
        expected = (distance * (logits[0, 0].sigmoid() - target[0]).abs()).mean()
        assert float(BoundaryLoss()(logits, target)) == pytest.approx(float(expected), rel=1e-5)

    def test_its_gradient_is_the_published_one(self):
        """That of signed distance times probability, negative inside."""
        target = square()
        inside = target[0] == 1
        signed = distances(~inside, inside) - distances(inside, ~inside)
        signed = signed - 0.5 * signed.sign()
        logits = random_logits(1, 1, 12, 12).requires_grad_()
        (ours,) = torch.autograd.grad(BoundaryLoss()(logits, target), logits)
        (published,) = torch.autograd.grad((signed * logits[0, 0].sigmoid()).mean(), logits)
        torch.testing.assert_close(ours, published)

    def test_ignored_pixels_are_on_neither_side(self):
        """A ring of unknown labels around the square moves no distance but those that it lies between."""
        target = square()
        target[:, 2:9, 3:10][target[:, 2:9, 3:10] == 0] = IGNORE
        inside, outside = target[0] == 1, target[0] == 0
        distance = distances(inside, outside) + distances(outside, inside) - 0.5
        logits = random_logits(1, 1, 12, 12)
        wrong = (logits[0, 0].sigmoid() - inside.float()).abs()
        known = inside | outside
        expected = (distance * wrong)[known].mean()
        assert float(BoundaryLoss()(logits, target)) == pytest.approx(float(expected), rel=1e-5)

    def test_classes_are_averaged(self):
        generator = torch.Generator().manual_seed(0)
        target = torch.randint(3, (2, 12, 12), generator=generator)
        logits = torch.randn(2, 3, 12, 12, generator=generator)
        expected = 0.0
        for image in range(2):
            for label in (1, 2):
                inside = target[image] == label
                distance = distances(inside, ~inside) + distances(~inside, inside) - 0.5
                wrong = (logits[image].softmax(0)[label] - inside.float()).abs()
                expected += (distance * wrong).mean() / 4
        assert float(BoundaryLoss()(logits, target)) == pytest.approx(float(expected), rel=1e-5)

    def test_without_a_contour_there_is_no_loss(self):
        for fill in (0, 1):
            assert BoundaryLoss()(random_logits(1, 1, 12, 12), torch.full((1, 12, 12), fill)) == 0


class TestHausdorff:
    @pytest.fixture
    def loss_class(self):
        pytest.importorskip("monai")
        from transeg.plugins.losses.hausdorff import HausdorffLoss

        return HausdorffLoss

    @staticmethod
    def field(mask):
        return distances(mask, ~mask) + distances(~mask, mask)

    @pytest.mark.parametrize("alpha", [1.0, 2.0])
    def test_value_and_gradient_with_the_distances_held_fixed(self, loss_class, alpha):
        target = square()
        logits = random_logits(1, 1, 12, 12).requires_grad_()
        predicted = logits[0, 0].sigmoid()
        weight = self.field(predicted.detach() > 0.5) ** alpha + self.field(target[0] == 1) ** alpha
        expected = ((predicted - target[0]) ** 2 * weight).mean()
        value = loss_class(alpha=alpha)(logits, target)
        assert value.item() == pytest.approx(expected.item(), rel=1e-5)
        (ours,), (theirs,) = torch.autograd.grad(value, logits), torch.autograd.grad(expected, logits)
        torch.testing.assert_close(ours, theirs)

    def test_the_mean_is_over_the_known_pixels(self, loss_class):
        target = square()
        target[:, 10:] = IGNORE
        logits = random_logits(1, 1, 12, 12)
        predicted = logits[0, 0].sigmoid()
        predicted[10:] = 0
        truth = target[0] == 1
        weight = self.field(predicted > 0.5) ** 2 + self.field(truth) ** 2
        expected = ((predicted - truth.float()) ** 2 * weight)[:10].mean()
        assert float(loss_class()(logits, target)) == pytest.approx(float(expected), rel=1e-5)

    def test_a_stray_region_costs_more_the_farther_it_is(self, loss_class):
        target = square()
        values = []
        for column in (0, 1, 2):
            logits = target.unsqueeze(1) * 60.0 - 30
            logits[0, 0, 5, column] = 30
            values.append(float(loss_class()(logits, target)))
        assert values == sorted(values, reverse=True)

    def test_without_any_contour_there_is_no_loss(self, loss_class):
        logits = torch.full((1, 1, 12, 12), -3.0, requires_grad=True)
        value = loss_class()(logits, torch.zeros(1, 12, 12, dtype=torch.long))
        value.backward()
        assert value.item() == 0
        assert (logits.grad == 0).all()

    def test_alpha_must_be_positive(self, loss_class):
        with pytest.raises(ValueError, match="must be positive"):
            loss_class(alpha=0)
