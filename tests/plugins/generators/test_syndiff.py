import math
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from itertools import chain, pairwise
from types import SimpleNamespace

import parity
import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict

from transeg.core.errors import TransegError
from transeg.core.inference.conditioning import Conditioning
from transeg.core.interfaces import Batch, Noise
from transeg.core.models.ema import EMA
from transeg.core.models.weights import load_weights
from transeg.core.training.hooks.schedule import ScheduleHook
from transeg.core.training.tasks.translation_task import TranslationTask
from transeg.plugins.generators.patch_discriminator import PatchDiscriminator
from transeg.plugins.generators.resnet import ResnetTranslator
from transeg.plugins.generators.syndiff import SynDiff
from transeg.plugins.generators.syndiff.denoiser import Denoiser, groups_of
from transeg.plugins.generators.syndiff.diffusion import STEPS, Diffusion
from transeg.plugins.generators.syndiff.discriminators import StepDiscriminator, append_deviation
from transeg.plugins.generators.syndiff.resampling import Downsample, Upsample2x
from transeg.plugins.generators.syndiff.syndiff import PhaseNoise, cosine_factor

REFERENCE = parity.read("syndiff")
TOLERANCE = REFERENCE["tolerance"]
PUBLISHED = (1, 1, 2, 2, 4, 4)
GAINS = {"gen_diffusive": 1.4, "disc_diffusive": 1.5}
"""Of the fixtures' weights, by how a network's name begins; 1 for the others."""
NETWORKS = {
    "syndiff_ncsnpp_G": lambda: Denoiser(2, 2, 64, PUBLISHED, 2, attention=4),
    "syndiff_ncsnpp_G_size64": lambda: Denoiser(2, 2, 64, PUBLISHED, 2, attention=2),
    "syndiff_D": lambda: StepDiscriminator(1, 64, 6),
    "syndiff_nondiff_G": lambda: ResnetTranslator(1, 1, 64, 6),
    "syndiff_nondiff_D": lambda: PatchDiscriminator(1, 64),
}
TINY = {
    "preset": "small",
    "width": 4,
    "multipliers": (1, 1, 2),
    "discriminator_width": 4,
    "translator_width": 4,
    "translator_blocks": 1,
}


def accepted(key):
    return max(1e-4, 5 * TOLERANCE[key])


def tiny(source=1, target=1, **options):
    torch.manual_seed(0)
    return SynDiff(source, target, **{**TINY, **options})


def tiny_batch(count=2, size=32, seed=0, iteration=0, source=1, target=1):
    draws = parity.Draws()
    images = draws.image(count, source, size, size), draws.image(count, target, size, size)
    return Batch(images[0], None, images[1], torch.arange(count), seed, iteration=iteration)


def losses_of(generator, batch):
    return {name: loss for phase in generator.phases(batch) for name, loss in phase.losses.items()}


def step(generator, optimizers, batch):
    """One training step; the losses as numbers."""
    losses = {}
    for phase in generator.phases(batch):
        used = [optimizers[name] for name in phase.optimizers]
        parameters = [p for optimizer in used for group in optimizer.param_groups for p in group["params"]]
        torch.stack(list(phase.losses.values())).sum().backward(inputs=parameters)
        for optimizer in used:
            optimizer.step()
            optimizer.zero_grad()
        losses |= {name: loss.item() for name, loss in phase.losses.items()}
    return losses


def as_published(losses):
    """Our weighted losses as the fixtures name theirs."""
    names = {"R1": "R1_total_added", "G_diff": "G_adv", "G_cycle": "G_cycle_adv", "L1": "G_L1", "cycle": "G_cycle_L1"}
    weights = {"L1": 0.5, "cycle": 0.5}
    return {names.get(name, name): loss / weights.get(name, 1) for name, loss in losses.items()}


def gradients(losses, *networks):
    """For each network, the norm of a sum's gradient on weights of two dimensions or more."""
    weights = [[p for p in network.parameters() if p.ndim >= 2] for network in networks]
    found = iter(torch.autograd.grad(sum(losses.values()), list(chain(*weights)), retain_graph=True))
    return [torch.stack([next(found).square().sum() for _ in group]).sum().sqrt() for group in weights]


