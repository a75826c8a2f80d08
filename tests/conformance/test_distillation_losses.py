"""Every built-in distillation loss keeps the contract that is checked for those of others."""

import pytest
import torch

from transeg.core.component_options import options
from transeg.core.registry import Registry
from transeg.testing import parametrize_with_checks

REGISTRY = Registry()
COMPONENTS = [c for c in REGISTRY.components("loss") if getattr(c.entry, "role", "") == "distillation"]
NAMED = [c for c in COMPONENTS if "layer" in options(REGISTRY.load(c))]


def of_distillation(check):
    return check.subject.component.entry.role == "distillation"


@parametrize_with_checks("transeg", kind="loss", where=of_distillation)
def test_contract(check):
    check()


def test_there_are_some():
    assert {c.name for c in COMPONENTS} >= {"kl", "mse", "cwd", "at", "fitnet"}
    assert all(c.entry.paper for c in COMPONENTS)


@pytest.mark.parametrize("component", NAMED, ids=str)
def test_who_projects_layers_of_other_widths(component):
    loss = REGISTRY.load(component)(layer="deep")
    student, teacher = ({"deep": torch.randn(2, width, 12, 10)} for width in (6, 9))
    if component.name == "mse":
        with pytest.raises(ValueError, match="6 channels and the teacher's deep 9"):
            loss.prepare(student, teacher)
        return
    loss.prepare(student, teacher)
    assert len(list(loss.parameters())) == (0 if component.name == "at" else 2)
