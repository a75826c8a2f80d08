"""A generator alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from torch import Tensor

from transeg.core.evaluation.translation_quality import TranslationItem
from transeg.core.inference.conditioning import Conditioning
from transeg.core.interfaces import Batch, Generator, Optimization, Phase
from transeg.core.models.forward import translate_during_training
from transeg.core.training.tasks.task import Task


class TranslationTask(Task):
    """Trains a generator; its own phases are the training step.

    Args:
        generator: the translator.
        given: what it is given of the source.
    """

    def __init__(self, generator: Generator, given: Conditioning) -> None:
        super().__init__()
        self.generator = generator
        self._given = given
        self._optimizers = generator.optimizers()

    def optimizers(self) -> dict[str, Optimization]:
        return self._optimizers

    def phases(self, batch: Batch) -> Iterator[Phase]:
        yield from self.generator.phases(self._given.batch(batch))

    def val_step(self, items: Sequence[TranslationItem]) -> list[Tensor]:
        """Translated images ``(C', h, w)`` in [-1, 1] for each item."""
        return self.validate(partial(translate_during_training, self.generator), [item.given for item in items])
