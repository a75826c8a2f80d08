import parity
import pytest
import torch
from torch.nn.functional import softmax

from transeg.core.errors import UsageError
from transeg.core.registry import Registry
from transeg.plugins.losses.features import AttentionTransfer, ChannelWiseDistillation, FitNetHint
from transeg.plugins.losses.soft_targets import KLDistillation, MSEDistillation

REFERENCE = parity.read("losses_metrics")["values"]


@pytest.fixture
def student_and_teacher():
    generator = torch.Generator().manual_seed(0)
    torch.randn(2, 1, 64, 64, generator=generator)
    student = torch.randn(2, 2, 64, 64, generator=generator) * 2
    teacher = torch.randn(2, 2, 64, 64, generator=generator) * 2
    return {"logits": student}, {"logits": teacher}


def test_divergence_per_pixel_and_as_the_reference_scales_it(student_and_teacher):
    assert parity.relative(KLDistillation()(*student_and_teacher), REFERENCE["kd_kl_T4_per_pixel(correct)"]) < 1e-6
    scaled = KLDistillation(divide_by="elements")(*student_and_teacher)
    assert parity.relative(scaled, REFERENCE["kd_kl_T4_reference(mean over NCHW, x16)"]) < 1e-6


def test_squared_error_is_the_references(student_and_teacher):
    assert parity.relative(MSEDistillation()(*student_and_teacher), REFERENCE["kd_mse"]) < 1e-6


def test_one_channel_means_the_same_as_two(student_and_teacher):
    one, two = ({"logits": x["logits"][:, 1:] - x["logits"][:, :1]} for x in student_and_teacher)
    expected = KLDistillation(temperature=2)(*student_and_teacher)
    assert KLDistillation(temperature=2)(one, two).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_gradient_at_a_high_temperature_is_that_of_centred_logits(student_and_teacher):
    """Section 2.1 of Hinton et al.: the divergence tends to half the squared error of centred logits, over classes."""
    student, teacher = (x["logits"] - x["logits"].mean(1, keepdim=True) for x in student_and_teacher)
    expected = (student - teacher).square().sum(1).mean() / (2 * 2)
    found = KLDistillation(temperature=1e3)({"logits": student}, {"logits": teacher})
    assert found.item() == pytest.approx(expected.item(), rel=1e-2)


def test_channels_are_distributions_over_places():
    """By its definition, with plain softmax and logarithm."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 5, 4, dtype=torch.float64), torch.randn(2, 3, 5, 4, dtype=torch.float64)
    p, q = (softmax(map_.reshape(2, 3, 20) / 4, dim=2) for map_ in (teacher, student))
    expected = 16 * (p * (p / q).log()).sum(2).mean()
    found = ChannelWiseDistillation()({"logits": student}, {"logits": teacher})
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_channels_do_not_mind_a_shift():
    student = {"logits": torch.randn(1, 2, 6, 6)}
    teacher = {"logits": student["logits"] + torch.tensor([5.0, -3.0]).view(1, 2, 1, 1)}
    assert ChannelWiseDistillation()(student, teacher).item() == pytest.approx(0, abs=1e-5)


def test_attention_sees_places_and_not_scale_or_channels():
    map_ = torch.randn(2, 4, 6, 6)
    teacher = {"deep": torch.cat((map_, map_), 1) * 3}
    assert AttentionTransfer(layer="deep")({"deep": map_}, teacher).item() == pytest.approx(0, abs=1e-6)
    here, there = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    here[..., 0, 0], there[..., 1, 1] = 1, 1
    assert AttentionTransfer(layer="deep")({"deep": here}, {"deep": there}).item() == pytest.approx(2)


def test_a_hint_is_half_the_squared_error_after_a_projection():
    hint = FitNetHint(layer="deep")
    student, teacher = {"deep": torch.randn(1, 3, 4, 4)}, {"deep": torch.randn(1, 5, 4, 4)}
    hint.prepare(student, teacher)
    expected = (hint.projection(student["deep"]) - teacher["deep"]).square().mean() / 2
    assert hint(student, teacher).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("make", [KLDistillation, ChannelWiseDistillation])
def test_temperatures_are_positive(make):
    with pytest.raises(ValueError, match="above 0"):
        make(temperature=0)


def test_the_registry_names_their_role():
    assert Registry().find("loss", "kl").entry.role == "distillation"
    with pytest.raises(UsageError):
        Registry().find("loss", "kll")
