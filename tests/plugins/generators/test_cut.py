import itertools

import parity
import pytest
import torch

from transeg.core.interfaces import Batch
from transeg.core.models.weights import map_keys
from transeg.plugins.generators.cut.cut import CUT
from transeg.plugins.generators.cut.networks import PatchDiscriminator, PatchProjection, ResnetGenerator
from transeg.plugins.generators.cut.patchnce import patch_nce
from transeg.plugins.generators.layers import linear_decay

REFERENCE = parity.read("cut")
TOLERANCE = REFERENCE["tolerance"]


def accepted(key):
    """What the fixtures suggest: 1e-4, or five times the difference between float32 and float64."""
    return max(1e-4, 5 * TOLERANCE[key])


def ids(turn, layer, count):
    """The positions that the fixtures were made with."""
    generator = torch.Generator().manual_seed(10 * turn + layer)
    return torch.randperm(count, generator=generator)[:256]


def instance_norm_is_wrong():
    """Whether this PyTorch has the fault that the fixtures of one image were made with."""
    x = torch.randn(1, 8, 4, 4, requires_grad=True)
    gradient = torch.randn(1, 8, 4, 4)
    plain, last = (
        torch.autograd.grad(torch.nn.functional.instance_norm(x), x, g)[0]
        for g in (gradient, gradient.contiguous(memory_format=torch.channels_last))
    )
    return not torch.allclose(plain, last, atol=1e-4)


class ReferenceProjection(PatchProjection):
    """Samples patches as the reference does, which sends gradients back in channels-last order."""

    def forward(self, features, positions):
        vectors = [
            head(
                feature.permute(0, 2, 3, 1).flatten(1, 2).gather(1, where[:, :, None].expand(-1, -1, feature.shape[1]))
            )
            for head, feature, where in zip(self.children(), features, positions, strict=True)
        ]
        return [vector / (vector.norm(dim=-1, keepdim=True) + 1e-7) for vector in vectors]


class Fixed(CUT):
    """CUT with the fixtures' positions and mirrorings.

    With ``faulty``, it also runs into PyTorch's wrong gradient of instance norm, as the reference does for one image.
    """

    def __init__(self, variant, flips=(False, False, False), faulty=False):
        super().__init__(3, 3, variant=variant)
        if faulty:
            self.F = ReferenceProjection((3, 128, 256, 256, 256))
            for network in (self.G, self.D):
                for module in network.modules():
                    if isinstance(module, torch.nn.GroupNorm):
                        module.forward = torch.nn.functional.instance_norm
            self.G.features = self.features_one_by_one
        for network in (self.G, self.D, self.F):
            parity.fill(network)
        self.step = -1
        self.flips = flips

    def features_one_by_one(self, images, layers):
        """As the reference, which sends translated and identity images through the encoder apart."""
        maps = [ResnetGenerator.features(self.G, image[None], layers) for image in images]
        return [torch.cat(same) for same in zip(*maps, strict=True)]

    def phases(self, batch):
        self.step += 1
        return super().phases(batch)

    def positions(self, batch, turn, layer, count):
        return ids(self.step * (1 if self._fast else 2) + turn, layer, count)

    def _mirrors(self, batch):
        return self.flips[self.step]


def batch_of(count, size, dtype=torch.float32):
    draws = parity.Draws()
    source, target = draws.image(count, 3, *size), draws.image(count, 3, *size)
    return Batch(source.to(dtype), None, target.to(dtype), torch.arange(count), seed=0)


def full_losses(losses, cut):
    """Our weighted losses as the fixtures name theirs."""
    named = {key: value.item() for key, value in losses.items()}
    halves = 1 if cut._fast else 2
    result = {
        "D_fake": 2 * named["D_fake"],
        "D_real": 2 * named["D_real"],
        "D_total": named["D_fake"] + named["D_real"],
    }
    result |= {"G_GAN": named["G_GAN"], "NCE_A": halves * named["NCE"]}
    if not cut._fast:
        result["NCE_idt"] = 2 * named["NCE_identity"]
    result["G_total"] = sum(value for key, value in named.items() if not key.startswith("D_"))
    return result