class Fixture(SynDiff):
    """SynDiff with the weights, the steps and the noise of a fixture instead of its own."""

    def __init__(self):
        super().__init__(1, 1, attention=2)
        for name, network in self.named_children():
            gain = next((gain for begin, gain in GAINS.items() if name.startswith(begin)), 1.0)
            parity.fill(network, f"{name}:", gain)
        # The fixtures' last layer makes two channels, of which the first counts.
        for number, network in ((1, self.gen_diffusive_1), (2, self.gen_diffusive_2)):
            self.fill_last(network, f"gen_diffusive_{number}:all_modules.55")
        self.steps, self.number = {}, 0

    @torch.no_grad()
    def fill_last(self, network, key):
        published = {f"{key}.weight": torch.empty(2, 64, 3, 3), f"{key}.bias": torch.empty(2)}
        weight, bias = parity.fill_state(published, gain=GAINS["gen_diffusive"]).values()
        network.all_modules[55].weight.copy_(weight[:1])
        network.all_modules[55].bias.copy_(bias[:1])

    def draws(self, batch, phase, domain, like):
        letter, contrast, size = "dg"[phase], domain + 1, like.shape

        def named(name, *shape):
            return parity.named(f"{letter}.{name}/step{self.number}", *shape).to(like)

        return PhaseNoise(
            torch.tensor(self.steps[letter][f"t{contrast}"]),
            named(f"eps_t_{contrast}", *size),
            named(f"eps_tp1_{contrast}", *size),
            named(f"z{contrast}", len(like), 100),
            named(f"post{contrast}", *size),
        )


@pytest.fixture(scope="module")
def fixture():
    return Fixture()


def fixture_batch(count, size, dtype=torch.float32, iteration=0):
    images = [parity.smooth(name, count, size).to(dtype) for name in ("x1", "x2")]
    return Batch(images[0], None, images[1], torch.arange(count), 0, iteration=iteration)


class TestPublishedNetworks:
    @pytest.mark.parametrize("name", NETWORKS)
    def test_keys_and_shapes(self, name):
        with torch.device("meta"):
            network = NETWORKS[name]()
        assert {key: list(value.shape) for key, value in network.state_dict().items()} == parity.read(f"keys_{name}")

    @pytest.mark.parametrize(
        ("width", "channels", "count"),
        [(64, 2, 39_725_250), (64, 3, 39_726_979), (64, 4, 39_728_708), (64, 6, 39_732_166), (128, 2, 142_305_666)],
    )
    def test_parameters_of_the_denoiser(self, width, channels, count):
        with torch.device("meta"):
            network = Denoiser(channels, channels, width, PUBLISHED, 2, 4)
        assert sum(p.numel() for p in network.parameters()) == count

    @pytest.mark.parametrize(
        ("name", "count"),
        [("syndiff_D", 27_736_705), ("syndiff_nondiff_G", 7_825_153), ("syndiff_nondiff_D", 2_762_689)],
    )
    def test_parameters_of_the_others(self, name, count):
        with torch.device("meta"):
            network = NETWORKS[name]()
        assert sum(p.numel() for p in network.parameters()) == count

    def test_an_untrained_denoiser_makes_nothing(self):
        torch.manual_seed(0)
        network, draws = NETWORKS["syndiff_ncsnpp_G"](), parity.Draws()
        with torch.no_grad():
            out = network(draws.normal(1, 2, 32, 32), torch.tensor([2]), draws.normal(1, 100))
        assert 0 < out.abs().max() < 1e-4

    @pytest.mark.parametrize(("size", "count"), [(64, 2), (256, 1)])
    def test_the_denoiser(self, size, count):
        name = f"syndiff_ncsnpp_G_image_size_{size}"
        expected, draws = REFERENCE["models"][name], parity.Draws()
        network = parity.fill(NETWORKS["syndiff_ncsnpp_G_size64" if size == 64 else "syndiff_ncsnpp_G"]())
        attends = [i for i, part in enumerate(network.all_modules) if hasattr(part, "NIN_0")]
        assert attends == expected["attention_module_indices"]
        x, z = draws.normal(count, 2, size, size), draws.normal(count, 100)
        with torch.no_grad():
            out = network(x, torch.tensor(expected["t"]), z)
            assert parity.deviation(out, expected["output"]) < accepted(f"models/{name}")
            assert parity.deviation(out[:, :1], expected["output_channel0"]) < accepted(f"models/{name}")
            if size == 64:
                parity.fill(network, gain=1.4)
                out = network(x, torch.tensor(expected["t"]), z)
                assert parity.deviation(out, expected["gain1.4_output"]) < accepted(f"models/{name}")
                for t, of_step in enumerate(expected["gain1.4_output_all_t"]):
                    out = network(x[:1], torch.tensor([t]), z[:1])
                    assert parity.deviation(out, of_step) < accepted(f"models/{name}")

    def test_the_step_discriminator(self):
        expected, draws = REFERENCE["models"]["syndiff_D"], parity.Draws()
        network, t = parity.fill(NETWORKS["syndiff_D"]()), torch.arange(4)
        earlier, later = draws.normal(4, 1, 64, 64), draws.normal(4, 1, 64, 64)
        draws = parity.Draws()
        eight = draws.normal(8, 1, 64, 64), draws.normal(8, 1, 64, 64)
        smooth = parity.smooth("x1", 4, 64), parity.smooth("x2", 4, 64)

        def close(logits, values):
            return torch.allclose(logits, torch.tensor(values), rtol=accepted("models/syndiff_D"), atol=0)

        def one_by_one(first, second):
            return torch.cat([network(first[i : i + 1], t[i : i + 1], second[i : i + 1]) for i in range(4)])

        with torch.no_grad():
            embedded = network.t_embed(t, torch.float32)
            assert parity.deviation(embedded, expected["time_embedding_output(t_embed.main)"]) < 1e-4
            assert close(network(earlier, t, later), expected["logits_batch4"])
            assert close(one_by_one(earlier, later), expected["logits_one_by_one"])
            assert close(network(eight[0], t.repeat(2), eight[1]), expected["batch8_t_0123_0123"]["logits"])
            parity.fill(network, gain=2.0)
            of_smooth = expected["gain2_smooth_64x64"]
            assert close(network(smooth[0], t, smooth[1]), of_smooth["logits_batch4"])
            assert close(one_by_one(*smooth), of_smooth["logits_one_by_one"])

    def test_r1_is_differentiated_twice(self):
        expected, network = REFERENCE["losses"]["syndiff_R1"], parity.fill(NETWORKS["syndiff_D"](), gain=2.0)
        x = parity.smooth("x1", 4, 64).requires_grad_()
        logits = network(x, torch.arange(4), parity.smooth("x2", 4, 64))
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        tolerance = accepted("losses/syndiff_R1")
        assert parity.deviation(gradient, expected["input_gradient"]) < tolerance
        squares = gradient.square().sum((1, 2, 3))
        for ours, theirs in zip(squares, expected["grad_norm_sq_per_sample"], strict=True):
            assert parity.relative(ours, theirs) < tolerance
        penalty = squares.mean() / 2
        assert parity.relative(penalty, expected["gamma_half_times_mean(gamma=1)"]) < tolerance
        (norm,) = gradients({"R1": penalty}, network)
        assert parity.relative(norm, expected["grad_l2_of_that_wrt_D_weights"]) < tolerance

    @pytest.mark.parametrize("name", ["syndiff_nondiff_G", "syndiff_nondiff_D"])
    def test_translator_and_patch_discriminator(self, name):
        expected = REFERENCE["models"][name]
        with torch.no_grad():
            out = parity.fill(NETWORKS[name]())(parity.Draws().image(*expected["input"]))
        assert parity.deviation(out, expected["output"]) < accepted(f"models/{name}")


