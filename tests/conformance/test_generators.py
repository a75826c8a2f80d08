"""What every generator in the registry must do."""

from dataclasses import replace

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict

from transeg.core.component_options import options
from transeg.core.inference.conditioning import Conditioning
from transeg.core.interfaces import Batch, Generator
from transeg.core.models.forward import translate
from transeg.core.registry import Registry
from transeg.core.training.tasks.translation_task import TranslationTask

REGISTRY = Registry()
COMPONENTS = list(REGISTRY.components("generator"))
SMALL = {
    "cut": {"width": 4, "blocks": 5, "patches": 8},
    "cyclegan": {"width": 4, "blocks": 1, "pool": 2},
    "pix2pix": {"width": 4, "depth": 4},
    "syndiff": {
        "preset": "small",
        "width": 4,
        "multipliers": (1, 1, 2),
        "discriminator_width": 4,
        "translator_width": 4,
        "translator_blocks": 1,
    },
}
"""Options that make a generator small, by name; others are tested as they are."""
COLOUR = ["stain"]
"""Those for RGB images alone."""


@pytest.fixture(params=COMPONENTS, ids=str)
def component(request):
    return request.param


@pytest.fixture
def build(component):
    def make(channels=3, **changes):
        torch.manual_seed(0)
        return REGISTRY.load(component)(channels, channels, **{**SMALL.get(component.name, {}), **changes})

    return make


def batch(channels=3, count=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    images = [torch.rand(count, channels, 32, 32, generator=generator) * 2 - 1 for _ in range(2)]
    return Batch(images[0], torch.zeros(count, 32, 32, dtype=torch.long), images[1], torch.arange(count), seed)


def train(generator, steps=3):
    """Losses of a few steps; of a generator without parameters, which learns at once, the translations after it."""
    if not list(generator.parameters()):
        generator.fit(batch(seed=9).target)
        return [{"mean": next(generator.phases(batch(seed=step))).fake.mean()} for step in range(steps)]
    task = TranslationTask(generator, Conditioning("image", 2, 3))
    wrappers = OptimWrapperDict(**{name: OptimWrapper(o.optimizer) for name, o in task.optimizers().items()})
    return [task.train_step(batch(seed=step), wrappers) for step in range(steps)]


def test_it_is_described(component, build):
    assert isinstance(build(), Generator)
    assert component.entry.summary
    assert component.entry.paper
    assert component.entry.paired == type(build()).paired
    assert component.entry.conditions == type(build()).conditions
    assert all(option.help for option in options(REGISTRY.load(component)).values())


def test_it_has_the_parameters_that_its_manifest_says(component):
    with torch.device("meta"):
        generator = REGISTRY.load(component)(3, 3)
    assert sum(p.numel() for p in generator.parameters() if p.requires_grad) == component.entry.params


def test_its_optimizers_hold_every_parameter_once(build):
    generator = build()
    held = [id(p) for o in generator.optimizers().values() for g in o.optimizer.param_groups for p in g["params"]]
    assert sorted(held) == sorted(id(p) for p in generator.parameters())


def test_schedules_start_at_one_and_end_lower(build):
    for optimization in build().optimizers().values():
        assert optimization.schedule(0.0) == 1
        assert 0 <= optimization.schedule(0.9999) < 0.11  # SynDiff's discriminators end at a tenth, as published


def test_phases_update_everything_and_one_carries_the_translation(build):
    generator = build()
    named = set()
    phases = list(generator.phases(batch()))
    for phase in phases:
        named |= set(phase.optimizers)
        assert all(loss.shape == () and loss.isfinite() for loss in phase.losses.values())
    assert named == set(generator.optimizers())
    (fake,) = (phase.fake for phase in phases if phase.fake is not None)
    assert fake.shape == (2, 3, 32, 32)
    assert fake.requires_grad == bool(named)
    assert fake.abs().max() <= 1


VARIANTS = {"cut": [{}, {"variant": "fastcut"}]}
"""Options that change how a generator is trained."""


def test_its_translations_lie_where_the_source_does(component, build):
    """A change in a corner of the source changes that corner of what a segmenter gets beside the labels."""
    for changes in VARIANTS.get(component.name, [{}]):
        generator = build(**changes)
        for seed in range(4):
            plain = batch(seed=seed)
            changed = replace(plain, source=plain.source.clone())
            changed.source[:, :, :12, :12] *= -1
            one, other = (
                next(phase.fake for phase in generator.phases(data) if phase.fake is not None)
                for data in (plain, changed)
            )
            difference = (one - other).detach().abs().mean((0, 1))
            corner, beside = difference[:16, :16].mean(), difference[:16, 16:].mean()
            assert corner > 1.1 * beside, (changes, seed)


def test_two_steps_move_every_weight(build):
    """In the first, layers that begin as good as zero may hold back what lies before them."""
    generator = build()
    before = {name: p.detach().clone() for name, p in generator.named_parameters()}
    train(generator, steps=2)
    still = [name for name, p in generator.named_parameters() if p.ndim > 1 and torch.equal(p, before[name])]
    assert not still


def test_it_learns_from_whatever_it_says_that_it_takes(component):
    """Images, label maps as channels, or these with the outlines of single objects."""
    cls = REGISTRY.load(component)
    for condition in cls.conditions:
        given = Conditioning(condition, 3, 3)
        generator = cls(given.channels, 3, **SMALL.get(component.name, {}))
        masks = torch.randint(3, (2, 32, 32), generator=torch.Generator().manual_seed(0))
        data = replace(batch(), source_mask=masks, instances=masks)
        if list(generator.parameters()):
            task = TranslationTask(generator, given)
            wrappers = OptimWrapperDict(**{name: OptimWrapper(o.optimizer) for name, o in task.optimizers().items()})
            assert all(loss.isfinite() for loss in task.train_step(data, wrappers).values())
        else:
            generator.fit(data.target)
        made = translate(generator.eval(), given.batch(data).source, generator.directions[0])
        assert made.shape == (2, 3, 32, 32)


def test_it_repeats_itself_whatever_the_global_generator(build):
    results = []
    for seed in (1, 2):
        generator = build()
        torch.manual_seed(seed)
        results.append([{k: v.item() for k, v in losses.items()} for losses in train(generator)])
    assert results[0] == results[1]


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (8, 40)])
def test_any_size_and_channels_are_translated(component, build, channels, size):
    if component.name in COLOUR and channels != 3:
        with pytest.raises(ValueError, match=r"for RGB images; the channels .* are \d and \d"):
            build(channels)
        return
    generator = build(channels).eval()
    image = torch.rand(1, channels, *size) * 2 - 1
    with torch.inference_mode():
        for direction in generator.directions:
            result = translate(generator, image, direction)
            assert result.shape == image.shape
            assert result.abs().max() <= 1
            assert torch.equal(result, translate(generator, image, direction))


def test_its_state_is_all_of_it(build):
    generator, other = build().eval(), build().eval()
    train(generator)
    other.load_state_dict(generator.state_dict())
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.inference_mode():
        first = translate(generator.eval(), image, generator.directions[0])
        assert torch.equal(first, translate(other, image, generator.directions[0]))
