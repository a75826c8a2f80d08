"""Where a target image shows nothing, no loss is learned from."""

import pytest
import torch

from transeg.core.interfaces import Batch
from transeg.plugins.generators.cut import CUT
from transeg.plugins.generators.cut.patchnce import patch_nce
from transeg.plugins.generators.cyclegan import CycleGAN
from transeg.plugins.generators.syndiff import SynDiff

SMALL = {
    "cut": (CUT, {"width": 4, "blocks": 5, "patches": 32}),
    "fastcut": (CUT, {"variant": "fastcut", "width": 4, "blocks": 5, "patches": 32}),
    "cyclegan": (CycleGAN, {"width": 4, "blocks": 1, "pool": 0}),
    "syndiff": (
        SynDiff,
        {
            "multipliers": (1, 1),
            "width": 4,
            "blocks": 1,
            "discriminator_width": 4,
            "translator_width": 4,
            "preset": "small",
        },
    ),
}
ADVERSARIAL = {"cut": "G_GAN", "fastcut": "G_GAN", "cyclegan": "G_A", "syndiff": "G_cycle"}
"""The loss that judges translations into the target."""


def built(name):
    torch.manual_seed(0)
    cls, options = SMALL[name]
    return cls(1, 1, **options)


def batch(valid, seed=0):
    draw = torch.Generator().manual_seed(seed)
    source, target = (torch.rand(2, 1, 32, 32, generator=draw) * 2 - 1 for _ in range(2))
    mask = torch.zeros(2, 32, 32, dtype=torch.long)
    return Batch(source, mask, target, torch.arange(2), 3, iteration=1, target_valid=valid)


def of_translations(name, valid):
    """The losses of the phase in which translations are made, and these."""
    (phase,) = [phase for phase in built(name).phases(batch(valid)) if phase.fake is not None]
    return phase.losses, phase.fake


@pytest.mark.parametrize("name", SMALL)
def test_nothing_is_judged_there(name):
    valid = torch.ones(2, 32, 32, dtype=torch.bool)
    valid[:, :, 20:] = False
    losses, fake = of_translations(name, valid)
    (gradient,) = torch.autograd.grad(losses[ADVERSARIAL[name]], fake, retain_graph=True)
    assert gradient[..., 20:].abs().max() == 0
    assert gradient[..., :20].abs().max() > 0


@pytest.mark.parametrize("name", SMALL)
def test_where_everything_shows_something_all_is_as_it_was(name):
    said, _ = of_translations(name, torch.ones(2, 32, 32, dtype=torch.bool))
    plain, _ = of_translations(name, None)
    assert list(said) == list(plain)
    assert all(said[loss].item() == pytest.approx(plain[loss].item(), rel=1e-5) for loss in plain)


def test_no_patch_is_compared_there():
    losses, _ = of_translations("cut", torch.zeros(2, 32, 32, dtype=torch.bool))
    assert losses["NCE_identity"] == 0
    assert losses["NCE"] > 0


def test_queries_that_do_not_count_leave_the_mean_of_the_others():
    draw = torch.Generator().manual_seed(0)
    query, key = (torch.nn.functional.normalize(torch.randn(1, 6, 8, generator=draw), dim=-1) for _ in range(2))
    counts = torch.tensor([[True, True, False, True, False, False]])
    each = [patch_nce(query, key, 0.07, torch.arange(6)[None] == place).item() for place in range(6)]
    assert patch_nce(query, key, 0.07).item() == pytest.approx(sum(each) / 6)
    assert patch_nce(query, key, 0.07, counts).item() == pytest.approx((each[0] + each[1] + each[3]) / 3)
    assert patch_nce(query, key, 0.07, torch.zeros(1, 6, dtype=torch.bool)) == 0


def test_no_image_need_come_back_there():
    losses, _ = of_translations("cyclegan", torch.zeros(2, 32, 32, dtype=torch.bool))
    assert losses["cycle_B"] == losses["identity_A"] == 0
    assert losses["cycle_A"] > 0
    assert losses["identity_B"] > 0


@pytest.mark.parametrize("pixel_loss", ["one-step", "sampled"])
def test_no_denoiser_learns_there(pixel_loss):
    torch.manual_seed(0)
    cls, options = SMALL["syndiff"]
    generator = cls(1, 1, pixel_loss=pixel_loss, **options)
    (*_, phase) = generator.phases(batch(torch.zeros(2, 32, 32, dtype=torch.bool)))
    total = sum(phase.losses.values())
    of_source, of_target = (
        torch.autograd.grad(total, list(each.parameters()), retain_graph=True, materialize_grads=True)
        for each in (generator.gen_diffusive_1, generator.gen_diffusive_2)
    )
    assert max(gradient.abs().max() for gradient in of_source) > 0
    assert max(gradient.abs().max() for gradient in of_target) == 0
