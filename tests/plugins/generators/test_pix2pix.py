import parity
import pytest
import torch

from transeg.core.interfaces import Batch, Noise
from transeg.core.models.weights import load_weights
from transeg.plugins.generators.pix2pix import Pix2pix
from transeg.plugins.generators.pix2pix.networks import PatchDiscriminator

REFERENCE = parity.read("pix2pix")
TOLERANCE = REFERENCE["tolerance"]
STATISTICS = "running_stats_after_that_one_train_forward"


def accepted(key):
    return max(1e-4, 5 * TOLERANCE[key])


def filled(**options):
    pix2pix = Pix2pix(3, 3, dropout=0, **options)
    parity.fill(pix2pix.G)
    parity.fill(pix2pix.D)
    return pix2pix


def pair(dtype=torch.float32):
    draws = parity.Draws()
    condition, image = draws.image(1, 3, 256, 256), draws.image(1, 3, 256, 256)
    return Batch(condition.to(dtype), None, image.to(dtype), torch.arange(1), seed=0)


def as_published(losses):
    """Our weighted losses as the fixtures name theirs."""
    return {
        "D_total": losses["D_fake"] + losses["D_real"],
        "D_fake": 2 * losses["D_fake"],
        "D_real": 2 * losses["D_real"],
        "G_total": losses["G_GAN"] + losses["L1"],
        "G_GAN": losses["G_GAN"],
        "G_L1_times_100": losses["L1"],
    }


def small(**options):
    torch.manual_seed(0)
    return Pix2pix(3, 3, **{"width": 4, "depth": 5, **options})