class TestDiffusion:
    def test_constants(self):
        expected, ours = REFERENCE["losses"]["diffusion_constants"], Diffusion()
        for theirs, table in (
            ("beta(5)", ours.beta),
            ("a(5)", ours.kept),
            ("sigma(5)", ours.added),
            ("cumulative_a(5)", ours.signal),
            ("cumulative_sigma(5)", ours.noise),
            ("posterior_coef_x0(4)", ours.from_clean),
            ("posterior_coef_xtp1(4)", ours.from_later),
            ("posterior_variance(4)", ours.deviation.square()),
        ):
            assert table.dtype == torch.float32
            assert torch.allclose(table, torch.tensor(expected[theirs]), rtol=2e-7, atol=0), theirs
        assert ours.noise[0] == 0

    def test_noisy_images(self):
        expected, draws, diffusion = REFERENCE["losses"]["q_sample_pair"], parity.Draws(), Diffusion()
        shape, t = expected["shape"], torch.tensor(expected["t"])
        clean, noise, more = draws.image(*shape), draws.normal(*shape), draws.normal(*shape)
        earlier = diffusion.noisy(clean, t, noise)
        later = diffusion.noisier(earlier, t, more)
        assert torch.equal(earlier[0], clean[0])
        for row in range(4):
            assert parity.deviation(earlier[row], expected["x_t"][row]) < accepted("losses/q_sample_pair")
            assert parity.deviation(later[row], expected["x_t_plus_1"][row]) < accepted("losses/q_sample_pair")

    def test_a_step_back(self):
        expected, draws = REFERENCE["losses"]["posterior_sample"], parity.Draws()
        shape, t = expected["shape"], torch.tensor(expected["t"])
        clean, later, noise = draws.image(*shape), draws.normal(*shape), draws.normal(*shape)
        earlier = Diffusion().earlier(clean, later, t, noise)
        assert torch.allclose(earlier[0], clean[0], rtol=2e-7, atol=0)
        for row in range(4):
            assert parity.deviation(earlier[row], expected["sample"][row]) < accepted("losses/posterior_sample")


