"""What every generator must do."""

from __future__ import annotations

import copy
import io
from collections.abc import Sequence
from dataclasses import replace

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor

from transeg.core.inference.conditioning import Conditioning
from transeg.core.interfaces import Batch, Generator, Phase
from transeg.core.models.forward import translate
from transeg.core.models.training_state import load_lasting_state
from transeg.core.training.tasks.translation_task import TranslationTask
from transeg.testing.subject import Subject

SIDE = 32
IMAGES = Conditioning("image", 2, 3)


def _built(subject: Subject, channels: int = 3) -> Generator:
    generator: Generator = subject.build(channels, channels)
    return generator


def _batch(generator: Generator, seed: int = 1) -> Batch:
    """Two source and two target images, as large as the generator needs to train."""
    side = max(SIDE, generator.smallest)
    side += -side % generator.size_multiple
    draw = torch.Generator().manual_seed(seed)
    images = [torch.rand(2, 3, side, side, generator=draw) * 2 - 1 for _ in range(2)]
    return Batch(images[0], torch.zeros(2, side, side, dtype=torch.long), images[1], torch.arange(2), seed)


def _fakes(generator: Generator, batch: Batch) -> list[Tensor]:
    return [phase.fake for phase in generator.phases(batch) if phase.fake is not None]


