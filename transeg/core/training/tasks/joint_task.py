"""A segmenter learns on what a generator translates, and the generator learns from it.

CUT-seg: Moreu, Arazo, McGuinness and O'Connor, "Joint one-sided synthetic unpaired image translation and segmentation
for colorectal cancer prevention", Expert Systems 2022, doi:10.1111/exsy.13137.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from torch import Tensor, nn

from transeg.core.inference.conditioning import Conditioning
from transeg.core.interfaces import Batch, Generator, Optimization, Phase, Segmenter
from transeg.core.models.forward import to_float32, translate_during_training
from transeg.core.training.appearance_changes import AppearanceChanges
from transeg.core.training.losses import LossSum
from transeg.core.training.tasks.segmentation_task import SegmentationTask
from transeg.core.training.tasks.target_learning import TargetLearning


class JointTask(SegmentationTask):
    """Trains generator and segmenter in one loop.

    In the phase that carries the translated images, the segmentation loss on them joins the generator's own losses.
    Its whole gradient reaches the segmenter; times the weight, it goes on into the generator. (The reference scales
    both, which leaves the segmenter's Adam steps as they are.)

    Where the generator makes images from label maps, the source's own images are real ones of the same labels: the
    segmenter learns from both in a fixed proportion, and real validation images select the checkpoint.

    Args:
        generator: translates the source.
        segmenter: learns on the translated source.
        loss: of the segmentation.
        optimization: of the segmenter's and the loss's parameters.
        weight: share of the segmentation gradient that reaches the generator, by progress in [0, 1).
        given: what the generator is given of the source.
        share: of the synthetic images in the segmentation loss, where the source's images are real ones.
        appearance: changes the images that the segmenter learns from, after their translation; None for nothing.
        extra_terms: as for :class:`SegmentationTask`.
        on_target: likewise.
    """

    def __init__(
        self,
        generator: Generator,
        segmenter: Segmenter,
        loss: LossSum,
        optimization: Optimization,
        weight: Callable[[float], float],
        given: Conditioning,
        share: float,
        appearance: AppearanceChanges | None = None,
        extra_terms: Iterable[nn.Module] = (),
        on_target: TargetLearning | None = None,
    ) -> None:
        super().__init__(segmenter, loss, optimization, extra_terms, on_target)
        self.generator = generator
        self._weight = weight
        self._given = given
        self._share = share
        self._appearance = appearance
        self._optimizers = {**generator.optimizers(), **super().optimizers()}

    def optimizers(self) -> dict[str, Optimization]:
        return self._optimizers

    def phases(self, batch: Batch) -> Iterator[Phase]:
        for phase in self.generator.phases(self._given.batch(batch)):
            if phase.fake is None:
                yield phase
            else:
                losses = {**phase.losses, **self._segmentation_losses(phase.fake, batch)}
                yield replace(phase, optimizers=(*phase.optimizers, "segmenter"), losses=losses)

    @property
    def translates_labels(self) -> bool:
        """Whether the generator makes images of label maps, else of the source's images."""
        return self._given.by_mask

    def weight(self) -> float:
        """Share of the segmentation gradient that reaches the generator now."""
        return self._weight(self.progress)

    def _segmentation_losses(self, fake: Tensor, batch: Batch) -> dict[str, Tensor]:
        seen = self._changed(_scale_gradient(to_float32(fake), self.weight()), batch)
        losses = self.segmentation_losses(seen, batch)
        if self._given.by_mask:
            on_real = self.segmentation_losses(self._changed(batch.source, batch), batch)
            losses = {name: self._share * loss + (1 - self._share) * on_real[name] for name, loss in losses.items()}
        return self.with_target(losses, seen, batch)

    def _changed(self, image: Tensor, batch: Batch) -> Tensor:
        return image if self._appearance is None else self._appearance(image, batch.positions)

    def segment_source(self, image: Tensor, places: Tensor | None) -> Tensor:
        if self._given.by_mask:
            return super().segment_source(image, places)
        return super().segment_source(translate_during_training(self.generator, image, places), places)


def _scale_gradient(x: Tensor, factor: float) -> Tensor:
    """The same values, with ``factor`` times the gradient, where they have one: a generator may have no parameters."""
    if factor == 0 or not x.requires_grad:
        return x.detach()
    scaled = x.view_as(x)
    scaled.register_hook(lambda gradient: factor * gradient)
    return scaled
