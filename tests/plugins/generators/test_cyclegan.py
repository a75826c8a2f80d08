import logging

import parity
import pytest
import torch

from transeg.core.interfaces import Batch, Noise
from transeg.core.models.weights import load_weights
from transeg.plugins.generators.cyclegan import CycleGAN
from transeg.plugins.generators.cyclegan.image_pool import ImagePool
from transeg.plugins.generators.layers import linear_decay

REFERENCE = parity.read("cyclegan")
NETWORKS = "G_A", "G_B", "D_A", "D_B"
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def filled(**options):
    cyclegan = CycleGAN(3, 3, **options)
    for name in NETWORKS:
        parity.fill(cyclegan.get_submodule(name), f"{name}.")
    return cyclegan


def batch_of(source, target, iteration=0):
    count = len(source)
    return Batch(source, None, target, torch.arange(count) + count * iteration, iteration, None, iteration)


def pictures(count, size, dtype=torch.float32):
    draws = parity.Draws()
    return [draws.image(count, 3, size, size).to(dtype) for _ in range(2)]


def by_published_names(losses):
    return {name.replace("identity", "idt"): loss.item() for name, loss in losses.items()}


def update(cyclegan, batch, optimizers):
    """A training step; its losses."""
    losses = {}
    for phase in cyclegan.phases(batch):
        parameters = [p for name in phase.optimizers for g in optimizers[name].param_groups for p in g["params"]]
        sum(phase.losses.values()).backward(inputs=parameters)
        for name in phase.optimizers:
            optimizers[name].step()
            optimizers[name].zero_grad()
        losses |= phase.losses
    return losses


def steps_of(cyclegan, first, last):
    """Losses of training steps of a tiny network, each with images of its own."""
    optimizers = {name: o.optimizer for name, o in cyclegan.optimizers().items()}
    found = []
    for iteration in range(first, last):
        draws = torch.Generator().manual_seed(iteration)
        images = [torch.rand(2, 3, 24, 24, generator=draws) * 2 - 1 for _ in range(2)]
        found.append(by_published_names(update(cyclegan, batch_of(*images, iteration), optimizers)))
    return found


def test_parameters_are_the_published_ones():
    with torch.device("meta"):
        cyclegan = CycleGAN(3, 3)
    counts = [sum(p.numel() for p in cyclegan.get_submodule(name).parameters()) for name in NETWORKS]
    assert counts == [11_378_179, 11_378_179, 2_764_737, 2_764_737]


@pytest.mark.parametrize(("kind", "network"), [("G", "G_A"), ("D", "D_A")])
def test_networks_give_the_reference_numbers(kind, network):
    expected = REFERENCE["models"][kind]
    with torch.inference_mode():
        output = filled().get_submodule(network)(parity.Draws().image(*expected["input"]))
    assert parity.deviation(output, expected["output"]) < 1e-4


@pytest.mark.parametrize("case", ["step_B1", pytest.param("step_B2", marks=pytest.mark.slow)])
def test_losses_and_gradients_are_the_reference_ones(case):
    expected = REFERENCE[case]
    cyclegan, losses, norms = filled(), {}, {}
    for phase, of_phase in zip(
        cyclegan.phases(batch_of(*pictures(expected["batch"], expected["size"]))), ("G", "D"), strict=True
    ):
        if phase.fake is not None:
            assert parity.deviation(phase.fake, expected["fake_B"]) < 1e-4
        networks = {f"{of_phase}_{side}": cyclegan.get_submodule(f"{of_phase}_{side}") for side in "AB"}
        weights = [p for network in networks.values() for p in network.parameters()]
        sum(phase.losses.values()).backward(inputs=weights)
        for name, network in networks.items():
            squares = [p.grad.double().square().sum() for p in network.parameters() if p.ndim >= 2]
            norms[name] = torch.stack(squares).sum().sqrt()
        losses |= phase.losses
    found = by_published_names(losses)
    for name, value in found.items():
        assert parity.relative(value, expected[name]) < 1e-5, name
    assert set(found) == {key for key in expected if key[-2:] in ("_A", "_B") and not key.startswith("fake")}
    for name, value in norms.items():
        assert parity.relative(value, expected["grad_l2"][name]) < 1e-4, name