class TestTrainingStep:
    def test_without_updates(self, fixture):
        expected = REFERENCE["losses"]["syndiff_batch2_no_updates"]
        fixture.steps, fixture.number = expected["t"], 0
        tolerance = accepted("losses/syndiff_batch2_no_updates")
        steps, patches, makers = fixture.phases(fixture_batch(2, 64))

        def check(value, theirs):
            assert parity.relative(value, theirs) < tolerance

        theirs = expected["diffusive_D_phase(with R1)"]
        check(steps.losses["D_diff_real"], theirs["D_diff_real"])
        check(steps.losses["D_diff_fake"], theirs["D_diff_fake"])
        check(steps.losses["R1"], theirs["R1_total_added"])
        norms = gradients(steps.losses, fixture.disc_diffusive_1, fixture.disc_diffusive_2)
        check(norms[0], theirs["grad_l2_disc_diffusive_1(real+R1+fake)"])
        check(norms[1], theirs["grad_l2_disc_diffusive_2"])
        theirs = expected["cycle_D_phase"]
        check(patches.losses["D_cycle_real"], theirs["D_cycle_real"])
        check(patches.losses["D_cycle_fake"], theirs["D_cycle_fake"])
        (norm,) = gradients(patches.losses, fixture.disc_non_diffusive_cycle1)
        check(norm, theirs["grad_l2_disc_non_diffusive_cycle1"])
        theirs = expected["generator_phase"]
        check(makers.losses["G_diff"], theirs["G_adv"])
        check(makers.losses["G_cycle"], theirs["G_cycle_adv"])
        check(makers.losses["L1"], 0.5 * theirs["G_L1"])
        check(makers.losses["cycle"], 0.5 * theirs["G_cycle_L1"])
        check(sum(makers.losses.values()), theirs["G_total"])
        networks = [fixture.get_submodule(name) for name in fixture.averages]
        for name, norm in zip(fixture.averages, gradients(makers.losses, *networks), strict=True):
            check(norm, theirs[f"grad_l2_{name}"])

    @pytest.mark.slow
    @pytest.mark.parametrize("precision", ["float32", "float64"])
    def test_three_of_them(self, precision):
        """Losses in float64 to the digits that float32 tables leave.

        The last digit of a table turns a leaky ReLU here and there, and Adam makes a whole step of it: after
        three steps, images are as close as the reference's own are in float32 and float64.
        """
        expected, dtype = REFERENCE["trajectories"]["syndiff"][precision], getattr(torch, precision)
        ours = Fixture().to(dtype)
        before = {name: p.detach().clone() for name, p in ours.named_parameters()}
        optimizers = {name: o.optimizer for name, o in ours.optimizers().items()}
        averages = EMA(ours, ours.averages)

        def moved(network, state):
            apart = [
                (state[name].detach() - p).abs().flatten()
                for name, p in before.items()
                if name.startswith(f"{network}.") and p.ndim >= 2
            ]
            return torch.cat(apart).mean()

        for index, theirs in enumerate(expected["steps"]):
            ours.steps, ours.number = theirs["t"], theirs["step"]
            losses = step(ours, optimizers, fixture_batch(1, 64, dtype, iteration=index))
            averages.update()
            measured = max(TOLERANCE[f"trajectories/syndiff/step{index + 1}"].values())
            allowed = (1e-5, 1e-4, 1e-3)[index] if precision == "float64" else max(1e-4, 5 * measured)
            published = as_published(losses)
            assert ("R1_total_added" in published) == (index == 0)
            for name, value in published.items():
                assert parity.relative(value, theirs[name]) < allowed, (index, name)
            for network, delta in theirs["mean_abs_delta"].items():
                assert parity.relative(moved(network, dict(ours.named_parameters())), delta) < max(1e-3, allowed), (
                    index,
                    network,
                )
        for network, delta in expected["ema_mean_abs_delta_after_3_steps"].items():
            assert parity.relative(moved(network, averages.state_dict()), delta) < 1e-3
        batch = fixture_batch(1, 64, dtype)
        draws = ours.draws(batch, 1, 0, batch.source)
        with torch.no_grad():
            made = {
                "translator_1to2(x1)_after_3_steps": ours.gen_non_diffusive_1to2(batch.source),
                "gen_diffusive_1_channel0_after_3_steps": ours.gen_diffusive_1(
                    torch.cat((draws.back, batch.target), 1), torch.tensor([3]), draws.latent
                ),
            }
        for name, image in made.items():
            assert parity.deviation(image, expected[name]) < accepted(f"trajectories/syndiff/{name}")

    def test_generators_run_without_a_graph_while_discriminators_learn(self):
        """And the translators but once: their output is what the last phase goes on from."""
        generator, batch, calls = tiny(), tiny_batch(), {name: [] for name in SynDiff.averages}
        for name in calls:
            generator.get_submodule(name).register_forward_hook(
                lambda _module, _given, out, name=name: calls[name].append(out.requires_grad)
            )
        phases = generator.phases(batch)
        next(phases)
        next(phases)
        assert calls == {
            "gen_diffusive_1": [False],
            "gen_diffusive_2": [False],
            "gen_non_diffusive_1to2": [True],
            "gen_non_diffusive_2to1": [True],
        }
        last = next(phases)
        assert {name: len(seen) for name, seen in calls.items()} == dict.fromkeys(calls, 2)  # there; and back
        assert last.fake.shape == batch.source.shape

    def test_what_the_segmenter_sees_is_the_translators_output(self):
        generator, batch = tiny(), tiny_batch()
        (fake,) = (phase.fake for phase in generator.phases(batch) if phase.fake is not None)
        assert torch.equal(fake, generator.gen_non_diffusive_1to2(batch.source))
        assert fake.requires_grad

    def test_a_step_leaves_no_gradient_anywhere_else(self):
        """Later phases still have their graph, and what is frozen gets nothing."""
        generator = tiny()
        optimizers = {name: o.optimizer for name, o in generator.optimizers().items()}
        step(generator, optimizers, tiny_batch())
        assert all(p.grad is None for p in generator.parameters())

    @pytest.mark.parametrize(("scaling", "factor"), [("none", 1), ("interval", 4)])
    def test_r1_comes_in_every_so_many_iterations(self, scaling, factor):
        generator = tiny(r1_interval=4, r1_scaling=scaling)
        penalties = [losses_of(generator, tiny_batch(iteration=i)).get("R1") for i in range(9)]
        assert [i for i, penalty in enumerate(penalties) if penalty is not None] == [0, 4, 8]
        usual = losses_of(tiny(r1_interval=4), tiny_batch())["R1"]
        assert torch.isclose(penalties[0], factor * usual)
        assert usual > 0

    def test_the_sampled_loss_compares_the_end_of_the_reverse_process(self):
        batch = tiny_batch()
        one_step, sampled = (losses_of(parity.fill(tiny(pixel_loss=kind)), batch) for kind in ("one-step", "sampled"))
        assert not torch.isclose(one_step["L1"], sampled["L1"], rtol=1e-4)
        assert all(torch.equal(one_step[name], sampled[name]) for name in one_step if name != "L1")
        generator = parity.fill(tiny(pixel_loss="sampled"))
        end = generator._sample(
            generator.gen_diffusive_1, generator.gen_non_diffusive_1to2(batch.source), batch.noise(), 100
        )
        other = generator._sample(
            generator.gen_diffusive_2, generator.gen_non_diffusive_2to1(batch.target), batch.noise(), 200
        )
        difference = (end - batch.source).abs().mean() + (other - batch.target).abs().mean()
        assert torch.isclose(sampled["L1"], difference / 2)
        (gradient,) = torch.autograd.grad(end.mean(), [generator.gen_diffusive_1.all_modules[2].weight])
        assert gradient.abs().max() > 0

    def test_draws_belong_to_positions(self):
        """Whatever else is in the batch; and differ between phases, domains, positions and iterations."""
        generator, batch = tiny(), tiny_batch(4)
        part = replace(batch, source=batch.source[2:], target=batch.target[2:], positions=batch.positions[2:])
        whole = [generator.draws(batch, phase, domain, batch.source) for phase in (0, 1) for domain in (0, 1)]
        halves = [generator.draws(part, phase, domain, part.source) for phase in (0, 1) for domain in (0, 1)]
        for one, half in zip(whole, halves, strict=True):
            assert all(torch.equal(a[2:], b) for a, b in zip(one, half, strict=True))
        fields = torch.cat([torch.cat((d.noise, d.more, d.back)) for d in whole])
        again = generator.draws(replace(batch, seed=1), 0, 0, batch.source).noise
        rows = torch.cat((fields, again)).flatten(1)
        assert (torch.corrcoef(rows) - torch.eye(len(rows))).abs().max() < 0.2
        steps = torch.cat(
            [generator.draws(tiny_batch(64, 4, seed), 0, 0, torch.empty(64, 1, 4, 4)).step for seed in range(8)]
        )
        assert (torch.bincount(steps, minlength=STEPS) / len(steps) - 1 / STEPS).abs().max() < 0.08


