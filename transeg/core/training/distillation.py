"""Distillation: a student also learns what frozen teachers make of the same images.

Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015, arXiv:1503.02531.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from transeg.core.builders.construct import construct
from transeg.core.builders.networks import build_segmenter
from transeg.core.errors import UsageError, did_you_mean
from transeg.core.experiment.choices import TeacherChoice
from transeg.core.experiment.schema import DistillationOptions, Experiment
from transeg.core.inference.trained_model import TrainedModel
from transeg.core.interfaces import Batch, Dataset, DistillationLoss, Segmenter
from transeg.core.models.forward import segment, to_float32
from transeg.core.models.layer_outputs import LayerOutputs
from transeg.core.registry import Registry
from transeg.core.runs.run_folder import RunFolder

LOGITS = "logits"
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Teacher:
    """A frozen segmenter.

    It is not a module: what holds it does not save it, train it or count its parameters.

    Args:
        name: for messages.
        network: the segmenter; it stays in eval mode.
        channels: of the images that it takes.
        classes: that it tells apart, background included.
        precision: in which it computes.
    """

    def __init__(self, name: str, network: Segmenter, channels: int, classes: int, precision: torch.dtype) -> None:
        self.name = name
        self.channels = channels
        self.classes = classes
        self.network = network.eval().requires_grad_(False).to(precision)
        self._precision = precision

    def has(self, layer: str) -> bool:
        """Whether a layer may be named."""
        return layer == LOGITS or layer in dict(self.network.named_modules())

    @torch.no_grad()
    def outputs(self, image: Tensor, layers: Collection[str], outputs: int) -> dict[str, Tensor]:
        """What it makes of images, in float32.

        Args:
            image: ``(N, C, H, W)`` in [-1, 1].
            layers: names besides the logits.
            outputs: channels in which the logits are wanted.
        """
        taps = LayerOutputs(self.network, [layer for layer in layers if layer != LOGITS], f"The teacher {self.name}")
        try:
            logits = segment(self.network, image.to(self._precision))[0]
            kept = {name: output.float() for name, output in taps.outputs.items()}
        finally:
            taps.remove()
        return {LOGITS: to_channels(logits.float(), outputs), **kept}


@dataclass(frozen=True)
class Term:
    """A loss between the student and one teacher."""

    label: str
    weight: float
    loss: DistillationLoss


class Distillation(nn.Module):
    """What the teachers add to the student's loss.

    With several teachers, each term is the mean over those that have its layer: for soft targets, that is learning
    from the mean of their predictions.

    Args:
        student: the segmenter that learns.
        teachers: the frozen ones, each with the terms that compare the student with it.
        sees: which images teachers see; see :class:`transeg.core.experiment.schema.DistillationOptions`.
    """

    def __init__(self, student: Segmenter, teachers: Sequence[tuple[Teacher, Sequence[Term]]], sees: str) -> None:
        super().__init__()
        self._teachers = teachers
        self._sees = sees
        self.losses = nn.ModuleList(term.loss for _, terms in teachers for term in terms)
        layers = {term.loss.layer for _, terms in teachers for term in terms} - {LOGITS}
        self._taps = LayerOutputs(student, sorted(layers), "The student")

    def to_device(self, device: torch.device) -> None:
        """Move the teachers, which ``to`` does not see."""
        for teacher, _ in self._teachers:
            teacher.network.to(device)

    def close(self) -> None:
        """Leave the student as it was, and the teachers where the next training finds them: on the CPU."""
        self._taps.remove()
        self.to_device(torch.device("cpu"))

    def forward(self, logits: Tensor, image: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms by label.

        Args:
            logits: the student's, ``(N, K, H, W)``, straight from its forward pass on ``image``.
            image: what the student sees.
            batch: where the image comes from.
        """
        student = self._student(logits)
        seen = {"source": batch.source, "paired": batch.target, "student": image}[self._sees]
        assert seen is not None
        totals: dict[str, Tensor] = {}
        for teacher, terms in self._teachers:
            theirs = teacher.outputs(seen, {term.loss.teacher_layer for term in terms}, logits.shape[1])
            for term in terms:
                value = term.weight * term.loss(student, theirs)
                totals[term.label] = totals[term.label] + value if term.label in totals else value
        return totals

    @torch.no_grad()
    def prepare(self, student: Segmenter, student_image: Tensor, teacher_image: Tensor) -> None:
        """Let the losses see the shapes of what they compare, before their parameters go to an optimizer.

        Raises:
            UsageError: two outputs cannot be compared.
        """
        training = student.training
        outputs = self._student(segment(student.eval(), student_image)[0])
        for teacher, terms in self._teachers:
            layers = {term.loss.teacher_layer for term in terms}
            theirs = teacher.outputs(teacher_image, layers, outputs[LOGITS].shape[1])
            for term in terms:
                construct(partial(term.loss.prepare, outputs, theirs), f"distillation.terms.{term.label}")
        student.train(training)

    def _student(self, logits: Tensor) -> dict[str, Tensor]:
        return {LOGITS: logits, **{name: to_float32(output) for name, output in self._taps.outputs.items()}}