class _Training:
    """Steps of a generator, as a run takes them; one without parameters learns at once."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self._task = TranslationTask(generator, IMAGES)
        optimizers = {name: OptimWrapper(each.optimizer) for name, each in self._task.optimizers().items()}
        self._wrappers = OptimWrapperDict(**optimizers) if optimizers else None

    def steps(self, seeds: Sequence[int]) -> list[dict[str, float]]:
        """Losses of a step for each seed; without parameters, means of the translations."""
        if self._wrappers is None:
            target = _batch(self.generator, seed=9).target
            assert target is not None
            self.generator.fit(target)
            return [{"mean": _fakes(self.generator, _batch(self.generator, seed))[0].mean().item()} for seed in seeds]
        found = [self._task.train_step(_batch(self.generator, seed), self._wrappers) for seed in seeds]
        return [{name: loss.item() for name, loss in losses.items()} for losses in found]

    def state(self) -> bytes:
        """What a checkpoint holds."""
        optimizers = {} if self._wrappers is None else {n: w.optimizer.state_dict() for n, w in self._wrappers.items()}
        file = io.BytesIO()
        torch.save({"model": self._task.state_dict(), "optimizers": optimizers}, file)
        return file.getvalue()

    def load(self, state: bytes) -> None:
        """Go on from a checkpoint."""
        found = torch.load(io.BytesIO(state), weights_only=True)
        self._task.load_state_dict(found["model"])
        for name, optimizer in found["optimizers"].items():
            assert self._wrappers is not None
            self._wrappers[name].optimizer.load_state_dict(optimizer)


def generator_optimizes_every_parameter_once(subject: Subject) -> None:
    """Its optimizers hold every parameter, and none of them twice."""
    generator = _built(subject)
    optimizers = [each.optimizer for each in generator.optimizers().values()]
    held = [id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    names = {id(p): name for name, p in generator.named_parameters()}
    subject.expect(
        set(held) >= set(names),
        "every parameter in one of its optimizers",
        f"none that holds {', '.join([name for key, name in names.items() if key not in held][:5])}",
        "Pass it to an optimizer in optimizers(); where nothing trains it, register it as a buffer.",
    )
    twice = sorted({names.get(key, "one that is not its own") for key in held if held.count(key) > 1})
    subject.expect(
        not twice and set(held) <= set(names),
        "parameters of its own, each in one optimizer",
        ", ".join(twice[:5]) or "some that are not its own",
        "Give each submodule to one optimizer.",
    )


def generator_schedules_begin_at_one(subject: Subject) -> None:
    """The factor on a learning rate is 1 when training begins, and lies in [0, 1] until it ends."""
    for name, optimization in _built(subject).optimizers().items():
        factors = [optimization.schedule(progress) for progress in (0.0, 0.5, 0.9999)]
        subject.expect(
            factors[0] == 1 and all(0 <= factor <= 1 for factor in factors),
            f"a schedule of {name} that is 1 at progress 0 and stays in [0, 1]",
            f"{factors} at 0, 0.5 and 0.9999",
            "Put the learning rate into the optimizer, and only its share into the schedule.",
        )


def generator_phases_keep_the_contract(subject: Subject) -> None:
    """Its phases update every optimizer by finite scalars, and one of them carries the translated image."""
    generator = _built(subject)
    batch, optimizers = _batch(generator), set(generator.optimizers())
    named: set[str] = set()
    phases: list[Phase] = []
    for number, phase in enumerate(generator.phases(batch), 1):
        subject.expect(
            set(phase.optimizers) <= optimizers,
            f"optimizers in phase {number} that optimizers() gives: {', '.join(sorted(optimizers)) or 'none'}",
            ", ".join(phase.optimizers),
            "Write the same name in both.",
        )
        for name, loss in phase.losses.items():
            subject.expect(
                loss.shape == () and loss.isfinite(),
                f"the loss {name} of phase {number} to be a finite scalar",
                loss.item() if loss.numel() == 1 else f"shape {tuple(loss.shape)}",
                "Average it over the batch, and look for divisions by zero.",
            )
        named |= set(phase.optimizers)
        phases.append(phase)
    subject.expect(
        named == optimizers,
        "a phase for every optimizer",
        f"none for {', '.join(sorted(optimizers - named))}",
        "Name it in the phase whose losses it minimises.",
    )
    fakes = [phase.fake for phase in phases if phase.fake is not None]
    subject.expect(
        len(fakes) == 1,
        "one phase whose `fake` is the translated source, which a segmenter learns from",
        f"{len(fakes)}",
        "Give `fake=` to the phase that updates the translator, and to no other.",
    )
    fake, wanted = fakes[0], tuple(batch.source.shape)
    subject.expect(
        tuple(fake.shape) == wanted and fake.detach().abs().max() <= 1,
        f"a `fake` of shape {wanted} in [-1, 1], as large as the source",
        f"shape {tuple(fake.shape)}, up to {fake.detach().abs().max().item():.3g} in size",
        "Hand over the translation of the whole source, and end the network with tanh.",
    )
    subject.expect(
        fake.requires_grad == bool(named),
        "a `fake` that is still attached to the graph, as the segmenter's gradient goes into the generator",
        "one that is detached" if named else "one with a graph, where nothing is trained",
        "Give phase.fake before any .detach().",
    )


def generator_keeps_things_where_they_are(subject: Subject) -> None:
    """A change in a corner of the source changes that corner of what a segmenter gets beside the labels."""
    generator = _built(subject)
    for seed in range(4):
        plain = _batch(generator, seed)
        side = plain.source.shape[-1]
        changed = replace(plain, source=plain.source.clone())
        changed.source[:, :, : side * 3 // 8, : side * 3 // 8] *= -1
        one, other = (_fakes(generator, data)[0] for data in (plain, changed))
        difference = (one - other).detach().abs().mean((0, 1))
        corner, beside = (difference[: side // 2, part].mean() for part in (slice(side // 2), slice(side // 2, None)))
        subject.expect(
            corner > 1.1 * beside,
            "phase.fake to have the source's geometry, as the source's labels are learned on it",
            f"that a changed corner changes it by {corner:.3g} there and {beside:.3g} beside",
            "Do not flip, shift or shuffle what becomes `fake`, or undo it; hand over the translation of batch.source.",
        )


def generator_moves_every_weight(subject: Subject) -> None:
    """Two training steps change every weight and give finite losses."""
    generator = _built(subject)
    before = {name: p.detach().clone() for name, p in generator.named_parameters()}
    losses = _Training(generator).steps([0, 1])
    wild = sorted({name for step in losses for name, loss in step.items() if not abs(loss) < float("inf")})
    subject.expect(
        not wild,
        "finite losses in the first two steps",
        f"others in {', '.join(wild)}",
        "Look for divisions by zero, and for learning rates that are too high.",
    )
    # in the first step, layers that begin as good as zero may hold back what lies before them
    still = [name for name, p in generator.named_parameters() if p.ndim > 1 and torch.equal(p, before[name])]
    subject.expect(
        not still,
        "every weight to have moved after two steps",
        f"that {', '.join(still[:5])} did not",
        "Let a loss of a phase depend on it, in a phase that names its optimizer.",
    )
    ruined = [name for name, p in generator.named_parameters() if not p.isfinite().all()]
    subject.expect(
        not ruined, "finite weights after two steps", f"others in {', '.join(ruined[:5])}", "Look at its losses."
    )


def generator_learns_from_all_it_takes(subject: Subject) -> None:
    """It trains and translates whatever its conditions name: images, label maps, or these with outlines."""
    cls = subject.load()
    for condition in cls.conditions:
        given = Conditioning(condition, 3, 3)
        generator = subject.build(given.channels, 3)
        plain = _batch(generator)
        masks = torch.randint(3, (2, *plain.source.shape[2:]), generator=torch.Generator().manual_seed(0))
        data = replace(plain, source_mask=masks, instances=masks)
        task = TranslationTask(generator, given)
        optimizers = {name: OptimWrapper(each.optimizer) for name, each in task.optimizers().items()}
        if optimizers:
            losses = task.train_step(data, OptimWrapperDict(**optimizers))
            subject.expect(
                all(loss.isfinite() for loss in losses.values()),
                f"finite losses when it is given {condition}",
                losses,
                "Take the number of source channels from the constructor; label maps have one for each class.",
            )
        else:
            assert data.target is not None
            generator.fit(data.target)
        with torch.no_grad():
            made = translate(generator.eval(), given.batch(data).source, generator.directions[0])
        wanted = (2, 3, *masks.shape[1:])
        subject.expect(
            tuple(made.shape) == wanted,
            f"images of shape {wanted} when it is given {condition}",
            tuple(made.shape),
            "Give the last layer target_channels channels.",
        )


def generator_repeats_itself(subject: Subject) -> None:
    """Its training draws from batch.generator alone, so that a run is the same on any number of ranks."""
    results = []
    for seed in (1, 2):
        generator = _built(subject)
        torch.manual_seed(seed)
        results.append(_Training(generator).steps([0, 1, 2]))
    subject.expect(
        results[0] == results[1],
        "the same losses, whatever the state of torch's global generator",
        f"{results[0][-1]} and {results[1][-1]} in the third step",
        "Draw with generator=batch.generator(stream), noise from batch.noise(), and take nn.Dropout out of phases.",
    )


def generator_goes_on_where_it_was(subject: Subject) -> None:
    """Resumed from a checkpoint between two steps, it takes the steps that it would have taken."""
    first = _Training(_built(subject))
    first.steps([0, 1])
    state = first.state()
    wanted = first.steps([2, 3])
    again = _Training(_built(subject))
    again.load(state)
    found = again.steps([2, 3])
    subject.expect(
        wanted == found,
        "the same losses after a resume as without one",
        f"{found[-1]} in place of {wanted[-1]}",
        "Keep what a step leaves for the next one (pools, averages, counters) in buffers: register_buffer.",
    )


def generator_translates_any_size(subject: Subject) -> None:
    """It translates images of any size, in every direction, into [-1, 1], and alike each time; of any channels, too,
    unless its constructor refuses them by a ValueError.
    """
    for channels in (3, 1, 5):
        try:
            generator = _built(subject, channels).eval()
        except ValueError:
            if channels == 3:
                raise
            continue
        for size in ((32, 32), (33, 47), (8, 40)):
            image = torch.rand(1, channels, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
            for direction in generator.directions:
                with torch.inference_mode():
                    one, two = (translate(generator, image, direction) for _ in range(2))
                subject.expect(
                    one.shape == image.shape and one.abs().max() <= 1,
                    f"an image of shape {tuple(image.shape)} in [-1, 1] ({direction})",
                    f"shape {tuple(one.shape)}, up to {one.abs().max().item():.3g} in size",
                    "Set size_multiple to what height and width must be multiples of, and end with tanh or clamp.",
                )
                subject.expect(
                    torch.equal(one, two),
                    "the same translation each time without noise",
                    f"a difference of {(one - two).abs().max().item():.2g}",
                    "Draw from the argument noise alone; None is as good as seeds of zero.",
                )


def generator_is_saved_whole(subject: Subject) -> None:
    """Its state_dict holds all that its translations depend on, even without its `training_state`."""
    generator, other = _built(subject).eval(), _built(subject).eval()
    unknown = [name for name in generator.training_state if name not in dict(generator.named_modules())]
    subject.expect(not unknown, "submodules in training_state", f"{unknown}", "Name attributes that are modules.")
    _Training(generator).steps([0, 1, 2])
    load_lasting_state(other, copy.deepcopy(generator.state_dict()))
    image = _batch(generator).source[:1]
    with torch.inference_mode():
        one, two = (translate(each.eval(), image, each.directions[0]) for each in (generator, other))
    subject.expect(
        torch.equal(one, two),
        "the same translation once the state_dict is loaded into another one",
        f"a difference of {(one - two).abs().max().item():.2g}",
        "Keep tensors as parameters, or as buffers with register_buffer, and none of them in training_state.",
    )


def generator_runs_under_autocast(subject: Subject) -> None:
    """It computes in bfloat16 where autocast says so: losses and translations are finite."""
    generator = _built(subject)
    batch = _batch(generator)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        phases = list(generator.phases(batch))
        with torch.no_grad():
            made = translate(generator.eval(), batch.source, generator.directions[0])
    finite = made.isfinite().all() and all(loss.isfinite() for phase in phases for loss in phase.losses.values())
    subject.expect(
        finite,
        "finite losses and translations under torch.autocast in bfloat16",
        "some that are not",
        "Compute what overflows in float32: `x.float()`.",
    )


CHECKS = (
    generator_optimizes_every_parameter_once,
    generator_schedules_begin_at_one,
    generator_phases_keep_the_contract,
    generator_keeps_things_where_they_are,
    generator_moves_every_weight,
    generator_learns_from_all_it_takes,
    generator_repeats_itself,
    generator_goes_on_where_it_was,
    generator_translates_any_size,
    generator_is_saved_whole,
    generator_runs_under_autocast,
)