class TestOptimizers:
    def test_rates_and_momenta(self):
        found = {name: o.optimizer.param_groups[0] for name, o in tiny().optimizers().items()}
        assert {name: group["lr"] for name, group in found.items()} == {
            "D_diffusive": 1e-4,
            "D_cycle": 1e-4,
            "G": 1.6e-4,
        }
        assert all(group["betas"] == (0.5, 0.9) for group in found.values())

    def test_the_cosine_is_pytorchs(self):
        """That of 500 epochs, whatever the length of the training."""
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.6e-4)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 500, eta_min=1e-5)
        for epoch in range(500):
            assert math.isclose(1.6e-4 * cosine_factor(epoch / 500, 1.6e-4), scheduler.get_last_lr()[0], rel_tol=1e-6)
            assert cosine_factor((epoch + 0.9) / 500, 1.6e-4) == cosine_factor(epoch / 500, 1.6e-4)
            optimizer.step()
            scheduler.step()

    def test_a_rate_below_the_lowest_stays(self):
        assert cosine_factor(0.0, 1e-6) == cosine_factor(0.99, 1e-6) == 1

    def test_the_schedule_reaches_adam(self):
        """The fault of a published wrapper: a scheduler that turned a knob which Adam did not have."""
        task = TranslationTask(tiny(3, 3), Conditioning("image", 2, 3))
        wrappers = OptimWrapperDict(**{name: OptimWrapper(o.optimizer) for name, o in task.optimizers().items()})
        hook, runner, rates = ScheduleHook(task), SimpleNamespace(max_iters=10), []
        parameter = task.generator.gen_diffusive_1.all_modules[2].weight
        for iteration in range(10):
            hook.before_train_iter(runner, iteration)
            task.train_step(tiny_batch(source=3, target=3, iteration=iteration), wrappers)
            rates.append(task.optimizers()["G"].optimizer.param_groups[0]["lr"])
        assert rates[0] == 1.6e-4
        assert all(later < earlier for earlier, later in pairwise(rates))
        assert rates[-1] == pytest.approx(1.6e-4 * cosine_factor(0.9, 1.6e-4))
        (holder,) = (
            o.optimizer
            for o in task.optimizers().values()
            if any(p is parameter for g in o.optimizer.param_groups for p in g["params"])
        )
        assert holder is wrappers["G"].optimizer
        assert holder.state[parameter]["step"] == 10


