import pytest
import torch

from transeg.core.training.schedules import LEARNING_RATE, with_warmup


def test_warm_up_and_cosine_are_pytorchs_one_cycle():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0, momentum=0.9)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=101, pct_start=0.2, final_div_factor=1e9)
    ours = with_warmup(LEARNING_RATE["cosine"], 0.19)
    for step in range(100):
        progress = step / 19 * 0.19 if step < 19 else 0.19 + (step - 19.2) / 80.8 * 0.81
        if step != 19:
            assert ours(progress) == pytest.approx(cycle.get_last_lr()[0], abs=0.02)
        optimizer.step()
        cycle.step()


def test_warm_up_begins_at_a_twenty_fifth_and_ends_at_one():
    schedule = with_warmup(LEARNING_RATE["constant"], 0.1)
    assert schedule(0.0) == pytest.approx(1 / 25)
    assert schedule(0.05) == pytest.approx((1 + 1 / 25) / 2)
    assert schedule(0.1) == schedule(0.9) == 1
    assert with_warmup(LEARNING_RATE["linear"], 0) is LEARNING_RATE["linear"]