def test_training_follows_the_reference_through_its_pools(monkeypatch):
    """In float64; the pools of two images are filled, and swap what the reference was made to swap."""
    expected = REFERENCE["trajectory"]
    count, pool = len(expected["steps"]), expected["pool"]
    cyclegan = filled(width=expected["width"], blocks=expected["blocks"], pool=pool).double()
    before = {name: p.detach().clone() for name, p in cyclegan.named_parameters()}
    optimizers = {name: o.optimizer for name, o in cyclegan.optimizers().items()}
    images = pictures(count, expected["size"], torch.float64)
    for number, (wanted, swaps) in enumerate(zip(expected["steps"], expected["swaps"], strict=True)):
        places = [pool if place < 0 else place for place in swaps]
        monkeypatch.setattr(Noise, "integers", lambda self, stream, limit, at=places: torch.tensor([at[stream]]))
        losses = update(cyclegan, batch_of(*(each[number : number + 1] for each in images), number), optimizers)
        for name, value in by_published_names(losses).items():
            assert parity.relative(value, wanted[name]) < 1e-6, (number, name)
    for name, mean in expected["mean_abs_delta"].items():
        weights = {key: p for key, p in cyclegan.named_parameters() if key.startswith(name) and p.ndim >= 2}
        moved = torch.cat([(p.detach() - before[key]).abs().flatten() for key, p in weights.items()]).mean()
        assert parity.relative(moved, mean) < 1e-5, name
    with torch.no_grad():
        there = cyclegan.translate(images[0][:1], "source-to-target")
        back = cyclegan.translate(images[1][:1], "target-to-source")
    assert parity.deviation(there, expected["G_A(A)"]) < 1e-5
    assert parity.deviation(back, expected["G_B(B)"]) < 1e-5
    held = [cyclegan.pool_A.images.mean(), cyclegan.pool_B.images.mean()]
    assert [each.item() for each in held] == pytest.approx(expected["pool_means"], rel=1e-5)


def published(kind):
    """A state dict as the published code saves it today."""
    shapes = parity.read(f"keys_cyclegan_{kind}")
    return {key: torch.randn(shape, generator=torch.Generator().manual_seed(len(key))) for key, shape in shapes.items()}


def with_statistics(state):
    """As the first releases saved it, whose instance norm had running statistics."""
    norms = [2, 5, 8, 20, 23, *(f"{block}.conv_block.{place}" for block in range(10, 19) for place in (2, 6))]
    for norm in norms:
        state |= {f"model.{norm}.running_mean": torch.ones(64), f"model.{norm}.running_var": torch.ones(64)}
        state[f"model.{norm}.num_batches_tracked"] = torch.tensor(5)
    return state


@pytest.mark.parametrize(
    ("name", "kind", "network", "old"),
    [
        ("latest_net_G_A", "G", "G_A", False),
        ("latest_net_G_B", "G", "G_B", True),
        ("200_net_D_B", "D", "D_B", True),
        ("latest_net_G", "G", "G_A", False),
        ("horse2zebra", "G", "G_A", True),
    ],
)
def test_published_files_fit(tmp_path, caplog, name, kind, network, old):
    state = published(kind)
    saved = dict(state)
    if old:
        saved = {f"module.{key}": value for key, value in (with_statistics(saved) if kind == "G" else saved).items()}
    torch.save(saved, tmp_path / f"{name}.pth")
    cyclegan = CycleGAN(3, 3)
    before = {key: value.clone() for key, value in cyclegan.state_dict().items()}
    with caplog.at_level(logging.WARNING, "transeg.weights"):
        load_weights(cyclegan, tmp_path / f"{name}.pth", CycleGAN.key_map, "generator", adapt=cyclegan.adapted)
    assert "no place for" not in caplog.text
    for key, value in cyclegan.state_dict().items():
        own, _, rest = key.partition(".")
        assert torch.equal(value, state[rest] if own == network else before[key]), key


def test_both_generators_may_come_in_one_file(tmp_path):
    states = {"G_A": published("G"), "G_B": {key: -value for key, value in published("G").items()}}
    torch.save(states, tmp_path / "both.pth")
    cyclegan = CycleGAN(3, 3)
    load_weights(cyclegan, tmp_path / "both.pth", CycleGAN.key_map, "generator", adapt=cyclegan.adapted)
    for name, state in states.items():
        assert all(torch.equal(cyclegan.state_dict()[f"{name}.{key}"], value) for key, value in state.items())


def test_a_pool_is_not_taken_over_with_weights(tmp_path, caplog):
    """A new training has translations of its own to look at again; older files have those of another."""
    trained, other = (CycleGAN(3, 3, width=4, blocks=1, pool=3) for _ in range(2))
    steps_of(trained, 0, 1)
    torch.save(trained.state_dict(), tmp_path / "trained.pt")
    load_weights(other, tmp_path / "trained.pt", CycleGAN.key_map, "generator", adapt=other.adapted, whole=True)
    assert other.pool_A.images is None
    assert torch.equal(other.G_B.model[1].weight, trained.G_B.model[1].weight)
    assert not caplog.text


def test_a_training_goes_on_from_its_state_as_if_it_had_not_stopped():
    """Optimizers apart, which are new in both; the discriminators see images of before the stop."""
    torch.manual_seed(0)
    whole = CycleGAN(3, 3, width=4, blocks=1, pool=3)
    steps_of(whole, 0, 4)
    resumed, without = (CycleGAN(3, 3, width=4, blocks=1, pool=3) for _ in range(2))
    resumed.load_state_dict(whole.state_dict())
    without.load_state_dict(whole.state_dict())
    without.pool_A.images = without.pool_B.images = None
    expected = steps_of(whole, 4, 8)
    assert steps_of(resumed, 4, 8) == expected
    assert steps_of(without, 4, 8) != expected
    assert torch.equal(resumed.pool_A.images, whole.pool_A.images)