class TestSizes:
    @pytest.mark.parametrize("size", [32, 96, 224])
    def test_any_multiple_of_32_at_published_depth(self, size):
        """Height and width apart: neither says where attention is."""
        torch.manual_seed(0)
        network = Denoiser(2, 1, 4, PUBLISHED, 1, attention=4)
        with torch.no_grad():
            out = network(torch.randn(1, 2, size, 64), torch.tensor([1]), torch.randn(1, 100))
        assert out.shape == (1, 1, size, 64)

    def test_attention_is_placed_by_depth(self):
        with torch.device("meta"):
            published, small = SynDiff(1, 1), SynDiff(1, 1, preset="small")
            deep = SynDiff(1, 1, attention=5)

        def attends(generator):
            return [i for i, part in enumerate(generator.gen_diffusive_1.all_modules) if hasattr(part, "NIN_0")]

        assert attends(published) == [20, 22, 28, 37]
        assert len(attends(small)) == 3
        assert attends(deep) == [24, 26, 28, 33]
        assert (published.size_multiple, published.smallest) == (32, 64)
        assert (small.size_multiple, small.smallest) == (8, 32)

    def test_the_small_preset_is_small(self):
        with torch.device("meta"):
            small = SynDiff(1, 1, preset="small")
            narrower = SynDiff(1, 1, preset="small", width=16)
        count = sum(p.numel() for p in small.parameters())
        assert count < 8_000_000
        assert sum(p.numel() for p in narrower.gen_diffusive_1.parameters()) < 700_000

    def test_all_eight_networks(self):
        with torch.device("meta"):
            generator = SynDiff(1, 1)
        counts = {name: sum(p.numel() for p in child.parameters()) for name, child in generator.named_children()}
        assert counts["disc_diffusive_1"] == counts["disc_diffusive_2"] == 27_736_705
        assert counts["gen_non_diffusive_1to2"] == counts["gen_non_diffusive_2to1"] == 7_825_153
        assert counts["disc_non_diffusive_cycle1"] == counts["disc_non_diffusive_cycle2"] == 2_762_689
        assert counts["gen_diffusive_1"] == counts["gen_diffusive_2"] == 39_725_250 - 9 * 64 - 1  # one channel fewer
        assert sum(counts.values()) == sum(p.numel() for p in generator.parameters())

    def test_domains_may_differ_in_channels(self):
        generator = tiny(3, 1)
        phases = list(generator.phases(tiny_batch(source=3)))
        assert phases[-1].fake.shape == (2, 1, 32, 32)
        image = torch.rand(1, 3, 32, 32)
        assert generator.translate(image, "source-to-target").shape == (1, 1, 32, 32)
        assert generator.translate(image[:, :1], "target-to-source").shape == (1, 3, 32, 32)

    @pytest.mark.parametrize("channels", [4, 12, 36, 132, 384, 1024])
    def test_groups_divide_any_number_of_channels(self, channels):
        assert channels % groups_of(channels) == 0
        assert groups_of(channels) <= 32

    @pytest.mark.parametrize(
        ("options", "fault"),
        [
            ({"width": 6}, "width=6"),
            ({"width": 0}, "width=0"),
            ({"discriminator_width": 2}, "discriminator_width=2"),
            ({"multipliers": (1,)}, "multipliers="),
            ({"multipliers": (1, 0)}, "multipliers="),
            ({"attention": 3}, "attention=3"),
            ({"blocks": 0}, "blocks=0"),
            ({"translator_blocks": 0}, "translator_blocks=0"),
            ({"r1_interval": 0}, "r1_interval=0"),
        ],
    )
    def test_sizes_that_cannot_be(self, options, fault):
        with pytest.raises(ValueError, match=fault):
            tiny(**options)