class TestPublished:
    def test_keys_and_shapes(self):
        with torch.device("meta"):
            pix2pix = Pix2pix(3, 3)
        for network, name in ((pix2pix.G, "pix2pix_unet256_G"), (pix2pix.D, "pix2pix_D")):
            assert {k: list(v.shape) for k, v in network.state_dict().items()} == parity.read(f"keys_{name}")

    @pytest.mark.parametrize(
        ("channels", "depth", "count"),
        [(3, 8, 54_413_955), (1, 8, 54_411_907), (6, 8, 54_417_027), (8, 8, 54_419_075), (3, 7, 41_828_995)],
    )
    def test_parameters(self, channels, depth, count):
        with torch.device("meta"):
            pix2pix = Pix2pix(channels, 3, depth=depth)
        assert sum(p.numel() for p in pix2pix.G.parameters()) == count
        assert sum(p.numel() for p in pix2pix.D.parameters()) == 2_768_705 + 1024 * (channels - 3)

    def test_the_generator(self):
        network = filled(statistics="running").G
        reference = REFERENCE["models"]["pix2pix_unet256_G"]
        x = parity.Draws().image(*reference["input"])
        with torch.no_grad():
            evaluated = network.eval()(x, None)
            trained = network.train()(x, None)
        tolerance = accepted("models/pix2pix_unet256_G")
        assert parity.deviation(evaluated, reference["eval_running_stats"]) < tolerance
        assert parity.deviation(trained, reference["train_batch_stats_dropout_off"]) < tolerance
        state = network.state_dict()
        for key, expected in reference[STATISTICS].items():
            assert parity.deviation(state[key], expected) < tolerance

    def test_images_by_their_own_statistics_are_as_in_training(self):
        network = filled(statistics="image").G
        reference = REFERENCE["models"]["pix2pix_unet256_G"]
        before = {key: value.clone() for key, value in network.state_dict().items()}
        with torch.no_grad():
            result = network.eval()(parity.Draws().image(*reference["input"]), None)
        tolerance = accepted("models/pix2pix_unet256_G")
        assert parity.deviation(result, reference["train_batch_stats_dropout_off"]) < tolerance
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())

    def test_the_discriminator(self):
        network = filled().D
        reference = REFERENCE["models"]["pix2pix_D"]
        x = parity.Draws().image(*reference["input"])
        with torch.no_grad():
            evaluated = network.eval()
            assert parity.deviation(evaluated(x), reference["eval_running_stats"]) < accepted("models/pix2pix_D")
            trained = network.train()(x)
        assert parity.deviation(trained, reference["train_batch_stats"]) < accepted("models/pix2pix_D")

    def test_losses(self):
        expected = REFERENCE["losses"]["gan_values"]
        logits = parity.Draws().normal(2, 1, 14, 14) + 0.5
        for gan, name in (("bce", "bce"), ("lsgan", "lsgan")):
            pix2pix = small(gan=gan)
            assert parity.relative(pix2pix._gan(logits, 1.0), expected[f"{name}_real"]) < 1e-6
            assert parity.relative(pix2pix._gan(logits, 0.0), expected[f"{name}_fake"]) < 1e-6

    def test_a_step_without_updates(self):
        expected = REFERENCE["losses"]["pix2pix_full_train_mode"]
        pix2pix = filled()
        discriminator, generator = pix2pix.phases(pair())
        ours = as_published({**discriminator.losses, **generator.losses})
        tolerance = accepted("losses/pix2pix_full_train_mode")
        assert {key: parity.relative(value, expected[key]) < tolerance for key, value in ours.items()} == dict.fromkeys(
            ours, True
        )
        weights = [p for p in pix2pix.G.parameters() if p.ndim >= 2]
        gradients = torch.autograd.grad(ours["G_total"], weights)
        norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
        assert parity.relative(norm, expected["grad_l2_G"]) < tolerance

    @pytest.mark.slow
    @pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-6), ("float32", None)])
    def test_three_training_steps(self, precision, tolerance):
        expected = REFERENCE["trajectories"]["pix2pix"][precision]
        pix2pix = filled().to(getattr(torch, precision))
        before = {name: p.detach().clone() for name, p in pix2pix.named_parameters()}
        optimizers = {name: o.optimizer for name, o in pix2pix.optimizers().items()}
        batch = pair(getattr(torch, precision))
        for step in expected["steps"]:
            losses = {}
            for phase in pix2pix.phases(batch):
                (name,) = phase.optimizers
                parameters = [p for group in optimizers[name].param_groups for p in group["params"]]
                torch.stack(list(phase.losses.values())).sum().backward(inputs=parameters)
                optimizers[name].step()
                optimizers[name].zero_grad()
                losses |= {key: value.item() for key, value in phase.losses.items()}
            ours = as_published(losses)
            for key, value in ours.items():
                close = tolerance or max(1e-4, 5 * TOLERANCE[f"trajectories/pix2pix/step{step['step']}"][key])
                assert parity.relative(value, step[key]) < close, (step["step"], key)
            for network, delta in step["mean_abs_delta"].items():
                moved = [
                    (p.detach() - before[n]).abs().flatten()
                    for n, p in pix2pix.named_parameters()
                    if n.startswith(f"{network}.") and p.ndim >= 2
                ]
                assert parity.relative(torch.cat(moved).mean(), delta) < max(tolerance or 0, 1e-3)
        state = pix2pix.state_dict()
        for network, count in expected["num_batches_tracked"].items():
            assert {int(v) for k, v in state.items() if k.startswith(network) and k.endswith("tracked")} == {count}
        for key, value in expected["D_running_stats"].items():
            assert parity.deviation(state[f"D.{key}"], value) < (1e-5 if tolerance else 1e-2)
        if tolerance:
            with torch.no_grad():
                last = pix2pix.G.train()(batch.source, None)
            assert parity.deviation(last, expected["G(A)_after_3_steps_train_mode"]) < 1e-5

    @pytest.mark.parametrize("network", ["G", "D"])
    def test_checkpoints_load(self, network, tmp_path):
        theirs, ours = small(), small()
        part = getattr(theirs, network)
        parity.fill(part)
        torch.save({f"module.{key}": value for key, value in part.state_dict().items()}, tmp_path / "net.pth")
        load_weights(ours, tmp_path / "net.pth", Pix2pix.key_map, "generator")
        loaded = getattr(ours, network).state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in part.state_dict().items())