def number(count, iteration):
    """Images whose pixels are their places in the stream, and a batch that they belong to."""
    positions = torch.arange(count) + count * iteration
    images = positions.float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    return images, Batch(images, None, images, positions, iteration, None, iteration)


def test_the_first_images_fill_a_pool_and_later_ones_are_swapped_in_half_of_the_cases():
    pool, shown = ImagePool(50, 0), []
    for iteration in range(1000):
        made, batch = number(2, iteration)
        shown += [int(value) for value in pool.exchange(made, batch)[:, 0, 0, 0]]
        if iteration == 24:
            assert pool.images[:, 0, 0, 0].tolist() == list(range(50))
    assert shown[:50] == list(range(50))
    old = [seen for position, seen in enumerate(shown) if seen != position]
    assert 0.45 < len(old) / 1950 < 0.55
    assert len(set(old)) == len(old)  # what was given back is gone
    ages = [position - seen for position, seen in enumerate(shown) if seen != position]
    assert 80 < sum(ages) / len(ages) < 120  # every place is as likely as the others
    assert not {int(value) for value in pool.images[:, 0, 0, 0]} & set(old)


def test_what_a_pool_does_depends_on_places_in_the_stream_alone():
    one, other, later = ImagePool(4, 0), ImagePool(4, 0), ImagePool(4, 1)
    different = False
    for iteration in range(20):
        made, batch = number(4, iteration)
        torch.manual_seed(iteration)
        shown = one.exchange(made, batch)
        order = torch.tensor([2, 0, 3, 1])
        mixed = Batch(made[order], None, made[order], batch.positions[order], iteration, None, iteration)
        assert torch.equal(other.exchange(made[order], mixed), shown[order])
        different |= not torch.equal(later.exchange(made, batch), shown)
    assert torch.equal(one.images, other.images)
    assert different


def test_without_a_pool_every_image_is_handed_on():
    pool = ImagePool(0, 0)
    made, batch = number(2, 7)
    assert torch.equal(pool.exchange(made, batch), made)
    assert not pool.state_dict()


def test_a_pool_begins_anew_with_images_of_another_size():
    pool = ImagePool(3, 0)
    pool.exchange(*number(2, 0))
    made = torch.rand(2, 1, 4, 4)
    assert torch.equal(pool.exchange(made, Batch(made, None, made, torch.tensor([0, 1]), 0)), made)
    assert pool.images.shape == (3, 1, 4, 4)


def test_without_an_identity_loss_channels_may_differ():
    with pytest.raises(ValueError, match=r"not 1 and 3; say generator.identity_weight=0"):
        CycleGAN(1, 3)
    cyclegan = CycleGAN(1, 3, width=4, blocks=1, identity_weight=0)
    batch = Batch(torch.rand(1, 1, 24, 24), None, torch.rand(1, 3, 24, 24), torch.arange(1), 0)
    losses = [name for phase in cyclegan.phases(batch) for name in phase.losses]
    assert losses == ["G_A", "G_B", "cycle_A", "cycle_B", "D_A", "D_B"]
    assert cyclegan.translate(batch.target, "target-to-source").shape == (1, 1, 24, 24)


@pytest.mark.parametrize(("option", "value"), [("width", 0), ("blocks", -1), ("pool", -1)])
def test_a_size_that_is_too_small_is_refused(option, value):
    with pytest.raises(ValueError, match=f"{option}={value} is too few"):
        CycleGAN(3, 3, **{option: value})


def test_learning_rate_factors_are_the_published_ones():
    for optimization in CycleGAN(1, 1, width=2, blocks=0).optimizers().values():
        factors = [optimization.schedule((epoch - 1) / 200) for epoch in (1, 100, 101, 200)]
        assert factors == pytest.approx([1, 1, 1 - 1 / 101, 1 / 101])
    assert linear_decay(0.75, 100, 100) == pytest.approx(1 - 51 / 101)


def test_each_image_passes_each_network_as_often_as_it_must():
    cyclegan = CycleGAN(3, 3, width=4, blocks=0)
    passes = {name: [] for name in NETWORKS}
    for name, seen in passes.items():
        cyclegan.get_submodule(name).register_forward_hook(lambda _, given, __, seen=seen: seen.append(len(given[0])))
    for _ in cyclegan.phases(batch_of(torch.rand(1, 3, 24, 24), torch.rand(1, 3, 24, 24))):
        pass
    assert passes == {"G_A": [2, 1], "G_B": [2, 1], "D_A": [1, 2], "D_B": [1, 2]}