class TestDeviation:
    def test_groups_as_published_where_they_divide(self):
        x = torch.randn(8, 3, 2, 2)
        found = append_deviation(x)[:, 3, 0, 0]
        for group in ([0, 2, 4, 6], [1, 3, 5, 7]):
            expected = (x[group].var(0, unbiased=False) + 1e-8).sqrt().mean()
            assert torch.allclose(found[group], expected)

    @pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 3), (5, 1), (6, 3), (7, 1), (9, 3), (10, 2)])
    def test_any_batch(self, count, size):
        """Where four do not divide it, groups are of three, two or one."""
        x = torch.randn(count, 3, 2, 2)
        found = append_deviation(x)
        assert found.shape == (count, 4, 2, 2)
        groups = x.view(size, count // size, 3, 2, 2)
        expected = (groups.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3)).repeat(size)
        assert torch.allclose(found[:, 3, 0, 0], expected)
        if size == 1:
            assert torch.allclose(found[:, 3], torch.tensor(1e-4))


class TestResampling:
    def test_down_and_up(self):
        """Halving is what a strided [1, 3, 3, 1] filter gives; doubling is bilinear except for one border pixel."""
        x = torch.rand(1, 2, 8, 8, dtype=torch.double)
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.double) / 8
        padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
        halved = torch.einsum("nchwij,i,j->nchw", padded.unfold(2, 4, 2).unfold(3, 4, 2), taps, taps)
        assert torch.allclose(Downsample().double()(x), halved)
        doubled = Upsample2x().double()(x)
        bilinear = torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        assert torch.allclose(doubled[:, :, 1:-1, 1:-1], bilinear[:, :, 1:-1, 1:-1])
        assert (doubled - bilinear).abs().max() > 0.01

    def test_the_discriminator_can_be_differentiated_twice(self):
        torch.manual_seed(0)
        network = StepDiscriminator(1, 4, 2).double()
        later = torch.rand(2, 1, 8, 8, dtype=torch.double)

        def logits(x):
            return network(x, torch.tensor([0, 2]), later)

        x = torch.rand(2, 1, 8, 8, dtype=torch.double, requires_grad=True)
        assert torch.autograd.gradgradcheck(logits, x, atol=1e-4)


class TestTranslation:
    def trained(self, source=1, target=1):
        """Not quite as initialised, so that it makes something."""
        generator = tiny(source, target).eval()
        for network in (generator.gen_diffusive_1, generator.gen_diffusive_2):
            parity.fill(network)
        return generator

    def test_four_steps_of_the_one_denoiser_for_each_direction(self):
        generator, image = self.trained(), parity.smooth("x", 1, 32)
        calls = []
        for name in ("gen_diffusive_1", "gen_diffusive_2", "gen_non_diffusive_1to2", "gen_non_diffusive_2to1"):
            generator.get_submodule(name).register_forward_hook(
                lambda _module, given, _out, name=name: calls.append((name, *given[1].tolist()))
            )
        generator.translate(image, "source-to-target")
        assert calls == [("gen_diffusive_2", step) for step in (3, 2, 1, 0)]
        calls.clear()
        generator.translate(image, "target-to-source")
        assert calls == [("gen_diffusive_1", step) for step in (3, 2, 1, 0)]

    def test_the_sample_is_what_four_steps_back_give(self):
        generator, image = self.trained(), parity.smooth("x", 2, 32)
        noise = Noise(torch.tensor([5, 6]))
        with torch.no_grad():
            x = noise.field(0, 1, 32, 32)
            for t in (3, 2, 1, 0):
                step = torch.tensor([t, t])
                guess = generator.gen_diffusive_2(torch.cat((x, image), 1), step, noise.vector(2 * t + 1, 100))
                x = generator.diffusion.earlier(guess, x, step, noise.field(2 * t + 2, 1, 32, 32))
            out = generator.translate(image, "source-to-target", noise)
        assert torch.allclose(out, x, atol=1e-6)
        assert out.abs().max() <= 1

    def test_chance_belongs_to_seeds(self):
        generator, image = self.trained(), parity.smooth("x", 1, 32).expand(3, -1, -1, -1)
        with torch.no_grad():
            a, b, c = generator.translate(image, "source-to-target", Noise(torch.tensor([3, 4, 3])))
            alone = generator.translate(image[:1], "source-to-target", Noise(torch.tensor([4])))[0]
        assert torch.allclose(a, c, atol=1e-6)
        assert torch.allclose(b, alone, atol=1e-5)
        assert (a - b).abs().mean() > 1e-3

    def test_windows_of_an_image_share_the_noise(self):
        """A denoiser that only looks at one pixel gives overlapping windows the same pixels."""
        generator = self.trained()
        generator.gen_diffusive_2.forward = lambda x, step, z: torch.tanh(
            x[:, :1] + x[:, 1:] + z.mean(1)[:, None, None, None]
        )
        image = parity.smooth("x", 1, 128)
        whole = generator.translate(image, "source-to-target", Noise(torch.tensor([9])))
        for top, left in ((0, 0), (8, 72), (64, 40)):
            window = image[:, :, top : top + 48, left : left + 48]
            noise = Noise(torch.tensor([9]), torch.tensor([[top, left]]))
            part = generator.translate(window, "source-to-target", noise)
            assert torch.allclose(part, whole[:, :, top : top + 48, left : left + 48], atol=1e-6)


