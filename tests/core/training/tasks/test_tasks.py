import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn

from transeg.core.inference.conditioning import Conditioning
from transeg.core.interfaces import Batch, Generator, Optimization, Phase, Segmenter
from transeg.core.models.forward import translate
from transeg.core.training.appearance_changes import AppearanceChanges
from transeg.core.training.losses import LossSum
from transeg.core.training.tasks.joint_task import JointTask
from transeg.core.training.tasks.scaling import scaled_batch
from transeg.core.training.tasks.segmentation_task import SegmentationTask
from transeg.core.training.tasks.translation_task import TranslationTask
from transeg.plugins.losses.pixelwise import BCELoss
from transeg.plugins.strategies.joint import Joint

IMAGES = Conditioning("image", 2, 1)


class Shift(Generator):
    """Adds a learned number; a critic wants it to be one."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1))
        self.critic = nn.Parameter(torch.zeros(1))
        self.log = []

    def optimizers(self):
        return {
            "critic": Optimization(torch.optim.SGD([self.critic], lr=1.0)),
            "shift": Optimization(torch.optim.SGD([self.shift], lr=1.0), lambda progress: 1 - progress),
        }

    def phases(self, batch):
        fake = batch.source + self.shift
        yield Phase(("critic",), {"critic": (self.critic - 1).square().sum() * fake.detach().square().mean()})
        self.log.append(self.critic.item())
        yield Phase(("shift",), {"adversarial": 0 * fake.sum()}, fake=fake)

    def translate(self, image, direction, noise=None):
        return image + self.shift


class Scale(Segmenter):
    def __init__(self, start=1.0):
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), start))

    def forward(self, image):
        return self.scale * image


def batch(value=0.5, target=None):
    return Batch(
        source=torch.full((2, 1, 4, 4), value),
        source_mask=torch.ones(2, 4, 4, dtype=torch.uint8),
        target=torch.full((2, 1, 4, 4), value if target is None else target),
        positions=torch.arange(2),
        seed=1,
    )


def joint(**options):
    segmenter = Scale()
    optimization = Optimization(torch.optim.SGD(segmenter.parameters(), lr=1.0))
    loss = LossSum({"bce": (1.0, BCELoss())})
    strategy = Joint(**options)
    task = JointTask(Shift(), segmenter, loss, optimization, strategy.weight_at, given=IMAGES, share=0.5)
    task.iterations = 10
    return task


class Recorder(Scale):
    def forward(self, image):
        self.seen = image.detach().clone()
        return super().forward(image)


def test_appearance_is_changed_after_the_translation_and_lets_the_gradient_pass():
    plain, changed = joint(weight=1.0), joint(weight=1.0)
    for task in (plain, changed):
        task.segmenter = Recorder()
    changed._appearance = AppearanceChanges([{"name": "InvertImg", "p": 1.0}], seed=0)
    fakes = []
    for task in (plain, changed):
        (phase,) = (phase for phase in task.phases(batch()) if phase.fake is not None)
        phase.losses["bce"].backward()
        fakes.append(phase.fake.detach())
    assert torch.equal(*fakes)
    assert torch.allclose(plain.segmenter.seen, fakes[0])
    assert torch.allclose(changed.segmenter.seen, -plain.segmenter.seen, atol=0.02)
    assert changed.generator.shift.grad.abs() > 0


def wrappers(task):
    return OptimWrapperDict(**{name: OptimWrapper(o.optimizer) for name, o in task.optimizers().items()})


def gradients(task, weight):
    """What one step adds to the generator's shift and the segmenter's scale."""
    before = task.generator.shift.item(), task.segmenter.scale.item()
    task.train_step(batch(), wrappers(task))
    return before[0] - task.generator.shift.item(), before[1] - task.segmenter.scale.item()


def test_each_phase_updates_its_own_parameters_before_the_next():
    task = TranslationTask(Shift(), IMAGES)
    losses = task.train_step(batch(), wrappers(task))
    assert set(losses) == {"critic", "adversarial"}
    assert task.generator.log == [task.generator.critic.item()]
    assert task.generator.critic.item() != 0
    assert task.generator.shift.item() == 0
    assert all(parameter.grad is None for parameter in task.parameters())


def test_gradients_reach_nothing_but_the_phase():
    generator = Shift()
    task = TranslationTask(generator, IMAGES)
    seen = []
    generator.shift.register_hook(lambda gradient: seen.append(gradient))

    class Leaky(Shift):
        def phases(self, batch):
            fake = batch.source + generator.shift
            yield Phase(("critic",), {"loss": (fake * self.critic).mean()})

    leaky = Leaky()
    task = TranslationTask(leaky, IMAGES)
    task.train_step(batch(), wrappers(task))
    assert generator.shift.grad is None
    assert leaky.critic.item() != 0


def test_the_whole_gradient_reaches_the_segmenter_and_its_weight_the_generator():
    full_shift, full_scale = gradients(joint(weight=1.0), 1.0)
    part_shift, part_scale = gradients(joint(weight=0.25), 0.25)
    none_shift, none_scale = gradients(joint(weight=0.0), 0.0)
    assert full_scale == pytest.approx(part_scale) == pytest.approx(none_scale)
    assert full_shift != 0
    assert part_shift == pytest.approx(0.25 * full_shift)
    assert none_shift == 0


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({"schedule": "constant"}, [2.0, 2.0, 2.0]),
        ({"schedule": "linear"}, [0.0, 1.0, 1.8]),
        ({"schedule": "step", "start": 0.5}, [0.0, 2.0, 2.0]),
    ],
)
def test_the_weight_follows_its_schedule(options, weights):
    task = joint(weight=2.0, **options)
    found = []
    for task.iteration in (0, 5, 9):
        found.append(task.weight())
    assert found == pytest.approx(weights)


def test_validation_of_the_source_is_translated_and_of_the_target_is_not():
    task = joint()
    with torch.no_grad():
        task.generator.shift.fill_(2.0)
    image = torch.zeros(1, 1, 4, 4)
    assert task.segment_source(image, None).mean().item() == 2.0
    assert task.segment_target(image, None).mean().item() == 0.0
    assert translate(task.generator, image, "source-to-target").mean().item() == 2.0


def test_auxiliary_heads_count_in_training():
    class TwoHeads(Scale):
        def forward(self, image):
            logits = super().forward(image)
            return [logits, 2 * logits] if self.training else logits

    segmenter = TwoHeads()
    loss = LossSum({"bce": (0.5, BCELoss())})
    task = SegmentationTask(segmenter, loss, Optimization(torch.optim.SGD(segmenter.parameters(), lr=1.0)))
    value = task.train_step(batch(), wrappers(task))["bce"]
    bce = [BCELoss()(torch.full((2, 1, 4, 4), v), torch.ones(2, 4, 4, dtype=torch.long)) for v in (0.5, 1.0)]
    assert value.item() == pytest.approx(0.5 * sum(b.item() for b in bce))


def test_a_step_is_made_at_each_scale_of_a_batch():
    seen = []

    class Watching(Scale):
        size_multiple = 4

        def forward(self, image):
            seen.append((*image.shape[2:], self.scale.item()))
            return super().forward(image)

    segmenter = Watching()
    loss = LossSum({"bce": (1.0, BCELoss())})
    task = SegmentationTask(segmenter, loss, Optimization(torch.optim.SGD(segmenter.parameters(), lr=1.0)))
    task.scales = (0.75, 1.0, 1.25)
    wide = Batch(torch.rand(2, 1, 16, 20), torch.ones(2, 16, 20, dtype=torch.long), None, torch.arange(2), 0)
    losses = task.train_step(wide, wrappers(task))
    assert [size for *size, _ in seen] == [[12, 16], [16, 20], [20, 24]]  # 15 and 25 are no multiples of 4
    assert len({factor for *_, factor in seen}) == 3  # a step lies between two scales
    assert list(losses) == ["bce_0.75", "bce", "bce_1.25"]


def test_a_scaled_batch_keeps_its_labels_where_they_are():
    ramp = torch.linspace(-1, 1, 32).expand(1, 1, 32, 32)
    mask = (ramp[:, 0] > 0).long()
    whole = Batch(ramp, mask, ramp, torch.arange(1), 0, instances=3 * mask, target_valid=mask == 1)
    for scale, side in ((0.75, 24), (1.25, 40), (0.01, 8)):
        scaled = scaled_batch(whole, scale, 8)
        assert scaled.source.shape == scaled.target.shape == (1, 1, side, side)
        assert ((scaled.source[:, 0] > 0.0) == scaled.source_mask.bool()).float().mean() > 0.95
        assert set(scaled.instances.unique().tolist()) == {0, 3}
        assert (scaled.instances == 3 * scaled.source_mask).all()
        assert (scaled.target_valid == (scaled.source_mask == 1)).all()
    assert scaled_batch(whole, 1.0, 5) is whole


def test_losses_with_parameters_are_trained():
    class Temperature(BCELoss):
        def __init__(self):
            super().__init__()
            self.log = nn.Parameter(torch.zeros(1))

        def forward(self, logits, target):
            return super().forward(logits * self.log.exp(), target)

    segmenter, loss = Scale(), LossSum({"t": (1.0, Temperature())})
    parameters = [*segmenter.parameters(), *loss.parameters()]
    task = SegmentationTask(segmenter, loss, Optimization(torch.optim.SGD(parameters, lr=1.0)))
    task.train_step(batch(), wrappers(task))
    assert loss.terms["t"].log.item() != 0
    assert "loss.terms.t.log" in task.state_dict()