def norm(parameters):
    return torch.stack([p.grad.double().square().sum() for p in parameters if p.ndim >= 2]).sum().sqrt()


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (lambda: ResnetGenerator(3, 3, 64, 9), 11_378_179),
        (lambda: ResnetGenerator(3, 3, 64, 6), 7_837_699),
        (lambda: PatchDiscriminator(3, 64), 2_764_737),
        (lambda: PatchProjection((3, 128, 256, 256, 256)), 560_384),
    ],
)
def test_parameters_are_the_published_ones(network, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in network().parameters()) == count


@pytest.mark.parametrize("name", ["cut_resnet9_G", "cut_D_basic", "cut_F_mlp_sample"])
def test_published_state_dicts_fit(name):
    network = {
        "cut_resnet9_G": lambda: ResnetGenerator(3, 3, 64, 9),
        "cut_D_basic": lambda: PatchDiscriminator(3, 64),
        "cut_F_mlp_sample": lambda: PatchProjection((3, 128, 256, 256, 256)),
    }[name]()
    published = {f"module.{key}": torch.zeros(shape) for key, shape in parity.read(f"keys_{name}").items()}
    assert any(key.endswith(".filt") for key in published) == (name != "cut_F_mlp_sample")
    network.load_state_dict(map_keys(published, CUT.key_map), strict=True)


def test_generator_gives_the_reference_numbers():
    expected = REFERENCE["models"]["cut_resnet9_G"]
    network = parity.fill(ResnetGenerator(3, 3, 64, 9))
    with torch.inference_mode():
        output, features = network.with_features(parity.Draws().image(*expected["input"]), CUT.layers)
    assert parity.deviation(output, expected["output"]) < 1e-4
    for layer, feature in zip(CUT.layers, features, strict=True):
        assert parity.deviation(feature, expected["features"][str(layer)]) < 1e-4


def test_discriminator_gives_the_reference_numbers():
    expected = REFERENCE["models"]["cut_D_basic"]
    with torch.inference_mode():
        output = parity.fill(PatchDiscriminator(3, 64))(parity.Draws().image(*expected["input"]))
    assert parity.deviation(output, expected["output"]) < 1e-4


def test_projection_gives_the_reference_numbers():
    expected = REFERENCE["models"]["cut_F_mlp_sample"]
    draws = parity.Draws()
    features = [draws.normal(*shape) for shape in expected["feature_shapes"]]
    where = [ids(0, layer, f.shape[2] * f.shape[3]).expand(len(f), -1) for layer, f in enumerate(features)]
    assert [w[0, :5].tolist() for w in where] == expected["first5_ids_per_layer"]
    with torch.inference_mode():
        vectors = parity.fill(PatchProjection((3, 128, 256, 256, 256)))(features, where)
    for vector, summary in zip(vectors, expected["after_l2"], strict=True):
        assert parity.deviation(vector.flatten(0, 1), summary) < 1e-4


@pytest.mark.parametrize(("case", "images", "patches"), [("B1_S256", 1, 256), ("B2_S64", 2, 64)])
def test_contrast_gives_the_reference_numbers(case, images, patches):
    expected = REFERENCE["losses"]["patchnce"][case]
    draws = parity.Draws()
    key, noise = draws.normal(images * patches, 256), draws.normal(images * patches, 256)

    def unit(vectors):
        return (vectors / (vectors.norm(dim=1, keepdim=True) + 1e-7)).view(images, patches, 256)

    query = unit(key + 2 * noise).requires_grad_()
    key = unit(key).requires_grad_()
    loss = patch_nce(query, key, 0.07).mean()
    loss.backward()
    assert parity.relative(loss.item(), expected["mean"]) < 1e-4
    assert parity.deviation(query.grad.flatten(0, 1), expected["grad_q_of_mean"]) < 1e-4
    assert key.grad is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "variant", "flip"),
    [
        ("cut_full_B1", "cut", False),
        ("cut_full_B2", "cut", False),
        ("fastcut_noflip_B1", "fastcut", False),
        ("fastcut_flip_B1", "fastcut", True),
    ],
)
def test_losses_and_gradients_are_the_reference_ones(case, variant, flip):
    expected = REFERENCE["losses"][case]
    faulty = expected["batch"] == 1
    if faulty and not instance_norm_is_wrong():
        pytest.skip("the fixture holds gradients that PyTorch has since corrected")
    cut = Fixed(variant, flips=[flip], faulty=faulty)
    losses = {}
    for phase in cut.phases(batch_of(expected["batch"], expected["size"])):
        losses |= phase.losses
    sum(phase.losses.values()).backward()
    made = phase.fake.flip(3) if flip else phase.fake  # which lies as the source does
    assert parity.deviation(made, expected["fake_B"]) < accepted(f"losses/{case}")
    found = full_losses(losses, cut)
    for name, value in found.items():
        assert parity.relative(value, expected[name]) < accepted(f"losses/{case}"), name
    assert parity.relative(norm(cut.G.parameters()), expected["grad_l2_G"]) < accepted(f"losses/{case}")
    assert parity.relative(norm(cut.F.parameters()), expected["grad_l2_F"]) < accepted(f"losses/{case}")


