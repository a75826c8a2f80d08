import logging

import pytest
import torch
from torch import nn

from transeg.core.interfaces import Generator
from transeg.core.models.training_state import load_lasting_state, without_training_state
from transeg.core.models.weights import load_weights


class Remembering(Generator):
    """As a plugin may be: what it remembers has a tensor from the beginning."""

    training_state = ("memory",)

    def __init__(self, value=0.0):
        super().__init__()
        self.memory_size = nn.Parameter(torch.full((1,), value))  # a name that begins alike
        self.memory = nn.BatchNorm2d(2)
        nn.init.constant_(self.memory.weight, value)

    def translate(self, image, direction, noise=None):
        return image


class Holder(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = Remembering()
        self.memory = nn.Linear(1, 1)


def test_what_a_generator_names_is_left_out_wherever_the_generator_is():
    assert set(without_training_state(Remembering().state_dict(), Remembering())) == {"memory_size"}
    task = Holder()
    lasting = without_training_state(task.state_dict(), task)
    assert set(lasting) == {"generator.memory_size", "memory.weight", "memory.bias"}
    assert not without_training_state({}, nn.Linear(1, 1))


@pytest.mark.parametrize("old", [True, False])
def test_it_stays_as_it_is_whether_a_file_has_it_or_not(old):
    trained, other = Remembering(1.0), Remembering(2.0)
    state = trained.state_dict()
    load_lasting_state(other, state if old else without_training_state(state, trained))
    assert other.memory_size.item() == 1
    assert other.memory.weight.tolist() == [2, 2]
    with pytest.raises(RuntimeError, match="memory_size"):
        load_lasting_state(other, {})
    with pytest.raises(RuntimeError, match="unknown"):
        load_lasting_state(other, {**state, "unknown": torch.zeros(1)})


def test_files_of_weights_need_not_have_it(tmp_path, caplog):
    other = Remembering(2.0)
    for number, state in enumerate((Remembering(1.0).state_dict(), {"memory_size": torch.ones(1)})):
        torch.save(state, tmp_path / f"{number}.pt")
        with caplog.at_level(logging.WARNING, "transeg.weights"):
            load_weights(other, tmp_path / f"{number}.pt", (), "generator", whole=True)
        assert other.memory_size.item() == 1
        assert other.memory.weight.tolist() == [2, 2]
    assert not caplog.text
