"""What a run is going to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from transeg.core.component_options import options
from transeg.core.evaluation.numbers import pluralise
from transeg.core.interfaces.strategies import BASELINE

if TYPE_CHECKING:
    from transeg.core.data.augmentation import Transform
    from transeg.core.experiment.schema import DataOptions, Experiment, TrainOptions
    from transeg.core.pipeline.launch import Prepared
    from transeg.core.pipeline.time_estimate import StageEstimate
    from transeg.core.registry import Registry
    from transeg.core.training.parts import Parts


COMPUTING = (
    "precision",
    "accumulation",
    "scales",
    "betas",
    "clip",
    "clip_value",
    "ema",
    "compile",
    "channels_last",
    "fused",
)
"""Options of a training that a plan tells where they are not as usual."""
NUMBERS = {2: "two", 3: "three", 4: "four"}


def show_loading(experiment: Experiment, console: Console) -> None:
    """What is imported now, which takes a few seconds."""
    data = experiment.data
    datasets = [choice.name for choice in (data.source, data.target, *data.test.values()) if choice is not None]
    networks = [choice.name for choice in (experiment.generator, experiment.segmenter) if choice is not None]
    names = ", ".join(dict.fromkeys(["PyTorch", *networks, *datasets]))
    console.print(f"[dim]Loading {escape(names)}[/]", highlight=False)


def show_plan(prepared: Prepared, registry: Registry, console: Console) -> None:
    """What a run is going to do."""
    from transeg.core.experiment.defaults import departures
    from transeg.core.training.parts import count_parameters
    from transeg.core.training.selection import describe_selection

    experiment, parts, built = prepared.experiment, prepared.parts, prepared.networks
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")

    def add(name: str, value: str) -> None:
        grid.add_row(name, escape(value))

    add(
        "strategy",
        experiment.strategy.name + (f", and a {experiment.baseline} baseline" if experiment.baseline != "none" else ""),
    )
    for name, choice, network in (
        ("generator", experiment.generator, built.generator),
        ("segmenter", experiment.segmenter, built.segmenter),
    ):
        if choice is not None and network is not None:
            add(name, f"{choice.name}, {count_parameters(network):,} parameters")
    if experiment.loss is not None:
        add("loss", experiment.loss.name)
    if experiment.distillation is not None:
        sizes = {teacher.name: count_parameters(teacher.network, frozen=True) for teacher in built.teachers}
        add("teachers", ", ".join(f"{name} ({count:,} parameters)" for name, count in sizes.items()))
        terms = experiment.distillation.terms.items()
        add("distillation", " + ".join(f"{term.weight:g}*{label}" for label, term in terms))
    for name, value in _images_of(prepared, registry):
        add(name, value)
    if built.segmenter is not None:
        selection = describe_selection(experiment, parts, registry)
        add("selection", selection + (f" ({_images(len(parts.val), experiment.data.val_limit)})" if parts.val else ""))
    for name, value in _training(prepared):
        add(name, value)
    networks = {"generator": built.generator, "segmenter": built.segmenter}
    defaults = {
        name: {option.name: option.default for option in options(type(network)).values()}
        for name, network in networks.items()
        if network is not None
    }
    changed = departures(experiment, defaults, registry)
    if changed:
        add("not as published", "; ".join(changed))
    add("run folder", str(prepared.folder.path))
    console.print(grid)


def describe_times(times: Sequence[StageEstimate] | None) -> str:
    """How long a run takes, in a sentence: about 9 minutes, and how many of them each stage."""
    from transeg.core.pipeline.time_estimate import STEPS

    if times is None:
        return "How long this takes cannot be said beforehand."
    total = sum(each.seconds for each in times)
    unit, size, digits = (
        ("hours", 3600, 1) if total >= 7200 else ("minutes", 60, 0) if total >= 120 else ("seconds", 1, 0)
    )
    stages = ", ".join(f"{each.title} {each.seconds / size:.{digits}f}" for each in times)
    said = f"About {total / size:.{digits}f} {unit}"
    return f"{said}: {stages} (from {STEPS} steps of each)." if len(times) > 1 else f"{said} (from {STEPS} steps)."


def _training(prepared: Prepared) -> Iterator[tuple[str, str]]:
    """A plan's lines about how it is trained."""
    experiment, data = prepared.experiment, prepared.experiment.data
    if experiment.generator is not None and experiment.segmenter is not None:
        split = _augmentation(experiment.augmentation.transforms or ())
        if split:
            yield "augmentation", split
    length = _length(prepared)
    if experiment.members:
        length += f", the segmenter's in each of {experiment.members} folds"
    yield (
        "training",
        f"{length}, batch {_batch(experiment)}, {_pixels(data, prepared.parts)}, "
        f"{experiment.device}, {data.workers} workers, seed {experiment.seed}{_computing(experiment.train)}",
    )