@pytest.mark.parametrize("variant", ["cut", "fastcut"])
def test_gradients_of_one_image_are_right(variant):
    """Against finite differences: the reference's own are not, for one image on a CPU."""
    torch.manual_seed(0)
    cut = CUT(3, 3, variant=variant, width=4, blocks=5, patches=16).double()
    batch = batch_of(1, (24, 24), torch.float64)
    with torch.no_grad():
        frozen = cut.F(cut.G.features(batch.source, cut.layers), [torch.arange(16)[None]] * 5)

    def loss():
        query = cut.F(cut.G.features(cut.G(batch.source), cut.layers), [torch.arange(16)[None]] * 5)
        return torch.stack([patch_nce(q, k, 0.07).mean() for q, k in zip(query, frozen, strict=True)]).mean()

    loss().backward()
    for parameter in cut.G.parameters():
        if parameter.ndim < 2:
            continue
        direction = torch.randn_like(parameter)
        step = 1e-6 * parameter.detach().norm() / direction.norm() * direction
        with torch.no_grad():
            parameter += step
            above = loss()
            parameter -= 2 * step
            below = loss()
            parameter += step
        slope = (parameter.grad * step).sum()
        assert float((above - below) / 2) == pytest.approx(float(slope), rel=1e-4, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["cut", "fastcut"])
def test_three_training_steps_follow_the_reference(variant):
    """In float64, where rounding does not drown a wrong step."""
    if not instance_norm_is_wrong():
        pytest.skip("the fixture holds gradients that PyTorch has since corrected")
    expected = REFERENCE["trajectories"][variant]
    cut = Fixed(variant, flips=expected["float64"].get("flips", [False] * 3), faulty=True).double()
    before = {name: {k: p.detach().clone() for k, p in getattr(cut, name).named_parameters()} for name in "GDF"}
    optimizers = {name: o.optimizer for name, o in cut.optimizers().items()}
    batch = batch_of(expected["float64"]["batch"], expected["float64"]["size"], torch.float64)
    for step in expected["float64"]["steps"]:
        losses = {}
        for phase in cut.phases(batch):
            parameters = [p for name in phase.optimizers for g in optimizers[name].param_groups for p in g["params"]]
            sum(phase.losses.values()).backward(inputs=parameters)
            for name in phase.optimizers:
                optimizers[name].step()
                optimizers[name].zero_grad()
            losses |= phase.losses
        for name, value in full_losses(losses, cut).items():
            assert parity.relative(value, step[name]) < 1e-6, (step["step"], name)
        for name, mean in step["mean_abs_delta"].items():
            moved = [
                (p.detach() - before[name][k]).abs().flatten()
                for k, p in getattr(cut, name).named_parameters()
                if p.ndim >= 2
            ]
            assert parity.relative(torch.cat(moved).mean(), mean) < 1e-5, (step["step"], name)
    with torch.no_grad():
        assert parity.deviation(cut.G(batch.source), expected["float64"]["G(A)_after_3_steps"]) < 1e-5


