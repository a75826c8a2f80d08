"""Micro-batches, precision and limits of the training step, over every strategy and every built-in generator."""

import copy
from dataclasses import replace

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn

from transeg.core.distributed.ranks import LostProcessError
from transeg.core.errors import TransegError
from transeg.core.inference.conditioning import Conditioning
from transeg.core.interfaces import Batch, Generator, Optimization, Phase, Segmenter
from transeg.core.models.memory_layout import put_channels_last
from transeg.core.training.losses import LossSum
from transeg.core.training.masking import Masking
from transeg.core.training.mixing import classmix
from transeg.core.training.tasks.joint_task import JointTask
from transeg.core.training.tasks.mean_teacher import MeanTeacher
from transeg.core.training.tasks.segmentation_task import SegmentationTask
from transeg.core.training.tasks.translation_task import TranslationTask
from transeg.core.training.tasks.updates import Updates, micro_batches
from transeg.plugins.generators.cut import CUT
from transeg.plugins.generators.cyclegan import CycleGAN
from transeg.plugins.generators.pix2pix import Pix2pix
from transeg.plugins.generators.syndiff import SynDiff, discriminators
from transeg.plugins.losses.pixelwise import BCELoss

IMAGES = Conditioning("image", 2, 1)
CPU = torch.device("cpu")
GENERATORS = {
    "cut": lambda: CUT(1, 1, width=4, blocks=5, patches=8),
    "fastcut": lambda: CUT(1, 1, variant="fastcut", width=4, blocks=5, patches=8),
    "pix2pix": lambda: Pix2pix(1, 1, width=4, depth=5, norm="instance"),
    "cyclegan": lambda: CycleGAN(1, 1, width=4, blocks=1, pool=3),
    "syndiff": lambda: SynDiff(
        1, 1, preset="small", width=4, multipliers=(1, 1), discriminator_width=4, translator_width=4,
        translator_blocks=1, r1_interval=2,
    ),
}  # fmt: skip
CASES = ["supervised", "taught", *GENERATORS, *(f"joint-{name}" for name in GENERATORS)]


class Plain(Segmenter):
    """Without batch norm, whose statistics are those of a micro-batch."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 1, 1))

    def forward(self, image):
        return self.body(image)


def task_of(case, updates=None, build=GENERATORS):
    torch.manual_seed(0)
    strategy, _, name = case.rpartition("-")
    if case in ("supervised", "taught"):
        name = ""
    segmenter, loss = Plain(), LossSum({"bce": (1.0, BCELoss())})
    optimization = Optimization(torch.optim.Adam(segmenter.parameters(), lr=1e-3))
    if case == "supervised":
        task = SegmentationTask(segmenter, loss, optimization)
    elif case == "taught":
        teacher = MeanTeacher(threshold=0.1, weighting="share", weight=1.0, mix=classmix, masking=Masking(0.5, 8))
        task = SegmentationTask(segmenter, loss, optimization, on_target=teacher)
    elif strategy == "joint":
        parts = build[name](), segmenter, loss, optimization
        task = JointTask(*parts, weight=lambda _: 0.5, given=IMAGES, share=0.5)
    else:
        task = TranslationTask(build[name](), IMAGES)
    task.updates = updates or Updates()
    task.iterations = 10
    return task.train()


def wrappers(task):
    return OptimWrapperDict(**{name: OptimWrapper(o.optimizer) for name, o in task.optimizers().items()})


def batch(iteration=0, dtype=torch.float32, count=4):
    draws = torch.Generator().manual_seed(iteration)
    images = [(torch.rand(count, 1, 32, 32, generator=draws) * 2 - 1).to(dtype) for _ in range(2)]
    mask = (torch.rand(count, 32, 32, generator=draws) > 0.5).long()
    return Batch(images[0], mask, images[1], torch.arange(count) + count * iteration, 7 + iteration, None, iteration)


def trained(case, updates, dtype=torch.float32, steps=2):
    task = task_of(case, updates).to(dtype)
    if updates.memory_format == torch.channels_last:
        put_channels_last(task)
    optimizers = wrappers(task)
    losses = [task.train_step(batch(step, dtype), optimizers) for step in range(steps)]
    return {name: p.detach() for name, p in task.named_parameters()}, losses


def apart(one, other):
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.mark.parametrize("case", CASES)
def test_micro_batches_are_one_with_the_joint_batch(case, monkeypatch):
    """In float64, where Adam makes nothing of rounding; the steps themselves are of 1e-4 and more."""
    monkeypatch.setattr(discriminators, "GROUP", 1)  # it looks at the other images of a batch
    whole, losses = trained(case, Updates(), torch.float64)
    parts, means = trained(case, Updates(accumulation=2), torch.float64)
    start = dict(task_of(case).double().named_parameters())
    assert apart(start, whole) > 1e-4
    assert apart(whole, parts) < 1e-6
    for one, other in zip(losses, means, strict=True):
        assert one.keys() == other.keys()
        assert all(one[name].item() == pytest.approx(other[name].item(), rel=1e-5, abs=1e-7) for name in one)


def test_a_micro_batch_has_its_rows_of_everything_and_what_all_share():
    whole = replace(batch(3), instances=torch.arange(4)[:, None, None].expand(4, 32, 32))
    parts = micro_batches(whole, 2)
    for name in ("source", "source_mask", "target", "positions", "instances"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
        assert len(getattr(parts[1], name)) == 2
    assert {(part.seed, part.iteration) for part in parts} == {(10, 3)}
    assert micro_batches(replace(whole, instances=None, target=None), 4)[3].target is None


class Lonely(CycleGAN):
    """Shares its images with a rank that is gone."""

    def phases(self, batch):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:27811.")


def test_a_rank_that_is_gone_is_noticed_in_a_phase():
    """And named as anywhere else, not as a fault of the generator."""
    task = task_of("lonely", build={"lonely": lambda: Lonely(1, 1, width=2, blocks=0)})
    with pytest.raises(LostProcessError):
        task.train_step(batch(), wrappers(task))


class Moody(Generator):
    """Updates its critic for every image that is bright enough."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1))
        self.critic = nn.Parameter(torch.zeros(1))

    def optimizers(self):
        return {name: Optimization(torch.optim.SGD([getattr(self, name)], lr=1.0)) for name in ("shift", "critic")}

    def phases(self, batch):
        if batch.source.mean() > 0:
            yield Phase(("critic",), {"critic": (self.critic - 1).square().sum()})
        yield Phase(("shift",), {"shift": (self.shift - batch.source).square().mean()})

    def translate(self, image, direction, noise=None):
        return image


