"""A loss that asks for a value, or for a number of pixels, makes a GPU wait for it in every step."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from transeg.core.registry import Registry

REGISTRY = Registry()
WAITING = {"lovasz", "boundary", "hausdorff"}
"""The first picks pixels out, the others measure distances on the CPU."""
COMPONENTS = [
    c
    for c in REGISTRY.components("loss")
    if c.entry.role == "segmentation" and c.package == "transeg" and c.name not in WAITING
]


@pytest.mark.parametrize("component", COMPONENTS, ids=str)
@pytest.mark.parametrize("channels", [1, 4])
def test_nothing_is_asked_of_the_values(component, channels):
    """Tensors without values raise where one is asked for."""
    if component.status == "missing":
        pytest.skip(f"needs {component.reason}")
    loss = REGISTRY.load(component)()
    with FakeTensorMode(allow_non_fake_inputs=True):
        logits = torch.randn(2, channels, 16, 16, requires_grad=True)
        loss(logits, torch.randint(2, (2, 16, 16))).backward()
        assert logits.grad.shape == logits.shape