def _augmentation(transforms: Sequence[Transform]) -> str:
    """Which transforms come before a translation and which after it; '' where none comes after."""
    from transeg.core.data.augmentation import split_appearance

    geometry, appearance = (" ".join(each["name"] for each in part) for part in split_appearance(transforms))
    return f"{geometry or 'none'} before translation; {appearance} on what the segmenter sees" if appearance else ""


def _length(prepared: Prepared) -> str:
    """How many iterations the stages have, but for a baseline, which has as many as what it is compared with."""
    own = [each for each in prepared.stages if each.stage.name != BASELINE]
    lengths = {each.stage.name: each.experiment.train.iterations for each in own}
    if len(set(lengths.values())) > 1:
        return "iterations: " + ", ".join(f"{name} {length:,}" for name, length in lengths.items())
    stages = f" in each of {NUMBERS.get(len(own), len(own))} stages" if len(own) > 1 else ""
    return f"{prepared.experiment.train.iterations:,} iterations{stages}"


def _images_of(prepared: Prepared, registry: Registry) -> Iterator[tuple[str, str]]:
    """A plan's lines about images."""
    from transeg.core.builders.folder_shares import folder_shares
    from transeg.core.experiment.planned_stages import build_strategy

    experiment, parts = prepared.experiment, prepared.parts
    data = experiment.data
    counts = {f"test.{name}" if name in parts.tests else name: count for name, count in parts.images().items()}
    shares = folder_shares(data, registry, counts)
    if parts.source is not None:
        limit = data.source_limit
        inverted = ", dark and bright exchanged" if data.source is not None and data.source.invert else ""
        yield "source", f"{data.source}, {_images(len(parts.source), limit, shares.get('source'))}{inverted}"
    if parts.target is not None:
        limit = data.target_limit
        yield "target", f"{data.target}, {_images(len(parts.target), limit, shares.get('target'))}"
    share = f"{data.synthetic_share:.0%} of what the segmenter learns from"
    if parts.synthetic is not None:
        yield "synthetic", f"{data.synthetic}, {_images(len(parts.synthetic))}, {share}"
    images = 0 if parts.source is None else len(parts.source)
    synthesis = build_strategy(experiment.strategy, registry).synthesis(experiment, images)
    if synthesis:
        yield "synthesis", synthesis
    for label, dataset in parts.tests.items():
        yield "test", f"{label}: {data.test[label]}, {_images(len(dataset), share=shares.get(f'test.{label}'))}"
    for label, words in parts.transductive.items():
        yield "test", f"{label}: {words}"
    for label, found in prepared.class_shares.items():
        looked = f" (of {found.images} images)" if found.images < found.of else ""
        yield "classes", f"{label}: {', '.join(f'{name} {share:.1%}' for name, share in found.shares.items())}{looked}"


def _batch(experiment: Experiment) -> str:
    """Images of a forward pass, and where there are several."""
    each = f" in each of {experiment.devices} processes" if experiment.devices > 1 else ""
    return f"{experiment.train.batch_size}{each}"


def _pixels(data: DataOptions, parts: Parts) -> str:
    """What training sees of an image."""
    from transeg.core.builders.datasets import training_windows

    windows = None if parts.source is None else training_windows(data, parts.source, data.source_limit)
    by = data.tile_sampling if data.source is None else data.source.match or data.tile_sampling
    drawn = f" ({len(windows):,} windows on the source, by {by})" if windows else ""
    return f"{data.size}x{data.size} pixels{drawn}"


def _computing(train: TrainOptions) -> str:
    """How a training computes, where that is not as usual."""
    values = {name: getattr(train, name) for name in COMPUTING}
    usual = {name: type(train).model_fields[name].default for name in COMPUTING}
    return "".join(f", {name} {value}" for name, value in values.items() if value != usual[name])


def _images(count: int, limit: int = 0, share: tuple[int, str] | None = None) -> str:
    """How many there are, or how many of them count, and of how many in their folder, with who has the others."""
    if share is None:
        return f"{limit} of {count} images" if limit and limit < count else pluralise(count, "image")
    whole, others = share
    rest = f", the rest is {others}" if others and count < whole else ""
    limited = f", of which the first {limit} count" if limit and limit < count else ""
    return f"{count} of {pluralise(whole, 'image')}{rest}{limited}"
