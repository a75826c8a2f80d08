"""Strategy `supervised`: a segmenter alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from transeg.core.evaluation import EvaluationItem
from transeg.core.forward import scaled, segment
from transeg.core.interfaces import Batch, Optimization, Phase, Segmenter
from transeg.core.losses import LossSum
from transeg.core.tasks.task import Task


class SegmentationTask(Task):
    """Trains a segmenter on labelled source images.

    Args:
        segmenter: the network.
        loss: what it minimises.
        optimization: of the network's and the loss's parameters.

    Attributes:
        validates_target: whether validation images are of the target domain, to be segmented as they are.
    """

    validates_target: bool = False

    def __init__(self, segmenter: Segmenter, loss: LossSum, optimization: Optimization) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.loss = loss
        self._optimization = optimization

    def optimizers(self) -> dict[str, Optimization]:
        return {"segmenter": self._optimization}

    def phases(self, batch: Batch) -> Iterator[Phase]:
        assert batch.source_mask is not None
        yield Phase(("segmenter",), self.loss(segment(self.segmenter, batch.source), batch.source_mask))

    def val_step(self, items: Sequence[EvaluationItem]) -> list[Tensor]:
        """Logits ``(K, h, w)`` on the CPU for each item; mmengine's validation loop calls it."""
        device = next(self.parameters()).device
        forward = self.segment_target if self.validates_target else self.segment_source
        images = torch.stack([scaled(item.image, device) for item in items])
        return list(forward(images).float().cpu())

    def segment_source(self, image: Tensor) -> Tensor:
        """Logits ``(N, K, H, W)`` of source images as the segmenter is trained to see them."""
        return segment(self.segmenter, image)[0]

    def segment_target(self, image: Tensor) -> Tensor:
        """Logits ``(N, K, H, W)`` of target images."""
        return segment(self.segmenter, image)[0]