def test_micro_batches_of_different_phases_are_refused():
    data = batch()
    data.source[:2], data.source[2:] = 1, -1
    task = task_of("moody", Updates(accumulation=2), {"moody": Moody})
    with pytest.raises(TransegError, match=r"After critic in one micro-batch, the generator updates shift in another"):
        task.train_step(data, wrappers(task))
    data.source[:2], data.source[2:] = -1, 1
    with pytest.raises(TransegError, match=r"accumulation=1"):
        task.train_step(data, wrappers(task))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("case", CASES)
def test_sixteen_bits_train_much_as_32_do(case, precision):
    """Every weight moves the same way, by and large; losses come in float32, and differ by little."""
    start = {name: p.detach().clone() for name, p in task_of(case).named_parameters()}
    full, losses = trained(case, Updates())
    updates = Updates(precision=precision, accumulation=2)
    phases = {"+".join(phase.optimizers) for phase in task_of(case).phases(batch())}
    found = {**torch.amp.GradScaler("cpu").state_dict(), "scale": 2.0**4}  # what fp16 would find after a few steps
    updates.load_state_dict(dict.fromkeys(phases, found))
    half, halves = trained(case, updates)
    assert all(value.isfinite().all() for value in half.values())
    moved = torch.cat([(full[name] - start[name]).flatten() for name in start if start[name].ndim > 1])
    also = torch.cat([(half[name] - start[name]).flatten() for name in start if start[name].ndim > 1])
    assert torch.cosine_similarity(moved, also, 0) > 0.6
    for name, loss in losses[0].items():
        assert halves[0][name].dtype == torch.float32
        if not name.startswith("D_diff") and name != "R1":  # which look at the other images of a micro-batch
            assert halves[0][name].item() == pytest.approx(loss.item(), rel=0.05, abs=0.02), name


def test_networks_compute_in_16_bits_and_losses_do_not():
    seen = []

    class Looking(BCELoss):
        def forward(self, logits, target):
            seen.append((logits.dtype, torch.is_autocast_enabled("cpu")))
            return super().forward(logits, target)

    task = task_of("joint-cut", Updates(precision="bf16"))
    task.loss.terms["bce"] = Looking()
    task.segmenter.body[3].register_forward_hook(lambda _module, _given, made: seen.append(made.dtype))
    task.train_step(batch(), wrappers(task))
    assert seen == [torch.bfloat16, (torch.float32, False)]
    assert not torch.is_autocast_enabled("cpu")
    assert all(parameter.dtype == torch.float32 for parameter in task.parameters())