class TestOptions:
    @pytest.mark.parametrize("norm", ["batch", "instance", "group"])
    @pytest.mark.parametrize("upsampling", ["transposed", "resize"])
    def test_shapes(self, norm, upsampling):
        network = small(norm=norm, upsampling=upsampling).G
        assert network(torch.rand(2, 3, 32, 64), None).shape == (2, 3, 32, 64)

    def test_resizing_leaves_no_checkerboard(self):
        """A constant image becomes constant far from the border; transposed convolutions repeat a pattern."""
        spread = {}
        for upsampling in ("transposed", "resize"):
            network = small(upsampling=upsampling, norm="group", depth=2, width=8).G.eval()
            result = network(torch.full((1, 3, 64, 64), 0.5), None)[0, 0, 24:40, 24:40].detach()
            spread[upsampling] = float(result.std() / result.abs().mean())
        assert spread["resize"] < 1e-3 < spread["transposed"]

    def test_too_shallow(self):
        with pytest.raises(ValueError, match="a depth of 1"):
            Pix2pix(3, 3, depth=1)

    def test_dropout_is_no_probability(self):
        with pytest.raises(ValueError, match="not a probability"):
            Pix2pix(3, 3, dropout=1.0)


class TestNoise:
    def test_equal_seeds_give_equal_images_in_any_batch(self):
        pix2pix = small(depth=6).eval()
        image = torch.rand(1, 3, 64, 64)
        seeds = Noise(torch.tensor([3, 4, 3]))
        with torch.no_grad():
            a, b, c = pix2pix.translate(image.expand(3, -1, -1, -1), "source-to-target", seeds)
            alone = pix2pix.translate(image, "source-to-target", Noise(torch.tensor([4])))[0]
        assert torch.equal(a, c)
        assert torch.allclose(b, alone, atol=1e-6)
        assert (a - b).abs().mean() > 1e-6

    def test_without_noise_seeds_mean_nothing(self):
        pix2pix = small(depth=6, noise=False).eval()
        image = torch.rand(1, 3, 64, 64)
        with torch.no_grad():
            results = [pix2pix.translate(image, "source-to-target", Noise(torch.tensor([seed]))) for seed in (1, 2)]
        assert torch.equal(*results)

    def test_training_draws_anew_for_each_position_and_iteration(self):
        pix2pix = small(depth=6)
        source = torch.rand(1, 3, 64, 64)

        def fake(seed, position):
            batch = Batch(source, None, source, torch.tensor([position]), seed)
            return next(p.fake for p in pix2pix.phases(batch) if p.fake is not None).detach()

        assert torch.equal(fake(1, 0), fake(1, 0))
        assert not torch.equal(fake(1, 0), fake(1, 1))
        assert not torch.equal(fake(1, 0), fake(2, 0))


def test_the_discriminator_sees_70_pixels():
    """Of a logit: what its gradient reaches."""
    network = PatchDiscriminator(1, 4, "group").double()
    for part in network.modules():
        if isinstance(part, torch.nn.GroupNorm):
            part.forward = lambda x: x
    image = torch.rand(1, 1, 256, 256, dtype=torch.double, requires_grad=True)
    network(image)[0, 0, 15, 15].backward()
    rows = image.grad[0, 0].abs().sum(1).nonzero().flatten()
    assert rows.max() - rows.min() + 1 == 70


def test_it_learns_a_pair():
    """The difference falls to a third within 150 steps."""
    pix2pix = small(dropout=0.0, width=16, lr=1e-3)
    draws = parity.Draws()
    batch = Batch(draws.image(1, 3, 32, 32), None, 0.5 * draws.image(1, 3, 32, 32), torch.arange(1), 0)
    optimizers = {name: o.optimizer for name, o in pix2pix.optimizers().items()}
    history = []
    for _ in range(150):
        for phase in pix2pix.phases(batch):
            (name,) = phase.optimizers
            parameters = [p for group in optimizers[name].param_groups for p in group["params"]]
            sum(phase.losses.values()).backward(inputs=parameters)
            optimizers[name].step()
            optimizers[name].zero_grad()
        history.append(phase.losses["L1"].item())
    assert history[-1] < history[0] / 3
