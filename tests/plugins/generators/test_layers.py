"""Layers that several generators share; what they do on a GPU is seen without one, see :mod:`fake_gpu`."""

import pytest
import torch
import torch.nn.functional as F
from fake_gpu import GPU, fake_gpu
from torch import nn

from transeg.plugins.generators.cut.networks import ResnetGenerator
from transeg.plugins.generators.layers import InstanceNorm


def on_gpu(module, shape, dtype=None):
    """What a module makes there of an image, and the bytes that a backward would need; under autocast with a dtype."""
    kept = {}

    def keep(tensor):
        kept[id(tensor)] = tensor
        return tensor

    with fake_gpu(), torch.device(GPU):
        image = torch.empty(shape, requires_grad=True)
        module = module()
        with (
            torch.autocast("cuda", dtype, enabled=dtype is not None),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            made = module(image if dtype is None else image.to(dtype))
    storages = {id(tensor.untyped_storage()): tensor.untyped_storage().nbytes() for tensor in kept.values()}
    return made, sum(storages.values())


class TestInstanceNorm:
    def test_both_ways_give_the_same_values_and_gradients(self):
        torch.manual_seed(0)
        images = [torch.randn(2, 8, 12, 9, dtype=torch.float64, requires_grad=True) for _ in range(2)]
        with torch.no_grad():
            images[0].mul_(0.01).add_(3)  # so small that the epsilon counts
            images[1].copy_(images[0])
        gradient = torch.randn(2, 8, 12, 9, dtype=torch.float64)
        norm = InstanceNorm(8)
        made = norm(images[0]), F.instance_norm(images[1], eps=norm.eps)
        torch.testing.assert_close(made[0], made[1], rtol=1e-9, atol=1e-9)
        for each in made:
            each.backward(gradient)
        torch.testing.assert_close(images[0].grad, images[1].grad, rtol=1e-8, atol=1e-8)

    def test_it_adds_nothing_to_a_checkpoint(self):
        assert InstanceNorm(8).state_dict() == {}

    @pytest.mark.parametrize(("device", "called"), [("cpu", "group_norm"), ("cuda", "instance_norm")])
    def test_the_device_chooses(self, device, called, monkeypatch):
        calls = []
        for name in ("group_norm", "instance_norm"):
            plain = getattr(F, name)
            monkeypatch.setattr(F, name, lambda *a, n=name, f=plain, **k: calls.append(n) or f(*a, **k))
        if device == "cpu":
            InstanceNorm(4)(torch.randn(1, 4, 3, 3))
        else:
            on_gpu(lambda: InstanceNorm(4), (1, 4, 3, 3))
        assert set(calls) == {called}  # on the fake GPU each is called again for every mode

    def test_autocast_leaves_it_in_16_bits_on_a_gpu(self):
        shape = 2, 8, 16, 16
        made, _ = on_gpu(lambda: InstanceNorm(8), shape, torch.bfloat16)
        plain, _ = on_gpu(lambda: nn.GroupNorm(8, 8, affine=False), shape, torch.bfloat16)
        assert (made.dtype, plain.dtype) == (torch.bfloat16, torch.float32)

    def test_a_single_pixel_becomes_zero_on_both(self):
        made, _ = on_gpu(lambda: InstanceNorm(4), (2, 4, 1, 1))
        assert made.shape == (2, 4, 1, 1)
        assert not InstanceNorm(4)(torch.ones(2, 4, 1, 1)).any()

    def test_a_generator_keeps_less_for_its_backward(self, monkeypatch):
        shape = 1, 3, 64, 64
        _, few = on_gpu(lambda: ResnetGenerator(3, 3, 16, 6), shape, torch.bfloat16)
        monkeypatch.setattr(InstanceNorm, "forward", nn.GroupNorm.forward)
        _, many = on_gpu(lambda: ResnetGenerator(3, 3, 16, 6), shape, torch.bfloat16)
        assert few < 0.75 * many
