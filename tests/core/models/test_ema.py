import parity
import pytest
import torch
from click.testing import CliRunner
from conftest import TINY_DATA, TINY_SYNDIFF, TINY_TARGET, TINY_TEST, TINY_TRAINING, command
from torch import nn

from transeg.cli import main
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.models.ema import EMA, shorten_decay
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder
from transeg.core.training.tasks.task import Task

RUN = ["--generator", "syndiff"], [*TINY_DATA, *TINY_TRAINING, *TINY_TARGET, *TINY_SYNDIFF]
BOTH = ["--generator", "syndiff", "--segmenter", "unet"], [*RUN[1], *TINY_TEST, "segmenter.base=4", "baseline=none"]


def model():
    torch.manual_seed(0)
    return nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))})


def move(network):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))


def test_they_are_as_published():
    """Three steps of Adam, the first average after the first of them."""
    expected, draws = parity.read("syndiff")["losses"]["ema"], parity.Draws()
    layer = nn.Linear(5, 4, bias=False)
    layer.weight.data = draws.normal(4, 5)
    layer.register_parameter("b", nn.Parameter(draws.normal(5)))
    network = nn.ModuleDict({"layer": layer})
    optimizer = torch.optim.Adam(network.parameters(), **expected["adam"])
    averages = EMA(network, {"layer": expected["decay"]})
    for step in expected["after_step"]:
        layer.weight.grad, layer.b.grad = draws.normal(4, 5), draws.normal(5)
        optimizer.step()
        averages.update()
        state = averages.state_dict()
        assert parity.deviation(layer.weight, step["w"]) < 1e-6
        assert parity.deviation(state["layer.weight"], step["ema_w"]) < 1e-6
        assert torch.allclose(state["layer.b"], torch.tensor(step["ema_b"]), rtol=1e-6)


def test_only_what_is_named_is_averaged_and_buffers_are_not():
    network = model()
    averages = EMA(network, {"b": 0.9})
    assert averages.state_dict() == {}
    averages.update()
    assert set(averages.state_dict()) == {"b.0.weight", "b.0.bias", "b.1.weight", "b.1.bias"}


def test_they_take_the_place_of_the_weights_and_give_it_back():
    network, image = model(), torch.rand(3, 2)
    averages = EMA(network, {"a": 0.5})
    optimizer = torch.optim.Adam(network.parameters())
    with averages.in_place():  # before there are any
        assert torch.equal(network["a"](image), model()["a"](image))
    averages.update()
    first = {key: value.clone() for key, value in averages.state_dict().items()}
    move(network)
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    with averages.in_place():
        assert all(torch.equal(network.state_dict()[key], value) for key, value in first.items())
    assert all(torch.equal(network.state_dict()[key], value) for key, value in weights.items())
    assert all(torch.equal(averages.state_dict()[key], value) for key, value in first.items())
    network["a"](image).sum().backward()
    optimizer.step()
    assert not torch.equal(network["a"].weight, weights["a.weight"])  # still what the optimizer steps on


def test_they_go_on_from_where_they_were():
    one, network = model(), model()
    whole, begun = EMA(one, {"a": 0.9}), EMA(network, {"a": 0.9})
    torch.manual_seed(1)
    for number in range(4):
        move(one["a"])
        network["a"].load_state_dict(one["a"].state_dict())
        whole.update()
        begun.update()
        if number == 1:
            state = begun.state_dict()
            begun = EMA(network, {"a": 0.9})
            begun.load_state_dict(state)
    assert all(torch.equal(value, begun.state_dict()[key]) for key, value in whole.state_dict().items())


@pytest.fixture(scope="module")
def translation_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    result = CliRunner().invoke(main, command(RUN, "--run-dir", folder))
    assert result.exit_code == 0, result.output
    return folder


@pytest.mark.parametrize("name", ["last", "best"])
def test_checkpoints_hold_weights_and_averages(translation_run, name):
    state = torch.load(translation_run / "checkpoints" / f"{name}.pt", weights_only=True)
    averages = state["averages"]
    makers = [key for key in state["model"] if key.startswith("generator.gen_")]
    assert sorted(averages) == sorted(makers)
    assert any(not torch.equal(averages[key], state["model"][key]) for key in makers)


def test_a_run_is_used_with_its_averages(translation_run):
    averages = torch.load(translation_run / "checkpoints" / "best.pt", weights_only=True)["averages"]
    generator = TrainedModel.load(RunFolder(translation_run), Registry(), "cpu").generator
    state = generator.state_dict()
    assert all(torch.equal(state[key.removeprefix("generator.")], value) for key, value in averages.items())


def test_a_joint_run_validates_with_them_and_trains_the_weights(toolkit, tmp_path, monkeypatch):
    """Seen from inside: what validation translates with is not what is saved as weights."""
    seen = []
    validate = Task.validate

    def look(task, forward, images):
        seen.append(task.generator.gen_diffusive_2.all_modules[0].weight.clone())
        return validate(task, forward, images)

    monkeypatch.setattr(Task, "validate", look)
    toolkit(*command(BOTH, "--run-dir", tmp_path))
    state = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)
    key = "generator.gen_diffusive_2.all_modules.0.weight"
    assert torch.equal(seen[-1], state["averages"][key])
    assert not torch.equal(seen[-1], state["model"][key])


def test_a_sequential_run_translates_with_them(toolkit, tmp_path):
    toolkit(*command(BOTH, "--strategy", "sequential", "--run-dir", tmp_path))
    state = torch.load(tmp_path / "translation" / "checkpoints" / "best.pt", weights_only=True)
    generator = TrainedModel.load(RunFolder(tmp_path), Registry(), "cpu").generator.state_dict()
    assert state["averages"]
    assert all(torch.equal(generator[key.removeprefix("generator.")], v) for key, v in state["averages"].items())


def test_a_short_training_is_not_averaged_back_to_its_beginning():
    assert shorten_decay(0.999, 100_000) == shorten_decay(0.999, 20_000) == 0.999
    assert shorten_decay(0.999, 1000) == pytest.approx(0.98)
    assert shorten_decay(0.9, 1000) == 0.9
    assert shorten_decay(0.999, 3) == 0.5


def test_they_are_saved_in_the_usual_order_and_go_on_in_that_of_their_parameters():
    """Other formats take no other order, and sums in another order differ in their last digits."""
    network = nn.ModuleDict({"a": nn.Conv2d(3, 4, 3)}).to(memory_format=torch.channels_last)
    averages = EMA(network, {"a": 0.9})
    averages.update()
    state = averages.state_dict()
    assert state["a.weight"].is_contiguous()
    again = EMA(network, {"a": 0.9})
    again.load_state_dict(state)
    assert again._averages["a.weight"].stride() == network["a"].weight.stride()
    assert torch.equal(again._averages["a.weight"], averages._averages["a.weight"])