def test_feature_and_patch_shapes_at_published_size():
    with torch.device("meta"):
        network, image = ResnetGenerator(3, 3, 64, 9), torch.empty(1, 3, 256, 256)
        shapes = [tuple(f.shape[1:]) for f in network.features(image, CUT.layers)]
        assert shapes == [(3, 262, 262), (128, 256, 256), (256, 128, 128), (256, 64, 64), (256, 64, 64)]
        judge = PatchDiscriminator(3, 64)
        grids = {size: judge(torch.empty(1, 3, size, size)).shape[-1] for size in (64, 128, 256, 320, 512)}
    assert grids == {64: 6, 128: 14, 256: 30, 320: 38, 512: 62}


def test_discriminator_sees_84_pixels():
    judge = PatchDiscriminator(1, 4)
    for layer in judge.model:  # instance norm would let every logit see the whole image
        if isinstance(layer, torch.nn.GroupNorm):
            layer.forward = lambda x: x
    image = torch.randn(1, 1, 256, 256, requires_grad=True)
    output = judge(image)
    output[0, 0, 15, 15].backward()
    rows = image.grad[0, 0].abs().sum(1).nonzero()
    assert rows.max() - rows.min() + 1 == 84


def test_learning_rate_factors_are_the_published_ones():
    factors = {epoch: linear_decay((epoch - 1) / 400, 200, 200) for epoch in (1, 200, 201, 300, 400)}
    assert factors == pytest.approx({1: 1, 200: 1, 201: 0.9950, 300: 0.5025, 400: 0.0050}, abs=5e-5)


@pytest.mark.parametrize(
    ("options", "factors"),
    [
        ({}, {0.25: 1, 0.5: 0.995, 0.75: 0.4975}),
        ({"variant": "fastcut"}, {0.5: 1, 0.75: 50 / 51}),
        ({"decay": 0}, {0: 1, 0.5: 1, 0.9999: 1}),
        ({"decay": 1}, {0: 400 / 401, 0.5: 200 / 401}),
    ],
)
def test_the_rate_falls_over_the_share_that_is_wanted(options, factors):
    for optimization in CUT(1, 1, width=2, blocks=5, **options).optimizers().values():
        assert {at: optimization.schedule(at) for at in factors} == pytest.approx(factors, abs=5e-5)


def test_a_decay_that_is_no_share_is_refused():
    with pytest.raises(ValueError, match=r"decay=1\.5 is no share of the training"):
        CUT(1, 1, decay=1.5)


def test_untrained_losses_are_where_they_should_be():
    torch.manual_seed(0)
    cut = CUT(3, 3)
    losses = {}
    for phase in cut.phases(batch_of(1, (64, 64))):
        losses |= phase.losses
    assert 2 * losses["NCE"].item() == pytest.approx((11.1 + 5.9 + 5.5 + 5.9 + 6.0) / 5, rel=0.1)


def test_nothing_is_computed_twice():
    """Each training step sends every image through the encoder as often as it must, and not more."""
    cut = CUT(3, 3, width=4, blocks=5, patches=8)
    passes = []
    cut.G.model[4].register_forward_hook(lambda module, inputs, output: passes.append(len(inputs[0])))
    for _ in cut.phases(batch_of(2, (24, 24))):
        pass
    assert passes == [4, 4]  # source and target to the end; both results through the encoder


@pytest.mark.parametrize("variant", ["cut", "fastcut"])
def test_draws_depend_on_the_batch_alone(variant):
    def losses():
        torch.manual_seed(1)
        cut = CUT(3, 3, variant=variant, width=4, blocks=5, patches=8)
        torch.manual_seed(next(counter))
        batch = batch_of(2, (24, 24))
        batch.seed = 5
        return [loss.item() for phase in cut.phases(batch) for loss in phase.losses.values()]

    counter = itertools.count(1)
    assert losses() == losses()


def test_mirrors_half_of_the_time():
    cut = CUT(3, 3, variant="fastcut", width=4, blocks=5)
    batch = batch_of(1, (24, 24))
    seen = []
    for seed in range(200):
        batch.seed = seed
        seen.append(cut._mirrors(batch))
    assert 70 < sum(seen) < 130


def test_different_channels_get_a_sentence():
    with pytest.raises(ValueError, match="as many channels"):
        CUT(1, 3)


def test_too_few_blocks_get_a_sentence():
    with pytest.raises(ValueError, match="fifth residual block"):
        CUT(3, 3, blocks=4)
