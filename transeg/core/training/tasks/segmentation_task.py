"""A segmenter alone, on labelled images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from transeg.core.evaluation.evaluation_items import EvaluationItem
from transeg.core.interfaces import Batch, Optimization, Phase, Segmenter
from transeg.core.models.forward import segment, to_float32
from transeg.core.training.losses import LossSum
from transeg.core.training.tasks.scaling import scaled_batch
from transeg.core.training.tasks.target_learning import TargetLearning
from transeg.core.training.tasks.task import Task


class SegmentationTask(Task):
    """Trains a segmenter on labelled source images; where there are none, on the target's alone.

    Args:
        segmenter: the network.
        loss: what it minimises.
        optimization: of the network's and the loss's parameters.
        extra_terms: further modules ``forward(logits, image, batch) -> losses by name``, called after each forward
            pass on labelled images; their parameters belong to the optimization, too.
        on_target: how it learns from target images without labels, besides; None for not at all.

    Attributes:
        scales: multiples of a batch's size; there is a step at each of them in turn, and without any one as it is.
    """

    scales: Sequence[float] = ()

    def __init__(
        self,
        segmenter: Segmenter,
        loss: LossSum,
        optimization: Optimization,
        extra_terms: Iterable[nn.Module] = (),
        on_target: TargetLearning | None = None,
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.loss = loss
        self.extra_terms = nn.ModuleList(extra_terms)
        self.on_target = on_target
        if on_target is not None:
            self.decays = on_target.decays
        self._optimization = optimization

    def optimizers(self) -> dict[str, Optimization]:
        return {"segmenter": self._optimization}

    def phases(self, batch: Batch) -> Iterator[Phase]:
        for scale in self.scales or (1.0,):
            scaled = scaled_batch(batch, scale, self.segmenter.size_multiple)
            labelled = scaled.source_mask is not None
            losses = self.segmentation_losses(scaled.source, scaled) if labelled else {}
            losses = self.with_target(losses, scaled.source, scaled)
            yield Phase(("segmenter",), {_at_scale(name, scale): loss for name, loss in losses.items()})

    def segmentation_losses(self, image: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Every loss on labelled images by name, computed in float32.

        Args:
            image: what the segmenter sees, ``(N, C, H, W)``: the source image or its translation.
            batch: where it comes from.
        """
        assert batch.source_mask is not None
        heads = [to_float32(logits) for logits in segment(self.segmenter, image)]
        with torch.autocast(image.device.type, enabled=False):
            losses: dict[str, Tensor] = self.loss(heads, batch.source_mask)
            for term in self.extra_terms:
                losses |= term(heads[0], image, batch)
        return losses

    def with_target(self, losses: dict[str, Tensor], image: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The losses on labelled images together with those on target images, where it learns from these, too.

        Args:
            losses: by name.
            image: labelled images as the segmenter has seen them, ``(N, C, H, W)``; no gradient flows into them.
            batch: where they come from.
        """
        return losses if self.on_target is None else self.on_target.joined(losses, self, image.detach(), batch)

    def before_iteration(self) -> None:
        if self.on_target is not None:
            self.on_target.before_iteration(self)

    def val_step(self, items: Sequence[EvaluationItem]) -> list[Tensor]:
        """Logits ``(K, h, w)`` for each item."""
        forward = self.segment_target if self.view == "target" else self.segment_source
        return self.validate(forward, [item.image for item in items])

    def segment_source(self, image: Tensor, places: Tensor | None) -> Tensor:
        """Logits ``(N, K, H, W)`` of source images as the segmenter is trained to see them.

        Args:
            image: ``(N, C, H, W)`` in [-1, 1].
            places: of windows in their image; see :data:`transeg.core.inference.sliding_window.Forward`.
        """
        return segment(self.segmenter, image)[0]

    def segment_target(self, image: Tensor, places: Tensor | None) -> Tensor:
        """Logits ``(N, K, H, W)`` of target images."""
        return segment(self.segmenter, image)[0]


def _at_scale(name: str, scale: float) -> str:
    """What a loss is called at a scale: scalars tell the scales apart."""
    return name if scale == 1 else f"{name}_{scale:g}"
