import math

import pytest
import torch
import torch.nn.functional as F

from transeg.core.interfaces import IGNORE
from transeg.plugins.losses.cross_entropy import CrossEntropyLoss, OHEMLoss


def case(channels, ignored=0.2):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, channels, 20, 24, generator=generator) * 2
    target = torch.randint(max(2, channels), (2, 20, 24), generator=generator)
    target[torch.rand(target.shape, generator=generator) < ignored] = IGNORE
    return logits, target


def as_two(logits):
    return torch.cat((torch.zeros_like(logits), logits), 1) if logits.shape[1] == 1 else logits


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_is_that_of_pytorch(channels, weighted, smoothing):
    logits, target = case(channels)
    logits.requires_grad_()
    weights = (0.5, 2.0, 0.0, 3.0)[: max(2, channels)] if weighted else None
    ours = CrossEntropyLoss(class_weights=weights, label_smoothing=smoothing)(logits, target)
    theirs = F.cross_entropy(
        as_two(logits),
        target,
        torch.tensor(weights) if weights else None,
        ignore_index=IGNORE,
        label_smoothing=smoothing,
    )
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    (a,), (b,) = torch.autograd.grad(ours, logits), torch.autograd.grad(theirs, logits)
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-9)


def test_weights_of_classes_that_are_nowhere_give_no_loss_and_no_nan():
    logits, target = case(4)
    target[target == 3] = 0
    value = CrossEntropyLoss(class_weights=(0, 0, 0, 1))(logits.requires_grad_(), target)
    value.backward()
    assert value.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("loss", [CrossEntropyLoss, OHEMLoss])
def test_a_wrong_number_of_weights_is_refused(loss):
    with pytest.raises(ValueError, match="class_weights has 3 weights, but there are 2 classes"):
        loss(class_weights=(1, 1, 1))(*case(1))


def test_weights_follow_the_module_and_stay_out_of_checkpoints():
    loss = CrossEntropyLoss(class_weights=(1, 2))
    assert loss.state_dict() == {}
    assert loss.to("meta").class_weights.device.type == "meta"


class TestOHEM:
    @staticmethod
    def mean_of_hard(logits, target, threshold=0.7, keep=1 / 16, weights=None):
        """The definition, one image of pixels at a time, with loops instead of masks."""
        entropies, sizes = [], []
        for row, label in zip(as_two(logits).movedim(1, -1).reshape(-1, 4), target.flatten(), strict=True):
            if label != IGNORE:
                entropies.append(-row.log_softmax(0)[label].item())
                sizes.append(1.0 if weights is None else weights[label])
        order = sorted(range(len(entropies)), key=lambda i: -entropies[i])
        hard = [i for i in order if entropies[i] > -math.log(threshold)]
        chosen = max(hard, order[: max(1, int(keep * len(order)))], key=len)
        return sum(sizes[i] * entropies[i] for i in chosen) / sum(sizes[i] for i in chosen)

    @pytest.mark.parametrize("options", [{}, {"threshold": 0.001}, {"threshold": 0.001, "keep": 0.5}], ids=str)
    @pytest.mark.parametrize("weights", [None, (0.5, 2.0, 1.0, 3.0)])
    def test_it_is_the_mean_of_the_hard_pixels(self, options, weights):
        logits, target = case(4)
        expected = self.mean_of_hard(logits, target, weights=weights, **options)
        value = OHEMLoss(class_weights=weights, **options)(logits, target)
        assert float(value) == pytest.approx(expected, rel=1e-5)

    def test_keeping_all_is_cross_entropy(self):
        logits, target = case(4)
        options = {"class_weights": (0.5, 2.0, 1.0, 3.0), "label_smoothing": 0.1}
        value = OHEMLoss(keep=1, **options)(logits, target)
        assert float(value) == pytest.approx(float(CrossEntropyLoss(**options)(logits, target)), rel=1e-6)

    def test_only_hard_pixels_get_a_gradient(self):
        logits, target = case(4, ignored=0)
        logits.requires_grad_()
        OHEMLoss()(logits, target).backward()
        hard = logits.softmax(1).gather(1, target.unsqueeze(1)) < 0.7
        assert ((logits.grad.abs().sum(1, keepdim=True) > 0) == hard).all()

    def test_pixels_that_tie_are_all_kept(self):
        """From logits of zero no pixel is hard at a threshold below one half, and all are equally so."""
        target = torch.randint(2, (1, 8, 8), generator=torch.Generator().manual_seed(0))
        logits = torch.zeros(1, 1, 8, 8, requires_grad=True)
        OHEMLoss(threshold=0.4)(logits, target).backward()
        assert (logits.grad.abs() == 0.5 / 64).all()