class TestPublishedWeights:
    """Files as the reference writes them: `module.` once or twice before each key, two channels made."""

    def published(self, seed=1):
        """State dicts of all networks, those of the denoisers with as many channels out as in."""
        torch.manual_seed(seed)
        theirs = SynDiff(1, 1, **TINY)
        states = {}
        for name, network in theirs.named_children():
            state = {key: torch.randn_like(value) for key, value in network.state_dict().items()}
            if name.startswith("gen_diffusive"):
                last = f"all_modules.{len(network.all_modules) - 1}"
                state[f"{last}.weight"], state[f"{last}.bias"] = torch.randn(2, 4, 3, 3), torch.randn(2)
            if state:
                states[name] = state
        return states

    def prefixed(self, name, state):
        prefix = "module." if "non_diffusive" not in name else "module.module."
        return {f"{prefix}{key}": value for key, value in state.items()}

    def assert_loaded(self, network, state):
        for key, value in network.state_dict().items():
            assert torch.equal(value, state[key][: len(value)]), key

    def load(self, generator, path):
        load_weights(generator, path, SynDiff.key_map, "generator", adapt=generator.adapted)

    @pytest.mark.parametrize(
        "name", ["gen_diffusive_1", "gen_diffusive_2", "gen_non_diffusive_1to2", "gen_non_diffusive_2to1"]
    )
    def test_a_file_of_one_network_is_known_by_its_name(self, name, tmp_path):
        states, generator = self.published(), tiny()
        before = {key: value.clone() for key, value in generator.state_dict().items()}
        path = tmp_path / f"{name}_500.pth"
        torch.save(self.prefixed(name, states[name]), path)
        self.load(generator, path)
        self.assert_loaded(generator.get_submodule(name), states[name])
        others = {key: value for key, value in generator.state_dict().items() if not key.startswith(f"{name}.")}
        assert all(torch.equal(value, before[key]) for key, value in others.items())

    def test_the_file_of_all_networks(self, tmp_path):
        states, generator = self.published(), tiny()
        content = {f"{name}_dict": self.prefixed(name, state) for name, state in states.items()}
        options = {"epoch": 3, "global_step": 7, "args": Namespace(num_timesteps=4, exp="x")}
        optimizer = torch.optim.Adam(generator.parameters()).state_dict()
        torch.save({**options, **content, "optimizer_gen_diffusive_1": optimizer}, tmp_path / "content.pth")
        self.load(generator, tmp_path / "content.pth")
        for name, state in states.items():
            self.assert_loaded(generator.get_submodule(name), state)

    def test_a_file_named_otherwise_fits_nowhere(self, tmp_path):
        torch.save(self.prefixed("gen_diffusive_1", self.published()["gen_diffusive_1"]), tmp_path / "weights.pth")
        with pytest.raises(TransegError, match="fits nowhere"):
            self.load(tiny(), tmp_path / "weights.pth")

    def test_a_trained_one_needs_no_adapting(self, tmp_path):
        one, other = tiny(), tiny()
        parity.fill(one)
        torch.save(one.state_dict(), tmp_path / "ours.pth")
        self.load(other, tmp_path / "ours.pth")
        assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())
        assert not any("module." in key for key in one.state_dict() if not key.startswith("gen_diffusive"))


def test_nothing_is_compiled():
    """What it needs is PyTorch; the reference compiles its filters when it is imported."""
    code = (
        "import sys\n"
        "import transeg.plugins.generators.syndiff\n"
        "print([m for m in sys.modules if m.startswith(('torch.utils.cpp_extension', 'ninja'))])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