class Steep(Generator):
    """Two networks that step together; the gradient of one may overflow, and the loss, too."""

    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))
        self.other = nn.Parameter(torch.ones(1))
        self.height = 1.0
        self.factor = 1.0

    def optimizers(self):
        return {name: Optimization(torch.optim.SGD([getattr(self, name)], lr=0.1)) for name in ("one", "other")}

    def phases(self, batch):
        yield Phase(("one", "other"), {"low": self.one.sum(), "high": self.factor * (self.height * self.other).sum()})

    def translate(self, image, direction, noise=None):
        return image


def steep():
    task = task_of("steep", Updates(precision="fp16"), {"steep": Steep})
    return task, task.generator, wrappers(task)


def test_a_gradient_that_overflows_stops_the_steps_of_its_phase_together():
    task, generator, optimizers = steep()
    generator.factor = 1e35  # times 65536 it is infinite
    losses = task.train_step(batch(), optimizers)
    assert set(losses) == {"low", "high"}  # both are finite
    assert (generator.one.item(), generator.other.item()) == (1, 1)
    assert task.updates.state_dict()["one+other"]["scale"] == 2**15
    assert generator.one.grad is None
    generator.factor = 1.0
    task.train_step(batch(), optimizers)
    assert generator.one.item() == pytest.approx(0.9)
    assert generator.other.item() == pytest.approx(0.9)


def test_a_loss_that_is_infinite_where_the_step_was_skipped_is_not_told():
    """The guard would stop a training that goes on unharmed."""
    task, generator, optimizers = steep()
    generator.height = float("inf")
    assert set(task.train_step(batch(), optimizers)) == {"low"}


def test_what_overflows_at_every_scale_ends_the_training_with_a_sentence():
    task, generator, optimizers = steep()
    generator.height = float("nan")
    for _ in range(26):
        task.train_step(batch(), optimizers)
    with pytest.raises(TransegError, match=r"one and other overflow in fp16, however little.*--precision bf16"):
        task.train_step(batch(), optimizers)
    assert generator.one.item() == 1


def test_scales_are_taken_up_again():
    task, generator, optimizers = steep()
    generator.factor = 1e35
    task.train_step(batch(), optimizers)
    state = copy.deepcopy(task.updates.state_dict())
    other = Updates(precision="fp16")
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert state["one+other"]["scale"] == 2**15


def test_gradients_are_clipped_for_each_optimizer_alone():
    task = task_of("steep", Updates(clip=0.5, precision="fp16"), {"steep": Steep})
    task.generator.factor = 0.25
    task.train_step(batch(), wrappers(task))
    assert task.generator.one.item() == pytest.approx(1 - 0.1 * 0.5)  # a gradient of 1
    assert task.generator.other.item() == pytest.approx(1 - 0.1 * 0.25)  # shorter than the limit


def test_each_number_of_the_gradients_is_clamped_before_their_norm_counts():
    updates = Updates(clip=3.0, clip_value=2.0)
    network = nn.Linear(3, 1, bias=False)
    optimizers = {"one": OptimWrapper(torch.optim.SGD(network.parameters(), lr=1.0))}
    before = network.weight.detach().clone()
    updates.backward([(network.weight * torch.tensor([[100.0, -0.5, -3.0]])).sum()], optimizers)
    updates.step(optimizers)
    clamped = torch.tensor([[2.0, -0.5, -2.0]])  # of norm 2.87
    assert torch.allclose(before - network.weight, clamped, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_channels_last_changes_nothing_but_rounding(case):
    plain, _ = trained(case, Updates(), torch.float64)
    last, _ = trained(case, Updates(channels_last=True), torch.float64)
    assert apart(plain, last) < 1e-6
    assert any(p.ndim == 4 and p.is_contiguous(memory_format=torch.channels_last) for p in last.values())


def test_images_come_with_their_channels_innermost():
    seen = []
    task = task_of("cut", Updates(channels_last=True, accumulation=2))
    phases = task.phases
    task.phases = lambda part: seen.append(part) or phases(part)
    wide = replace(batch(), source=torch.rand(4, 3, 32, 32), target=torch.rand(4, 3, 32, 32))
    task.generator = CUT(3, 3, width=4, blocks=5, patches=8)
    task._optimizers = task.generator.optimizers()
    task.train_step(wide, wrappers(task))
    assert len(seen) == 2
    for part in seen:
        assert part.source.is_contiguous(memory_format=torch.channels_last)
        assert part.target.is_contiguous(memory_format=torch.channels_last)