def to_channels(logits: Tensor, outputs: int) -> Tensor:
    """Logits of two classes in one channel or in two, whichever is wanted; the probabilities stay the same."""
    if logits.shape[1] == outputs:
        return logits
    if outputs == 1:
        return logits[:, 1:] - logits[:, :1]
    return torch.cat((-logits, logits), 1) / 2


def build_teachers(experiment: Experiment, source: Dataset, channels: int, registry: Registry) -> tuple[Teacher, ...]:
    """The frozen teachers of an experiment.

    Args:
        experiment: names them.
        source: the images that the student learns on, or that are translated for it.
        channels: of the images that the student sees.
        registry: where segmenters come from.

    Raises:
        UsageError: one of them is not there, or does not fit the images and classes.
    """
    if experiment.distillation is None:
        return ()
    options = experiment.distillation
    seen = {"source": source.channels, "student": channels, "paired": _paired_channels(source, options.sees)}
    teachers = tuple(
        _teacher(label, choice, seen[options.sees], len(source.classes), options, registry)
        for label, choice in options.teachers.items()
    )
    for teacher in teachers:
        if teacher.classes != len(source.classes):
            raise UsageError(
                f"The teacher {teacher.name} tells {teacher.classes} classes apart, but the source has "
                f"{len(source.classes)}."
            )
        if teacher.channels != seen[options.sees]:
            raise UsageError(
                f"The teacher {teacher.name} takes images of {teacher.channels} channels, but those that it is to see "
                f"have {seen[options.sees]}; distillation.sees says which."
            )
    return teachers


def _paired_channels(source: Dataset, sees: str) -> int:
    if sees != "paired":
        return 0
    target = source[0].target
    if target is None:
        raise UsageError("distillation.sees=paired needs a paired source dataset.")
    return int(target.shape[2])


def _teacher(
    label: str, choice: TeacherChoice, channels: int, classes: int, options: DistillationOptions, registry: Registry
) -> Teacher:
    precision = PRECISIONS[options.precision]
    if choice.run is not None:
        trained = TrainedModel.load(RunFolder(choice.run), registry, "cpu", layers=True)
        if trained.segmenter is None:
            raise UsageError(f"The teacher {choice.run} trained a generator alone, so it cannot teach a segmenter.")
        known = trained.domains
        return Teacher(label, trained.segmenter, known.target_channels, len(known.class_names), precision)
    network = build_segmenter(choice, channels, classes, 0, registry, whole=True)
    return Teacher(label, network, channels, classes, precision)


def build_distillation(
    experiment: Experiment, student: Segmenter, teachers: Sequence[Teacher], channels: int, registry: Registry
) -> Distillation | None:
    """The distillation of a student, ready for its optimizer.

    Raises:
        UsageError: a layer is not there, or two outputs cannot be compared.
    """
    options = experiment.distillation
    if options is None:
        return None
    terms: dict[str, list[Term]] = {teacher.name: [] for teacher in teachers}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(experiment.seed)  # the CPU's alone, which is put back afterwards
        for label, choice in options.terms.items():
            cls = registry.class_of("loss", choice.name)
            where = f"distillation.terms.{label}"
            make = partial(construct, partial(cls, **choice.options), where)
            able = _able(cast("DistillationLoss", make()), teachers, where)
            for teacher in able:
                terms[teacher.name].append(Term(label, choice.weight / len(able), make()))
        distillation = Distillation(student, [(t, terms[t.name]) for t in teachers if terms[t.name]], options.sees)
        size = experiment.data.size
        seen = teachers[0].channels
        distillation.prepare(student, torch.zeros(2, channels, size, size), torch.zeros(2, seen, size, size))
    return distillation


def _able(loss: DistillationLoss, teachers: Sequence[Teacher], where: str) -> list[Teacher]:
    able = [teacher for teacher in teachers if teacher.has(loss.teacher_layer)]
    if not able:
        names = [name for teacher in teachers for name, _ in teacher.network.named_modules() if name]
        near = did_you_mean(loss.teacher_layer, names)
        raise UsageError(f"{where}: no teacher has a layer {loss.teacher_layer!r}.{near}")
    return able
